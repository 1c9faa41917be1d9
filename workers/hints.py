"""What Redis knows beside the messages: hints that save work, and whose loss loses nothing."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Condition, Thread
from typing import Final

import structlog
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from app.queue import KEY_PREFIX, redis_client
from app.settings import CommonSettings

LEASE_S: Final = 30.0  # a dead holder's lease ends by itself
_DOCUMENTED_S: Final = 7 * 24 * 60 * 60

log = structlog.get_logger()


class Hints:
    """Depth of a queue, and leases on work. Thread-safe; connects when first used."""

    def __init__(self, settings: CommonSettings, lease_s: float = LEASE_S) -> None:
        """Leases end `lease_s` seconds after their holder's death, and are renewed three times in that time."""
        self._redis = redis_client(settings)
        self._lease_s = lease_s
        self._leases: set[Lock] = set()
        self._changed = Condition()
        self._renewer: Thread | None = None

    def queue_depth(self, queue: str) -> int:
        """Return how many messages wait in a queue; 0 when Redis does not say."""
        try:
            return int(self._redis.llen(KEY_PREFIX + queue))
        except RedisError:
            return 0

    def is_due(self, chore: str, every_s: int) -> bool:
        """Tell whether a chore that is harmless to repeat is due, and remember that it was done; yes without Redis."""
        try:
            return bool(self._redis.set(f"{KEY_PREFIX}chore:{chore}", "done", nx=True, ex=every_s))
        except RedisError:
            return True

    def remember_documented(self, recording_sid: str) -> None:
        """Remember for some days that a recording has its absence document, so that sweeps leave it alone."""
        with suppress(RedisError):
            self._redis.set(_documented(recording_sid), "absent", ex=_DOCUMENTED_S)

    def documented(self, recording_sids: list[str]) -> set[str]:
        """Return those that are remembered to have an absence document; none without Redis."""
        if not recording_sids:
            return set()
        try:
            known = self._redis.mget([_documented(sid) for sid in recording_sids])
        except RedisError:
            return set()
        return {sid for sid, value in zip(recording_sids, known, strict=True) if value is not None}

    @contextmanager
    def lease(self, work: str) -> Iterator[bool]:
        """Hold some work, such as one recording's or the sweep, while it is done; yield False when somebody else does.

        The lease is renewed as long as the block runs and this process lives, and ends some time after its death.
        Without Redis the answer is yes: twins do no harm, they only do work twice.
        """
        name = f"{KEY_PREFIX}lease:{work}"
        lock = self._redis.lock(name, timeout=self._lease_s, blocking=False, thread_local=False)
        try:
            free = bool(lock.acquire())
        except RedisError:
            log.warning("lease_unavailable")
            yield True
            return
        if not free:
            yield False
            return
        self._renew(lock)
        try:
            yield True
        finally:
            with self._changed:
                self._leases.discard(lock)
            with suppress(LockError, RedisError):  # it ends by itself
                lock.release()

    def _renew(self, lock: Lock) -> None:
        """Let the one renewing thread, started at the first lease, take care of a lease."""
        with self._changed:
            self._leases.add(lock)
            if self._renewer is None:
                self._renewer = Thread(target=self._renew_forever, name="lease-renewer", daemon=True)
                self._renewer.start()

    def _renew_forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait(self._lease_s / 3)
                held = list(self._leases)
            for lock in held:
                with suppress(LockError, RedisError):  # released meanwhile, or Redis is away: a hint was lost
                    lock.reacquire()


def _documented(recording_sid: str) -> str:
    return f"{KEY_PREFIX}absence:{recording_sid}"
