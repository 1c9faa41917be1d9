"""What Redis knows beside the messages: hints that save work, and whose loss loses nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from redis.exceptions import LockError, RedisError

from app.queue import KEY_PREFIX, redis_client
from app.settings import CommonSettings

_SWEEP_LOCK_S: Final = 15 * 60

log = structlog.get_logger()


class Hints:
    """Depth of a queue and the sweep's lock. Thread-safe; connects when first used."""

    def __init__(self, settings: CommonSettings) -> None:
        self._redis = redis_client(settings)

    def queue_depth(self, queue: str) -> int:
        """Return how many messages wait in a queue; 0 when Redis does not say."""
        try:
            return int(self._redis.llen(KEY_PREFIX + queue))
        except RedisError:
            return 0

    @contextmanager
    def sweep_lock(self) -> Iterator[bool]:
        """Hold the lock that keeps two sweeps from doing the same work; yield whether it was free.

        Without Redis the answer is yes: two sweeps do no harm.
        """
        lock = self._redis.lock(f"{KEY_PREFIX}sweep-lock", timeout=_SWEEP_LOCK_S, blocking=False)
        try:
            free = lock.acquire()
        except RedisError:
            log.warning("sweep_lock_unavailable")
            yield True
            return
        try:
            yield bool(free)
        finally:
            if free:
                try:
                    lock.release()
                except (LockError, RedisError):
                    log.warning("sweep_lock_expired")
