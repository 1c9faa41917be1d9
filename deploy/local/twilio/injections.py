"""Decide which injected faults meet which request or callback, and keep count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from types import EllipsisType
from typing import Protocol

from .faults import Fault


class Target(Protocol):
    """What a fault may meet: a request, or a callback."""

    @property
    def method(self) -> str: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def account_sid(self) -> str | None: ...
    @property
    def recording_sid(self) -> str | None: ...
    @property
    def requested_channels(self) -> int | None: ...


@dataclass(frozen=True)
class Match:
    """Which requests a fault is for; None (for `requested_channels`: `...`) means any.

    `endpoint` is accounts, account, list, resource, media, cdn, delete, start, update, transcriptions, addons
    or callback; without it the fault's own is meant, such as media for a cut. `requested_channels` None are
    the requests that ask for no number.
    """

    method: str | None = None
    endpoint: str | None = None
    requested_channels: int | EllipsisType | None = ...
    account_sid: str | None = None

    def fits(self, target: Target, default_endpoint: str | None) -> bool:
        """Tell whether a target is meant."""
        return (
            self.method in (None, target.method)
            and (self.endpoint or default_endpoint) in (None, target.endpoint)
            and self.requested_channels in (..., target.requested_channels)
            and self.account_sid in (None, target.account_sid)
        )


@dataclass
class Injection:
    """A fault at work. `hits` counts the requests that met it, `seen` those that it was meant for.

    `when` has the last word on each, such as a die.
    """

    fault: Fault
    recording_sid: str | None
    match: Match
    times: int | None
    skip: int
    when: Callable[[], bool] | None = None
    seen: int = 0
    hits: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def takes(self, target: Target) -> bool:
        """Tell whether a target meets the fault, and count it."""
        if self.recording_sid not in (None, target.recording_sid):
            return False
        if not self.match.fits(target, self.fault.endpoint):
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
        """Let go of whatever the fault holds up now."""
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

    def take(self, target: Target) -> list[Fault]:
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
