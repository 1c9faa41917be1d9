"""Say once a minute how much waits in each queue, and for how long: log lines that a platform can make metrics of.

On ECS, CloudWatch scales the workers by them (deploy/ecs/template.yaml), without any permission or library of AWS's.
The schedule says it, since it is one process whatever the number of workers; its silence is an alarm, too.
"""

import json
import math
from collections.abc import Callable, Mapping
from contextlib import closing
from threading import Event, Thread
from time import time
from typing import Final

import structlog
from redis import Redis
from redis.exceptions import RedisError

from app.queue import KEY_PREFIX, PUBLISHED_AT, QUEUES

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
                log.info("queues_measured", **_measured(redis, time()))
        except RedisError as error:
            log.warning("queues_not_measured", error=type(error).__name__)

    def _run(self) -> None:
        never = Event()
        while not never.wait(self._every_s):
            self.measure()


def _measured(redis: Redis, now: float) -> Mapping[str, float]:
    """Return the depth of each queue and the age of its oldest message in whole seconds, 0 when none waits."""
    measured: dict[str, float] = {}
    for queue in QUEUES:
        measured[f"{queue}_depth"] = int(redis.llen(KEY_PREFIX + queue))
        measured[f"{queue}_oldest_s"] = _age_s(redis.lindex(KEY_PREFIX + queue, -1), now)  # publishers push on the left
    return measured


def _age_s(message: object, now: float) -> int:
    try:
        published_at = float(json.loads(str(message))["headers"][PUBLISHED_AT])
    except (ValueError, TypeError, KeyError):
        return 0  # none waits, or it does not say
    return int(max(0.0, now - published_at)) if math.isfinite(published_at) else 0
