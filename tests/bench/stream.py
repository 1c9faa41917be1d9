"""What it costs to move a recording: CPU seconds and wall time for a GB, beside raw sockets and what others do.

Each program moves 1 MiB and 1 GB: the difference is the cost of a GB without the start of the program. Source and sink
are no bottleneck, and none of the programs hashes a body to sign it, as with S3 itself over https.
"""

import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence

from deploy.local.servers import ROOT
from tests.bench import costs
from tests.bench.costs import MIB, Cost
from tests.bench.environment import aws_command
from tests.bench.rows import Row, alternating
from tests.bench.sides import ACCOUNT, Sides, new_sid

GB = 1_000_000_000
BUCKET = "bench-archive"
RIVALS = ROOT / "tests" / "bench" / "rivals"
LIMIT, PIPE = "raw sockets and SHA-256", "curl | aws s3 cp -"


def run(rounds: int) -> Iterator[Row]:
    """Yield the costs of a GB beside each rival's."""
    with Sides() as sides:
        programs = _programs(sides)
        spent: dict[str, list[Cost]] = {name: [] for name in programs}

        def measure(name: str) -> Callable[[], float]:
            def once() -> float:
                small, large = programs[name](MIB), programs[name](GB)
                cost = Cost(large.cpu_s - small.cpu_s, large.wall_s - small.wall_s, large.peak_bytes)
                spent[name].append(cost)
                return cost.cpu_s

            return once

        cpu = alternating({name: measure(name) for name in programs}, rounds)
    middle = len(cpu[LIMIT]) // 2
    for rival in programs:
        if rival == "ours":
            continue
        theirs = sorted(cpu[rival])[middle]
        yield _judged("CPU", "s/GB", cpu["ours"], rival, theirs, {LIMIT: 2.2, PIPE: 0.45}.get(rival))
    wall = {name: [cost.wall_s for cost in each] for name, each in spent.items()}
    for rival in (LIMIT, PIPE):
        theirs = sorted(wall[rival])[middle]
        yield _judged("wall time", "s/GB", wall["ours"], rival, theirs, {LIMIT: 1.5}.get(rival))


def _judged(what: str, unit: str, ours: Sequence[float], rival: str, theirs: float, most: float | None) -> Row:
    row = Row.of("stream", what, unit, ours, other=rival, theirs=theirs)
    if most is None or row.ratio is None:
        return row
    return Row.of(
        "stream", what, unit, ours, other=rival, theirs=theirs, bound=f"<= {most:g} x", kept=row.ratio <= most
    )


def _programs(sides: Sides) -> dict[str, Callable[[int], Cost]]:
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(ROOT),
        "HOME": str(sides.directory),
        "TWILIO_ACCOUNT_SID": ACCOUNT.sid,
        "TWILIO_AUTH_TOKEN": ACCOUNT.auth_tokens[0],
        "TWILIO_API_BASE_URL": sides.url,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "ARCHIVE_BUCKET": BUCKET,
        **sides.environment(),
    }
    shell = shutil.which("bash") or "sh"

    def python(name: str, *arguments: str) -> list[str]:
        return [sys.executable, str(RIVALS / f"{name}.py"), *arguments]

    def path(size: int) -> str:
        return f"/2010-04-01/Accounts/{ACCOUNT.sid}/Recordings/{new_sid(size)}.wav"

    def key() -> str:
        return f"rival/{secrets.token_hex(8)}.wav"

    def raw(size: int) -> list[str]:
        sink = f"/{BUCKET}/{key()}"
        return python("raw_sockets", "127.0.0.1", str(sides.port), path(size), sink, str(size))

    def piped(size: int) -> list[str]:
        upload = f"{aws_command()} s3 cp - s3://{BUCKET}/{key()} --expected-size {size} --only-show-errors"
        return [shell, "-c", f"set -o pipefail; curl -sf {sides.url}{path(size)} | {upload}"]

    commands: dict[str, Callable[[int], list[str]]] = {
        "ours": lambda size: python("ours", ACCOUNT.sid, new_sid(size)),
        LIMIT: raw,
        "boto3's upload_fileobj": lambda size: python("upload_fileobj", sides.url + path(size), BUCKET, key()),
        PIPE: piped,
        "read all, then put": lambda size: python("read_all", sides.url + path(size), BUCKET, key()),
    }
    return {name: lambda size, make=make: costs.run(make(size), environ) for name, make in commands.items()}  # type: ignore[misc]
