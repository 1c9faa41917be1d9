"""Renews a process's heartbeat, and ends the process when it lives but has not done its work for too long.

Whoever runs the process starts another: that is the one mend for every way in which a consumer can get stuck. What was
worked on comes back, and every step is harmless when repeated.
"""

import atexit
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from workers import heartbeat

EXIT_WEDGED: Final = 1

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """In seconds: how often it looks, when it complains, when it ends the process, and when while tasks are running.

    The end comes later than Celery does after an outage of Redis (its pauses grow to 30 s).
    """

    every_s: float = 5.0
    complain_s: float = 30.0
    stuck_s: float = 60.0
    stuck_while_busy_s: float = 90.0


class Watchdog:
    """Looks every few seconds, in a thread of its own.

    `complaint` says what keeps the process from its work, or None; `is_busy` whether tasks are running that an end
    would interrupt.
    """

    def __init__(
        self,
        process: str,
        complaint: Callable[[], str | None],
        *,
        is_busy: Callable[[], bool] = lambda: False,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._process = process
        self._complaint = complaint
        self._is_busy = is_busy
        self._limits = limits or Limits()
        self._clock = clock
        self._end = end
        self._well_at = clock()
        self._is_silent = False

    def start(self) -> None:
        """Look from now on, until the process ends."""
        atexit.register(heartbeat.remove, self._process)
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception as error:  # a heartbeat that is not renewed says so; this thread must go on
                log.error("watchdog_failed", error=type(error).__name__)
            time.sleep(self._limits.every_s)

    def look(self) -> None:
        """Look once: renew the heartbeat, or end the process.

        What has only just begun is not yet complained of: it may pass.
        """
        complaint, now = self._complaint(), self._clock()
        if complaint is None:
            self._well_at = now
        stuck_s = now - self._well_at
        self._renew(complaint if stuck_s > self._limits.complain_s else None, now)
        if complaint is None or stuck_s <= self._limits.stuck_s:
            return
        if stuck_s <= self._limits.stuck_while_busy_s and self._is_busy():
            return
        log.error("process_wedged", process=self._process, detail=complaint, seconds=round(stuck_s))
        heartbeat.remove(self._process)
        self._end(EXIT_WEDGED)  # the main thread may never come back, so that nothing gentler would do

    def _renew(self, complaint: str | None, now: float) -> None:
        try:
            heartbeat.write(self._process, complaint, now)
        except OSError as error:
            if not self._is_silent:
                log.warning("heartbeat_not_written", error=type(error).__name__, mend="mount a tmpfs at /tmp")
            self._is_silent = True
