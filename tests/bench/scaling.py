"""Measure what one recording costs in each process, for deploy/scaling: python -m tests.bench.scaling.

Writes deploy/scaling.json. A real worker archives and deletes between two sides that answer at once, so that what is
counted is its own CPU time; requests are counted at the two sides, Redis commands and memory by Redis itself.
"""

import argparse
import json
import os
import platform
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from deploy.local.servers import ROOT, RedisServer
from tests.bench import costs
from tests.bench import load as senders
from tests.bench.callback import ours, signed
from tests.bench.recordings import archive, working
from tests.bench.sides import Event, Sides, new_sid

RESULT: Final = ROOT / "deploy" / "scaling.json"
_SHORT_BYTES: Final = 30 * 32_000 + 44
_PART_BYTES: Final = 200 * 32_000 + 44  # still one part, the most that a recording holds in memory
_LONG_BYTES: Final = 3600 * 32_000 + 44  # what a megabyte takes is seen in long ones
_LONG_SHARE: Final = 30  # one for so many short ones
_MB: Final = 1_000_000


def main() -> int:
    """Measure everything and write it down."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=300, metavar="N", help="in a batch (default: %(default)s)")
    count = parser.parse_args().recordings
    print("about two minutes; run it on a machine that does nothing else", file=sys.stderr)
    measured = {
        "command": f"python -m tests.bench.scaling --recordings {count}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}",
        "load_average": round(os.getloadavg()[0], 1),
        **_of_the_worker(count),
        **_of_the_web_process(),
        **_of_the_queue(),
    }
    RESULT.write_text(json.dumps(measured, indent=2) + "\n")
    print(RESULT.read_text(), end="")
    return 0


def _of_the_worker(count: int) -> dict[str, Any]:
    with Sides() as sides, working(sides, ("worker", "beat"), CELERY_CONCURRENCY="8") as stack:
        archive(stack, sides, 20)  # connections are made, code is loaded
        beat_bytes = costs.pss_bytes(stack.beat.pid)
        with stack.redis.client() as client:
            client.config_resetstat()
            short = archive(stack, sides, count, _SHORT_BYTES)
            commands = sum(each["calls"] for each in client.info("commandstats").values())
        requests = Counter(_kind(event) for life in short.lives for event in life.events)
        many = max(4, count // _LONG_SHARE)
        long = archive(stack, sides, many, _LONG_BYTES)
        bytes_8 = costs.pss_bytes(stack.worker.pid)
    with Sides(100.0) as sides, working(sides, CELERY_CONCURRENCY="32") as stack:
        archive(stack, sides, 128, _PART_BYTES)
        bytes_32 = costs.pss_bytes(stack.worker.pid)
    short_ms, long_ms = 1000 * short.cpu_s / count, 1000 * long.cpu_s / many
    per_mb = (long_ms - short_ms) / ((_LONG_BYTES - _SHORT_BYTES) / _MB)
    return {
        "worker_cpu_ms": round(short_ms - per_mb * _SHORT_BYTES / _MB, 1),
        "worker_cpu_ms_per_mb": round(per_mb, 2),
        "worker_mib_at_8": round(bytes_8 / costs.MIB),
        "worker_mib_at_32": round(bytes_32 / costs.MIB),
        "beat_mib": round(beat_bytes / costs.MIB),
        "requests": {kind: round(each / count, 2) for kind, each in sorted(requests.items())},
        "redis_commands": round(commands / count, 1),
    }


def _kind(event: Event) -> str:
    """Name a request as prices and limits do."""
    if event.side == "S3" and event.method == "GET" and "list-type" in event.path:
        return "S3 LIST"
    return f"{event.side} {event.method}"


def _of_the_web_process() -> dict[str, Any]:
    requests = [signed(new_sid(_SHORT_BYTES)) for _ in range(200)]
    with RedisServer() as redis_server, ours(redis_server) as stack:
        senders.as_fast_as_answered(stack.port, requests, 0.5)
        before = costs.cpu_s(stack.web.pid)
        count = senders.as_fast_as_answered(stack.port, requests, 4.0)
        spent = costs.cpu_s(stack.web.pid) - before
        return {
            "web_cpu_ms": round(1000 * spent / count, 2),
            "web_mib": round(costs.pss_bytes(stack.web.pid) / costs.MIB),
        }


def _of_the_queue() -> dict[str, Any]:
    """Measure what a waiting message takes: one with a callback, as the endpoint makes it."""
    with RedisServer() as redis_server, ours(redis_server) as stack, redis_server.client() as client:
        before = int(client.info("memory")["used_memory"])
        senders.as_fast_as_answered(stack.port, [signed(new_sid(_SHORT_BYTES)) for _ in range(200)], 2.0)
        waiting = int(client.llen("recording-archiver:archive"))
        used = int(client.info("memory")["used_memory"]) - before
        return {"redis_bytes_per_message": round(used / waiting)}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
