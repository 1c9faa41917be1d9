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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from deploy.local.servers import RedisServer
from tests.bench.costs import MIB
from tests.bench.rows import Row
from tests.bench.two_sides import ACCOUNT_SID, BUCKET, TwoSides, serving

ARCHIVER = str(Path(sys.prefix) / "bin" / "archiver")
SIZES, DAYS = (1_000, 10_000, 100_000, 1_000_000), 40
MAX_SWEEP_REQUESTS, MAX_AUDIT_REQUESTS, MAX_AUDIT_MIB, MAX_AUDIT_CPU_S = 20, 5_500, 150, 60


@dataclass(frozen=True)
class Cost:
    """What a command took, and the end of what it said.

    `peak_bytes` is the most memory that was resident; CPU is user and system time.
    """

    code: int
    peak_bytes: int
    cpu_s: float
    wall_s: float
    requests: Counter[str]
    output: str

    def __str__(self) -> str:
        asked = ", ".join(f"{count:,} {side}" for side, count in sorted(self.requests.items()))
        return (
            f"{self.output}\n  exit {self.code}; requests {self.requests.total():,} ({asked}); "
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
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(
        code=process.returncode,
        peak_bytes=usage.ru_maxrss * unit,
        cpu_s=usage.ru_utime + usage.ru_stime,
        wall_s=time.monotonic() - started,
        requests=Counter(sides.requests),
        output="\n  ".join(output.read_text().rstrip().splitlines()[-8:]),
    )


def run(_rounds: int) -> Iterator[Row]:
    """Yield what a sweep and an audit cost for growing numbers of recordings. Once: the largest takes minutes."""
    cpu_ms: list[float] = []
    for recordings in SIZES:
        sides = TwoSides(recordings, DAYS, min(1000, recordings // 2))
        with _world(sides) as (environ, directory):
            sweep, audit = _sweep(sides, environ, directory), _audit(sides, environ, directory)
        what = f"of {recordings:,}"
        asked = sweep.requests["Twilio"] + 1000 * sweep.requests["S3 listings"]  # a listing is never in order
        bound, kept = f"< {MAX_SWEEP_REQUESTS}", asked < MAX_SWEEP_REQUESTS
        yield Row.of("ledgers", f"sweep {what}, requests to Twilio", "each", [asked], bound=bound, kept=kept)
        yield Row.of("ledgers", f"sweep {what}, CPU", "s", [sweep.cpu_s])
        full = recordings == SIZES[-1]
        for name, unit, value, most in (
            ("requests", "each", audit.requests.total(), MAX_AUDIT_REQUESTS),
            ("CPU", "s", audit.cpu_s, MAX_AUDIT_CPU_S),
            ("peak memory", "MiB", audit.peak_bytes / MIB, MAX_AUDIT_MIB),
        ):
            judged = (f"< {most:,}", value < most) if full else ("", None)
            yield Row.of("ledgers", f"audit {what}, {name}", unit, [value], bound=judged[0], kept=judged[1])
        cpu_ms.append(1000 * audit.cpu_s / recordings)
    yield Row.of(
        "ledgers",
        f"audit, CPU for each of {SIZES[-1]:,}",
        "ms",
        [cpu_ms[-1]],
        other=f"for each of {SIZES[-2]:,}",
        theirs=cpu_ms[-2],
        bound="<= 1.1 x",
        kept=cpu_ms[-1] <= 1.1 * cpu_ms[-2],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the numbers beside their bounds; return 1 when one of them is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=40)
    parser.add_argument("--outstanding", type=int, default=1000)
    options = parser.parse_args(arguments)
    sides = TwoSides(options.recordings, options.days, options.outstanding)
    with _world(sides) as (environ, directory):
        print(f"{options.recordings:,} recordings over {options.days} days, {options.outstanding:,} outstanding")
        print("the sweep of the day (everything that Twilio lists):")
        daily = measure(sides, environ, directory, "sweep")
        print(f"  {daily}")
        print("a frequent sweep, with deletion on:")
        sweep = _sweep(sides, environ, directory)
        print(f"  {sweep}")
        print("a full audit:")
        audit = _audit(sides, environ, directory)
        print(f"  {audit}")
        print(
            "  "
            + ", ".join(f"{path.name} {path.stat().st_size / MIB:.1f} MiB" for path in Path(directory).glob("a*.*"))
        )
    return _verdict(sweep, audit)


@contextmanager
def _world(sides: TwoSides) -> Iterator[tuple[dict[str, str], str]]:
    """Serve both sides and Redis; yield the environment and an empty directory for a command."""
    with serving(sides) as origin, RedisServer() as redis_server, TemporaryDirectory() as directory:
        yield (
            {
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": directory,
                "TWILIO_ACCOUNT_SID": ACCOUNT_SID,
                "TWILIO_AUTH_TOKEN": "token-of-the-bench",
                "TWILIO_API_BASE_URL": origin,
                "REDIS_URL": redis_server.url(),
                "ARCHIVE_BUCKET": BUCKET,
                "SWEEP_LOOKBACK": f"{(sides.until - sides.since).days + 2}d",
                "AWS_ENDPOINT_URL_S3": origin,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "bench",
                "AWS_SECRET_ACCESS_KEY": "bench",
            },
            directory,
        )


def _sweep(sides: TwoSides, environ: dict[str, str], directory: str) -> Cost:
    """Measure a frequent sweep: the day's was made, and what it enqueued is not in the way."""
    with redis.Redis.from_url(environ["REDIS_URL"]) as client:
        client.flushall()
        client.set(f"recording-archiver:chore:sweep-everything:{ACCOUNT_SID}", "done", ex=3600)
    return measure(sides, environ, directory, "sweep")


def _audit(sides: TwoSides, environ: dict[str, str], directory: str) -> Cost:
    """Measure an audit of everything that writes all three reports."""
    reports = [f"--report=audit.{kind}" for kind in ("csv", "json", "html")]
    return measure(sides, environ, directory, "audit", f"--since={sides.since}", f"--until={sides.until}", *reports)


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
