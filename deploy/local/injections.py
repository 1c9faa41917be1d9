"""Decide which injected faults meet what a stand-in is asked, and keep count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, Protocol, TypeVar


class Releasable(Protocol):
    """What every fault can do: let go of whatever it holds up."""

    def release(self) -> None: ...


F = TypeVar("F", bound=Releasable)
T = TypeVar("T")  # what a fault may meet, such as a request


@dataclass
class Injection(Generic[F, T]):
    """A fault at work. `hits` counts the targets that met it, `seen` those that it was meant for.

    It is meant for those that `fits` accepts, and meets `times` of them (None: all) after the first `skip`. `when`
    has the last word on each, such as a die.
    """

    fault: F
    fits: Callable[[T], bool]
    times: int | None
    skip: int
    when: Callable[[], bool] | None = None
    seen: int = 0
    hits: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def takes(self, target: T) -> bool:
        """Tell whether a target meets the fault, and count it."""
        if not self.fits(target):
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


class Injections(Generic[F, T]):
    """All faults that were injected, in order."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._injections: list[Injection[F, T]] = []

    def add(self, injection: Injection[F, T]) -> Injection[F, T]:
        with self._lock:
            self._injections.append(injection)
        return injection

    def take(self, target: T) -> list[F]:
        """Return the faults that a target meets, in the order of their injection."""
        with self._lock:
            injections = list(self._injections)
        return [injection.fault for injection in injections if injection.takes(target)]

    def clear(self) -> None:
        """Remove every fault and let go of everything."""
        with self._lock:
            injections, self._injections = self._injections, []
        for injection in injections:
            injection.remove()
