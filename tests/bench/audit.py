"""What an audit and a sweep of a million recordings cost: python -m tests.bench.audit.

Both sides are made up by an HTTP server in this process; the command line runs in a process of its own, as an operator
would run it, whose memory and CPU time the kernel counts. The audit writes all three reports.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.local.servers import RedisServer
from tests.bench.two_sides import ACCOUNT_SID, BUCKET, TwoSides, serving

ARCHIVER = str(Path(sys.prefix) / "bin" / "archiver")
MIB = 1024 * 1024
MAX_SWEEP_REQUESTS, MAX_AUDIT_REQUESTS, MAX_AUDIT_MIB, MAX_AUDIT_CPU_S = 20, 5_500, 150, 60


@dataclass(frozen=True)
class Cost:
    """What a command took. `peak_bytes` is the most memory that was resident; CPU is user and system time."""

    code: int
    peak_bytes: int
    cpu_s: float
    wall_s: float
    requests: Counter[str]

    def __str__(self) -> str:
        asked = ", ".join(f"{count:,} {side}" for side, count in sorted(self.requests.items()))
        return (
            f"exit {self.code}; requests {self.requests.total():,} ({asked}); "
            f"peak {self.peak_bytes / MIB:.0f} MiB; CPU {self.cpu_s:.1f} s; {self.wall_s:.1f} s"
        )


def measure(sides: TwoSides, environ: dict[str, str], directory: str, *arguments: str) -> Cost:
    """Run a command to its end and return what it took."""
    sides.requests.clear()
    started = time.monotonic()
    output = Path(directory) / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen([ARCHIVER, *arguments], env=environ, cwd=directory, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    print("  " + "\n  ".join(output.read_text().rstrip().splitlines()[-8:]))
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(
        code=process.returncode,
        peak_bytes=usage.ru_maxrss * unit,
        cpu_s=usage.ru_utime + usage.ru_stime,
        wall_s=time.monotonic() - started,
        requests=Counter(sides.requests),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the numbers beside their bounds; return 1 when one of them is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=40)
    parser.add_argument("--outstanding", type=int, default=1000)
    options = parser.parse_args(arguments)
    sides = TwoSides(options.recordings, options.days, options.outstanding)
    with serving(sides) as origin, RedisServer() as redis_server, TemporaryDirectory() as directory:
        environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": directory,
            "TWILIO_ACCOUNT_SID": ACCOUNT_SID,
            "TWILIO_AUTH_TOKEN": "token-of-the-bench",
            "TWILIO_API_BASE_URL": origin,
            "REDIS_URL": redis_server.url(),
            "ARCHIVE_BUCKET": BUCKET,
            "SWEEP_LOOKBACK": f"{options.days + 1}d",
            "AWS_ENDPOINT_URL_S3": origin,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
        }
        print(f"{options.recordings:,} recordings over {options.days} days, {options.outstanding:,} outstanding")
        print("the sweep of the day (everything that Twilio lists):")
        daily = measure(sides, environ, directory, "sweep")
        print(f"  {daily}")
        redis_server.flush()
        with redis_server.client() as client:  # the day's sweep was made; what it enqueued is not in the way
            client.set("recording-archiver:chore:sweep-everything", "done")
        print("a frequent sweep, with deletion on:")
        sweep = measure(sides, environ, directory, "sweep")
        print(f"  {sweep}")
        print("a full audit:")
        reports = [f"--report=audit.{kind}" for kind in ("csv", "json", "html")]
        audit = measure(
            sides, environ, directory, "audit", f"--since={sides.since}", f"--until={sides.until}", *reports
        )
        print(f"  {audit}")
        print(
            "  "
            + ", ".join(f"{path.name} {path.stat().st_size / MIB:.1f} MiB" for path in Path(directory).glob("a*.*"))
        )
    return _verdict(sweep, audit)


def _verdict(sweep: Cost, audit: Cost) -> int:
    bounds = (
        ("sweep: requests to Twilio", sweep.requests["Twilio"], MAX_SWEEP_REQUESTS),
        ("sweep: listings of S3", sweep.requests["S3 listings"], 1),
        ("audit: requests", audit.requests.total(), MAX_AUDIT_REQUESTS),
        ("audit: peak memory in MiB", audit.peak_bytes / MIB, MAX_AUDIT_MIB),
        ("audit: CPU in s", audit.cpu_s, MAX_AUDIT_CPU_S),
    )
    for name, value, bound in bounds:
        print(f"{'ok  ' if value < bound else 'NOT '} {name}: {value:,.0f} (under {bound:,})")
    return 0 if all(value < bound for _, value, bound in bounds) and audit.code == 4 else 1


if __name__ == "__main__":
    sys.exit(main())
