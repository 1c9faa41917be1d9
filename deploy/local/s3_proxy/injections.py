"""Decide which injected faults meet which request, and keep count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from .faults import Fault
from .messages import S3Request


@dataclass
class Injection:
    """A fault at work. `hits` counts the requests that met it, `seen` those that it was meant for.

    `when` has the last word on each, such as a die.
    """

    fault: Fault
    operation: str | None
    key_contains: str
    times: int | None
    skip: int
    when: Callable[[], bool] | None = None
    seen: int = 0
    hits: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def takes(self, request: S3Request) -> bool:
        """Tell whether a request meets the fault, and count it."""
        operation = self.operation or self.fault.operation
        if operation not in (None, request.operation) or self.key_contains not in request.key:
            return False
        with self._lock:
            self.seen += 1
            if self.seen <= self.skip or (self.times is not None and self.hits >= self.times):
                return False
            if self.when is not None and not self.when():
                return False
            self.hits += 1
            return True

    def release(self) -> None:
        """Let go of whatever the fault holds up, now and from now on."""
        self.fault.release()

    def remove(self) -> None:
        """Let the fault meet nothing more, and let go of what it holds up."""
        with self._lock:
            self.times = self.hits
        self.release()


class Injections:
    """All faults that were injected, in order."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._injections: list[Injection] = []

    def add(self, injection: Injection) -> Injection:
        with self._lock:
            self._injections.append(injection)
        return injection

    def take(self, request: S3Request) -> list[Fault]:
        """Return the faults that a request meets, in the order of their injection."""
        with self._lock:
            injections = list(self._injections)
        return [injection.fault for injection in injections if injection.takes(request)]

    def clear(self) -> None:
        """Remove every fault and let go of everything."""
        with self._lock:
            injections, self._injections = self._injections, []
        for injection in injections:
            injection.remove()
