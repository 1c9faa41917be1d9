"""Let a real worker archive and delete recordings between two sides that take a known time for each request."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from app.queue import ARCHIVE_TASK, Publisher
from app.settings import CommonSettings, load
from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer
from deploy.local.stack import Stack
from tests.bench import costs
from tests.bench.sides import ACCOUNT, Event, Sides, new_sid

CALL_BYTES = 30 * 32_000 + 44  # 30 s in two channels


@dataclass(frozen=True)
class Life:
    """The requests of one recording, in order; times are monotonic, in seconds."""

    events: tuple[Event, ...]

    def count(self, side: str) -> int:
        """Return how many requests there were to a side."""
        return sum(event.side == side for event in self.events)

    def puts(self) -> int:
        """Return how many objects were written."""
        return sum(event.side == "S3" and event.method == "PUT" for event in self.events)

    def until_receipt(self) -> tuple[Event, ...]:
        """Return the requests up to the writing of the receipt."""
        last = next(n for n, event in enumerate(self.events) if event.method == "PUT" and "/receipts/" in event.path)
        return self.events[: last + 1]

    def until_delete(self) -> tuple[Event, ...]:
        """Return the requests up to the DELETE at the source."""
        last = next(n for n, event in enumerate(self.events) if event.method == "DELETE" and event.side == "Twilio")
        return self.events[: last + 1]


@contextlib.contextmanager
def working(sides: Sides, processes: tuple[str, ...] = ("worker",), **settings: str) -> Iterator[Stack]:
    """Run the product between two sides, which are running."""
    with (
        RedisServer() as redis_server,
        Stack(
            processes,
            settings=settings,
            redis_server=redis_server,
            s3_server=sides,  # type: ignore[arg-type] # it has what the stack asks of either
            simulator=sides,  # type: ignore[arg-type]
        ) as stack,
    ):
        yield stack


@dataclass(frozen=True)
class Batch:
    """Recordings that were enqueued together: seconds until the last was finished, and CPU seconds of the worker."""

    wall_s: float
    cpu_s: float
    lives: tuple[Life, ...]


def archive(stack: Stack, sides: Sides, count: int, size_bytes: int = CALL_BYTES) -> Batch:
    """Enqueue recordings and wait until each has its deletion receipt."""
    publisher = Publisher(load(CommonSettings, {"REDIS_URL": stack.redis_url}))
    sids = [new_sid(size_bytes) for _ in range(count)]
    sides.forget()
    before, started = costs.cpu_s(stack.worker.pid), time.monotonic()
    for sid in sids:
        publisher.publish(ARCHIVE_TASK, account_sid=ACCOUNT.sid, recording_sid=sid)
    events = wait_until(lambda: _finished(sides, count), timeout_s=600, what="all deletions", interval_s=0.2)
    spent = costs.cpu_s(stack.worker.pid) - before
    last = max(event.at_s for event in events)
    return Batch(last + sides.latency_ms / 1000 - started, spent, lives_of(events))


def lives_of(events: list[Event]) -> tuple[Life, ...]:
    """Sort requests by the recording that they are about.

    What names no recording is the stop switch, asked for shortly before each deletion: the first deletion gets the
    first of them.
    """
    by_sid: dict[str, list[Event]] = defaultdict(list)
    others: list[Event] = []
    for event in events:
        at = event.path.find("RE")
        (others if at < 0 else by_sid[event.path[at : at + 34]]).append(event)
    deleted = {sid: each.at_s for sid, of_it in by_sid.items() for each in of_it if each.method == "DELETE"}
    for sid, other in zip(sorted(deleted, key=deleted.__getitem__), others, strict=False):
        by_sid[sid].append(other)
    return tuple(Life(tuple(sorted(each, key=lambda event: event.at_s))) for each in by_sid.values())


def _finished(sides: Sides, count: int) -> list[Event]:
    """Return all requests when so many deletion receipts have been written; else nothing."""
    events = sides.events()
    written = [
        each
        for each in events
        if each.method == "PUT" and "/deletions/" in each.path and not each.path.endswith(".requested.json")
    ]
    return events if len(written) >= count else []
