"""Keep the append-only record of what was asked, answered, served and called back. Never a credential."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Lock
from typing import Literal

from .messages import Body

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Event:
    """One request to the REST API, or one attempt of a callback.

    `sequence` counts from when the request came in (or was sent), `finished_sequence` from when its answer
    was complete: A happened before B if A.finished_sequence < B.sequence. `status` is None and `complete`
    false where no answer, or only a part of it, was given. `body_bytes` are those of the answer's body;
    `authorized` tells whether credentials came along, right or wrong. `faults` are the names of those met.
    """

    sequence: int
    kind: Literal["request", "callback"]
    method: str
    path: str
    query: Mapping[str, str]
    endpoint: str
    account_sid: str | None
    recording_sid: str | None
    status: int | None
    body_bytes: int
    complete: bool
    faults: tuple[str, ...] = ()
    authorized: bool = False
    finished_sequence: int = 0
    time: datetime = NEVER


@dataclass(frozen=True)
class Served:
    """One media download that was answered with 200 and sent to the last byte."""

    sequence: int
    recording_sid: str
    requested_channels: int | None
    format: str
    body: Body = field(repr=False)
    faults: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return self.body.length

    @property
    def sha256(self) -> str:
        """Hash the bytes that were served (computed when first asked)."""
        return self.body.sha256


class Journal:
    """Number and keep events; an event is written before the last byte of its answer leaves."""

    def __init__(self, clock: Callable[[], datetime], numbers: Iterator[int]) -> None:
        self.clock = clock
        self._lock = Lock()
        self._numbers = numbers
        self._events: list[Event] = []
        self._served: list[Served] = []

    def number(self) -> int:
        """Give the next number of the one sequence that orders everything."""
        with self._lock:
            return next(self._numbers)

    def append(self, event: Event, served: Served | None = None) -> None:
        """Add an event; its `finished_sequence` and time are set here."""
        with self._lock:
            self._events.append(replace(event, finished_sequence=next(self._numbers), time=self.clock()))
            if served:
                self._served.append(served)

    def take_back(self, sequence: int, body_bytes: int) -> None:
        """Correct an event whose client went away before the last bytes could be sent."""
        with self._lock:
            for index, event in enumerate(self._events):
                if event.sequence == sequence:
                    self._events[index] = replace(event, complete=False, body_bytes=body_bytes)
            self._served = [served for served in self._served if served.sequence != sequence]

    @property
    def events(self) -> list[Event]:
        with self._lock:
            return list(self._events)

    @property
    def served(self) -> list[Served]:
        with self._lock:
            return list(self._served)
