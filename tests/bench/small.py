"""What many short calls cost: recordings a second and CPU time of 30 s calls, at several concurrencies.

The ideal is a worker whose threads do nothing but wait for the requests that each recording needs.
"""

import statistics
from collections.abc import Iterator

from tests.bench.recordings import archive, working
from tests.bench.rows import Row
from tests.bench.sides import Sides

CONCURRENCIES = (1, 2, 4, 8, 16, 32, 64)
LATENCIES_MS = (0.0, 100.0)
MAX_S3, MAX_PUTS, MAX_TWILIO = 14, 6, 6
MAX_CPU_MS, LEAST_OF_IDEAL, JUDGED_UP_TO = 30.0, 0.8, 32


def run(rounds: int) -> Iterator[Row]:
    """Yield what is asked of both sides for a recording, then the rates and the CPU time."""
    yield from _requests()
    for latency_ms in LATENCIES_MS:
        with Sides(latency_ms) as sides:
            for concurrency in CONCURRENCIES:
                yield from _at(sides, concurrency, rounds)


def _requests() -> Iterator[Row]:
    with Sides() as sides, working(sides) as stack:
        archive(stack, sides, 1)
        (life,) = archive(stack, sides, 1).lives
    for what, count, most in (
        ("requests to S3", life.count("S3"), MAX_S3),
        ("of them PUTs", life.puts(), MAX_PUTS),
        ("requests to Twilio", life.count("Twilio"), MAX_TWILIO),
    ):
        yield Row.of("small", what, "each", [count], bound=f"<= {most}", kept=count <= most)


def _at(sides: Sides, concurrency: int, rounds: int) -> Iterator[Row]:
    with working(sides, CELERY_CONCURRENCY=str(concurrency)) as stack:
        archive(stack, sides, 2 * concurrency)  # connections are made, code is loaded
        count = max(4, 4 * concurrency) if sides.latency_ms else 200
        batches = [archive(stack, sides, count) for _ in range(rounds)]
    rates = [count / batch.wall_s for batch in batches]
    needed = statistics.mean(len(life.events) for batch in batches for life in batch.lives)
    where = f"{sides.latency_ms:.0f} ms, {concurrency} at once"
    if sides.latency_ms:
        ideal = concurrency / (needed * sides.latency_ms / 1000)
        judged = concurrency <= JUDGED_UP_TO
        kept = statistics.median(rates) / ideal >= LEAST_OF_IDEAL if judged else None
        bound = f">= {LEAST_OF_IDEAL} x" if judged else ""
        yield Row.of("small", f"rate at {where}", "/s", rates, other="the ideal", theirs=ideal, bound=bound, kept=kept)
    else:
        yield Row.of("small", f"rate at {where}", "/s", rates)
    cpu_ms = [1000 * batch.cpu_s / count for batch in batches]
    kept = statistics.median(cpu_ms) <= MAX_CPU_MS
    yield Row.of("small", f"CPU at {where}", "ms each", cpu_ms, bound=f"<= {MAX_CPU_MS:.0f} ms", kept=kept)
