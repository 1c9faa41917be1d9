"""Announce the events of recordings in background threads: best effort and unordered, as Twilio does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Condition, Event, Thread
from typing import ClassVar

from deploy.local.injections import Injections

from .exchanges import CallbackAnswer
from .faults import Fault
from .recordings import SimRecording, StatusCallback
from .targets import Target

THREADS = 32
Send = Callable[[SimRecording, StatusCallback, str], CallbackAnswer]


@dataclass(frozen=True)
class LostCallback(Fault):
    """Never send the callback."""

    endpoint: ClassVar[str | None] = "callback"


@dataclass(frozen=True)
class RepeatedCallback(Fault):
    """Send the callback several times, each as an event of its own (another idempotency token)."""

    copies: int = 2
    endpoint: ClassVar[str | None] = "callback"


@dataclass(frozen=True)
class DelayedCallback(Fault):
    """Send the callback late: after `seconds`, or when released."""

    seconds: float | None = None
    released: Event = field(default_factory=Event, repr=False)
    endpoint: ClassVar[str | None] = "callback"

    def release(self) -> None:
        self.released.set()


@dataclass(frozen=True)
class Announcement:
    """An event that is to be announced, as a target for faults."""

    recording: SimRecording
    callback: StatusCallback
    status: str
    endpoint: ClassVar[str] = "callback"
    requested_channels: ClassVar[int | None] = None

    @property
    def method(self) -> str:
        return self.callback.method

    @property
    def account_sid(self) -> str:
        return self.recording.account_sid

    @property
    def recording_sid(self) -> str:
        return self.recording.sid


class Dispatcher:
    """Send callbacks from a fixed number of threads, which start with the first callback."""

    def __init__(self, send: Send, injections: Injections[Fault, Target]) -> None:
        self._send = send
        self._injections = injections
        self._queue: SimpleQueue[Announcement | None] = SimpleQueue()
        self._changed = Condition()
        self._threads: list[Thread] = []
        self._pending = 0
        self._stopping = False

    def announce(self, recording: SimRecording, status: str) -> None:
        """Queue a callback if one is wanted: a URL is set, it asks for this event, and it is no trunk's recording."""
        callback = recording.callback
        if callback is None or recording.source == "Trunking" or status not in callback.events:
            return
        with self._changed:
            self._pending += 1
            if len(self._threads) < THREADS:
                thread = Thread(target=self._work, name="twilio-callbacks", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._queue.put(Announcement(recording, callback, status))

    def wait(self, timeout_s: float) -> bool:
        """Wait until every queued callback has had its last answer; tell whether that came about."""
        with self._changed:
            return self._changed.wait_for(lambda: self._pending == 0, timeout_s)

    def stop(self) -> None:
        """Let go of all faults, drop what is still to be sent, and wait for what is on its way."""
        self._stopping = True
        self._injections.clear()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (announcement := self._queue.get()) is not None:
            try:
                self._announce(announcement)
            finally:
                with self._changed:
                    self._pending -= 1
                    self._changed.notify_all()

    def _announce(self, announcement: Announcement) -> None:
        copies = 1
        for fault in self._injections.take(announcement):
            if isinstance(fault, LostCallback):
                return
            if isinstance(fault, RepeatedCallback):
                copies = fault.copies
            if isinstance(fault, DelayedCallback):
                fault.released.wait(fault.seconds)
        for _ in range(copies):
            if self._stopping:
                return
            self._send(announcement.recording, announcement.callback, announcement.status)
