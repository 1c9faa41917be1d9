"""Who does what when: processes, their strands, and the one gate that every call to a stand-in passes.

A strand is a task that runs in a worker (a greenlet). At each call it stands still until the scheduler lets it go on,
so that strands interleave at every call, in an order that a seed decides. A process dies between two calls, or in one:
from then on each further call of its strands raises, also from their `finally` blocks, and reaches nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")


class CrashedError(BaseException):
    """The process has died: whatever still unwinds in it is not happening."""


@dataclass(slots=True)
class Call:
    """One call to a stand-in: `target` is a key, a SID or a task, `number` counts all calls of a history."""

    service: str
    operation: str
    target: str = ""
    number: int = 0

    def __str__(self) -> str:
        return f"{self.service} {self.operation} {self.target}".rstrip()


@dataclass(eq=False, slots=True)
class Process:
    """A process of the product: dead or alive, with a clock that may be ahead (seconds), or stopped until a time."""

    name: str
    ahead_s: float = 0.0
    alive: bool = True
    stopped_until: float = 0.0
    strands: list[Strand] = field(default_factory=list)
    parts: Any = None


class Strand(greenlet):
    """A task in progress; `calls` are those it has made. `ended` is what its end calls for, if it does not crash."""

    def __init__(self, name: str, process: Process, act: Callable[[], object]) -> None:
        super().__init__(self._run)
        self.name = name
        self.process = process
        self.pending: Call | None = None
        self.calls: list[Call] = []
        self.reads: dict[str, int] = {}
        self.uploads: set[str] = set()  # that it has begun, and knows of
        self.texts: set[str] = set()  # finished ones that it was shown
        self.shown = 0  # the status of Twilio's last answer about a recording
        self.wakes_at = 0.0
        self._act = act
        process.strands.append(self)

    def _run(self) -> None:
        try:
            self._act()
        except CrashedError:
            self.process.alive = False
        finally:
            self.process.strands.remove(self)

    def stand(self, call: Call | None, until: float = 0.0) -> None:
        """Let the scheduler decide when it goes on. Raises `CrashedError` when that is never."""
        if not self.process.alive:
            raise CrashedError
        self.pending, self.wakes_at = call, until
        self.parent.switch()
        self.pending = None
        if not self.process.alive:
            raise CrashedError

    def crash(self) -> None:
        """Let the process die at this very moment."""
        self.process.alive = False
        raise CrashedError


def this_strand() -> Strand | None:
    """Return the strand that runs; None in the harness itself."""
    current = getcurrent()
    return current if isinstance(current, Strand) else None


def bury(process: Process) -> None:
    """Unwind what is left of a dead process."""
    process.alive = False
    for strand in list(process.strands):
        strand.throw(CrashedError)
