"""End a worker within a bound after SIGTERM, and hand back what is still under way: platforms kill after 30 s.

Celery's own ways don't suit threads: the warm one waits for a download however long it takes, the soft and the cold one
end with an error, since threads can't be killed. Here the worker takes no more messages, finishes what it can, and
what is left goes to the front of its queue, so that another worker has it at once.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from time import monotonic
from typing import Any, Final

import structlog
from celery import signals
from celery.worker import state

FINISH_S: Final = 18.0  # for what is under way
_STOP_S: Final = 1.5  # for what Celery has to tidy up afterwards
_HAND_BACK_S: Final = 1.5  # while Redis is away, messages come back by themselves, later
_POLL_S: Final = 0.1

log = structlog.get_logger()


class Drain:
    """The end of a worker. `release` gives up the leases on its work; `end` ends the process."""

    def __init__(
        self, release: Callable[[], object], *, finish_s: float = FINISH_S, end: Callable[[int], object] = os._exit
    ) -> None:
        self._release = release
        self._finish_s = finish_s
        self._end = end
        self._consumer: Any = None
        self._begun = False
        self._hurry = Event()

    def install(self) -> None:
        """Take over the signals as soon as the worker consumes; before that there is nothing to hand back."""
        signals.worker_ready.connect(self._ready, weak=False)

    def _ready(self, sender: Any, **_kwargs: Any) -> None:
        self._consumer = sender  # stays the same when it reconnects
        # SIGQUIT too: with REMAP_SIGTERM Celery means to get it, and it is what a terminal's Ctrl-\ sends.
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
            signal.signal(number, self.begin)

    def begin(self, *_signal: object) -> None:
        """End the worker; asked for a second time, without waiting for anything. Returns at once."""
        if self._begun:
            self._hurry.set()
            return
        self._begun = True
        # Not here: a signal may have interrupted somebody who holds a lock that this needs.
        Thread(target=self._run, name="drain", daemon=True).start()

    def _run(self) -> None:
        deadline = monotonic() + self._finish_s
        log.info("worker_draining", running=len(state.active_requests))
        # In its own thread, where acknowledgements are made, too; the event loop goes on until the work is done.
        self._consumer.call_soon(self._take_no_more)
        while state.active_requests and monotonic() < deadline and not self._hurry.wait(_POLL_S):
            pass
        if not state.active_requests:
            state.should_stop = os.EX_OK  # type: ignore[assignment] # an exit code, whatever celery-types says
            self._hurry.wait(_STOP_S)  # and this thread is gone with the process
        handing_back = Thread(target=self._hand_back, name="hand-back", daemon=True)
        handing_back.start()
        handing_back.join(_HAND_BACK_S)
        self._end(os.EX_OK)

    def _take_no_more(self) -> None:
        self._consumer.task_consumer.cancel()

    def _hand_back(self) -> None:
        """Put what was not finished where the next worker takes from, and give up the leases that would forbid it."""
        self._release()
        left = [request for request in tuple(state.reserved_requests) if not request.acknowledged]
        with suppress(Exception):  # Redis may be away
            for request in left:
                request.message.reject(requeue=True)
        log.warning("worker_drained", handed_back=len(left))
