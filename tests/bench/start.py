"""How long the processes take to start, and the memory that they then have: `/healthz` answers, the worker consumes."""

import statistics
import time
from collections.abc import Iterator

from deploy.local.servers import RedisServer
from deploy.local.stack import Stack
from tests.bench import costs
from tests.bench.costs import MIB
from tests.bench.rows import Row
from tests.bench.sides import Sides

BOUNDS_S = {"web": 1.5, "worker": 3.0}
DYNO_MIB, SPARE = 512, 0.3


def run(rounds: int) -> Iterator[Row]:
    """Yield time and memory of each process at its default concurrency."""
    for name, bound_s in BOUNDS_S.items():
        seconds, memory = [], []
        for _ in range(rounds):
            with Sides() as sides, RedisServer() as redis_server:
                stack = Stack(
                    (name,),
                    redis_server=redis_server,
                    s3_server=sides,  # type: ignore[arg-type]
                    simulator=sides,  # type: ignore[arg-type]
                )
                started = time.monotonic()
                with stack:
                    seconds.append(time.monotonic() - started)
                    memory.append(costs.pss_bytes(stack.processes[name].pid) / MIB)
        kept = statistics.median(seconds) <= bound_s
        yield Row.of("start", f"{name} ready", "s", seconds, bound=f"<= {bound_s:g} s", kept=kept)
        most = DYNO_MIB * (1 - SPARE)
        yield Row.of(
            "start",
            f"{name}, PSS of the process tree",
            "MiB",
            memory,
            bound=f"<= {most:.0f} MiB",
            kept=statistics.median(memory) <= most,
        )
