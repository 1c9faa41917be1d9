"""Say once a minute how much waits in each queue, and for how long: log lines that a platform can make metrics of.

On ECS, CloudWatch scales the workers by them (deploy/ecs/template.yaml), without any permission or library of AWS's.
The schedule says it, since it is one process whatever the number of workers; its silence is an alarm, too.
"""

from collections.abc import Callable
from contextlib import closing
from threading import Event, Thread
from time import time
from typing import Final

import structlog
from redis import Redis
from redis.exceptions import RedisError

from app.board import read_queues

_EVERY_S: Final = 60.0

log = structlog.get_logger()


class QueueLog:
    """Measures in a thread of its own. `connect` makes a client that tries once and is bounded in time."""

    def __init__(self, connect: Callable[[], Redis], every_s: float = _EVERY_S) -> None:
        self._connect = connect
        self._every_s = every_s

    def start(self) -> None:
        """Measure from now on, until the process ends."""
        Thread(target=self._run, name="queue-log", daemon=True).start()

    def measure(self) -> None:
        """Write one line; none while Redis does not answer."""
        try:
            with closing(self._connect()) as redis:
                queues = read_queues(redis, time())
        except RedisError as error:
            log.warning("queues_not_measured", error=type(error).__name__)
            return
        depths = {f"{queue}_depth": depth for queue, (depth, _) in queues.items()}
        ages = {f"{queue}_oldest_s": round(age_s) for queue, (_, age_s) in queues.items()}
        log.info("queues_measured", **depths, **ages)

    def _run(self) -> None:
        never = Event()
        while not never.wait(self._every_s):
            self.measure()
