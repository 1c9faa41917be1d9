"""How long a recording takes from its callback to the archive and to its deletion, beyond the round trips it needs.

Calls end at a steady rate; every request to either side takes 25 ms, and what a recording takes longer than its
requests is ours: the endpoint, the queue, the worker.
"""

import secrets
import statistics
import time
from collections.abc import Iterator

from deploy.local.processes import wait_until
from deploy.local.stack import Stack
from tests.bench.callback import signed
from tests.bench.load import exchange_once
from tests.bench.recordings import CALL_BYTES, Life, lives_of, working
from tests.bench.rows import Row
from tests.bench.sides import Sides, new_sid
from tests.integration.callback_tools import PUBLIC_URL

PER_SECOND, SECONDS, LATENCY_MS = 5.0, 20.0, 25.0
BOUNDS_MS = {50: 60.0, 99: 250.0}


def run(rounds: int) -> Iterator[Row]:
    """Yield what a recording takes beyond its round trips, until its receipt and until its DELETE."""
    archived: list[float] = []
    deleted: list[float] = []
    with Sides(LATENCY_MS) as sides, working(sides, ("web", "worker"), PUBLIC_URL=PUBLIC_URL) as stack:
        _play(stack, sides, 2.0)
        for _ in range(rounds):
            called, lives = _play(stack, sides, SECONDS)
            for sid, life in lives.items():
                for events, taken in ((life.until_receipt(), archived), (life.until_delete(), deleted)):
                    trips_s = (len(events) - 1) * LATENCY_MS / 1000  # the last one is seen before it is answered
                    taken.append(1000 * (events[-1].at_s - called[sid] - trips_s) - LATENCY_MS)
    for what, taken in (("callback to receipt", archived), ("callback to DELETE", deleted)):
        for percent, bound_ms in BOUNDS_MS.items():
            value = statistics.quantiles(taken, n=100)[percent - 1]
            name = f"{what}, p{percent} beyond the round trips"
            yield Row.of("latency", name, "ms", [value], bound=f"<= {bound_ms:.0f} ms", kept=value <= bound_ms)


def _play(stack: Stack, sides: Sides, seconds: float) -> tuple[dict[str, float], dict[str, Life]]:
    """Let calls end at the rate; return when each was called back, and what was asked about each."""
    sides.forget()
    called: dict[str, float] = {}
    began = time.monotonic() + 0.2
    for number in range(int(PER_SECOND * seconds)):
        # At a moment of its own within its part of the time, as calls end.
        moment = began + (number + secrets.randbelow(1000) / 1000) / PER_SECOND
        sid = new_sid(CALL_BYTES)
        request = signed(sid)
        time.sleep(max(0.0, moment - time.monotonic()))
        called[sid] = time.monotonic()
        exchange_once(stack.port, request)

    def finished() -> dict[str, Life]:
        events = sides.events()
        done = {each.path[-39:-5] for each in events if each.method == "PUT" and "/deletions/" in each.path}
        lives = {sid_of(life): life for life in lives_of(events)}
        return lives if called.keys() <= done else {}

    return called, wait_until(finished, timeout_s=60, what="all deletions", interval_s=0.5)


def sid_of(life: Life) -> str:
    """Return the recording that a life is of."""
    path = life.events[0].path
    at = path.find("RE")
    return path[at : at + 34]
