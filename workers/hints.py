"""What Redis knows beside the messages: hints that save work, and whose loss loses nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from threading import Condition, Thread
from time import time
from typing import Final

import structlog
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from app.board import Board
from app.queue import KEY_PREFIX, redis_client
from app.receipt import iso, parse_iso
from app.recording import is_sid
from app.settings import CommonSettings

LEASE_S: Final = 30.0  # a dead holder's lease ends by itself
_DOCUMENTED_S: Final = 7 * 24 * 60 * 60
_POSITION_S: Final = 24 * 60 * 60
_DELETION_S: Final = 7 * 24 * 60 * 60
_DELETIONS: Final = f"{KEY_PREFIX}begun-deletions"  # a sorted set: account and recording, by when it began
_NO_KEY: Final = -2  # Redis's word for it instead of a time: https://redis.io/docs/latest/commands/pttl/

log = structlog.get_logger()


class Hints:
    """Depth of a queue, leases on work, what was done, and the board. Thread-safe; connects when first used."""

    def __init__(self, settings: CommonSettings, lease_s: float = LEASE_S) -> None:
        """Leases end `lease_s` seconds after their holder's death, and are renewed three times in that time."""
        self._redis = redis_client(settings)
        self.board = Board(self._redis)
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

    def was_done(self, chore: str, within_s: int) -> bool:
        """Tell whether a chore that is harmless to repeat is remembered as done; no without Redis.

        What would be remembered for longer than `within_s` was not put there by `remember_done`, and counts for
        nothing: whoever can write to Redis must not keep work from being done for ever.
        """
        try:
            return not self._outlasts(_chore(chore), within_s) and bool(self._redis.exists(_chore(chore)))
        except RedisError:
            return False

    def remember_done(self, chore: str, for_s: int) -> None:
        """Remember for some time that a chore was done."""
        with suppress(RedisError):
            self._redis.set(_chore(chore), "done", ex=for_s)

    def position(self, work: str) -> datetime | None:
        """Return how far some work has come that did not come to its end; None when it begins anew.

        What would be remembered for longer than a day was not put there by `remember_position`, and counts for nothing.
        """
        try:
            if self._outlasts(_position(work), _POSITION_S):
                return None
            return parse_iso(str(self._redis.get(_position(work))))
        except (RedisError, ValueError):
            return None

    def remember_position(self, work: str, reached: datetime | None) -> None:
        """Remember for a day how far some work has come; None when it has come to its end."""
        with suppress(RedisError):
            if reached is None:
                self._redis.delete(_position(work))
            else:
                self._redis.set(_position(work), iso(reached), ex=_POSITION_S)

    def remember_documented(self, recording_sid: str) -> None:
        """Remember for some days that a recording has its absence document, so that sweeps leave it alone."""
        with suppress(RedisError):
            self._redis.set(_documented(recording_sid), "absent", ex=_DOCUMENTED_S)

    def documented(self, recording_sids: list[str]) -> set[str]:
        """Return those that are remembered to have an absence document; none without Redis."""
        return self._known(recording_sids, _documented)

    def remember_resting(self, recording_sid: str, for_s: float) -> None:
        """Remember that nothing can be done for a recording for some time, so that frequent sweeps leave it alone."""
        with suppress(RedisError):
            self._redis.set(_resting(recording_sid), "rests", px=max(1, int(for_s * 1000)))

    def resting(self, recording_sids: list[str]) -> set[str]:
        """Return those for which nothing can be done at the moment, as far as is remembered; none without Redis."""
        return self._known(recording_sids, _resting)

    def remember_deletion(self, account_sid: str, recording_sid: str) -> bool:
        """Remember for some days that a deletion has begun: its source may be gone before there is a proof.

        Tell whether that was not remembered yet; no without Redis.
        """
        now = time()
        try:
            with self._redis.pipeline() as pipeline:
                pipeline.zremrangebyscore(_DELETIONS, "-inf", now - _DELETION_S)
                pipeline.zadd(_DELETIONS, {f"{account_sid}/{recording_sid}": now}, nx=True)
                return bool(pipeline.execute()[-1])
        except RedisError:
            return False

    def forget_deletion(self, account_sid: str, recording_sid: str) -> None:
        """Forget a deletion that has its proof, or that is not to be."""
        with suppress(RedisError):
            self._redis.zrem(_DELETIONS, f"{account_sid}/{recording_sid}")

    def unfinished_deletions(self, older_than_s: float, most: int) -> list[tuple[str, str]]:
        """Return the SIDs of up to `most` accounts and recordings whose deletion began some time ago and has no end."""
        if most <= 0:
            return []
        try:
            begun = self._redis.zrangebyscore(_DELETIONS, "-inf", time() - older_than_s, start=0, num=most)
        except RedisError:
            return []
        pairs = [str(each).partition("/") for each in begun]
        return [
            (account, recording) for account, _, recording in pairs if is_sid(account, "AC") and is_sid(recording, "RE")
        ]

    def _known(self, recording_sids: list[str], key: Callable[[str], str]) -> set[str]:
        if not recording_sids:
            return set()
        try:
            known = self._redis.mget([key(sid) for sid in recording_sids])
        except RedisError:
            return set()
        return {sid for sid, value in zip(recording_sids, known, strict=True) if value is not None}

    @contextmanager
    def lease(self, work: str) -> Iterator[bool]:
        """Hold some work, such as one recording's or the sweep, while it is done; yield False when somebody else does.

        The lease is renewed as long as the block runs and this process lives, and ends some time after its death. One
        that would outlast it is none of ours, and is taken over: nothing is kept from being done for ever.
        Without Redis the answer is yes: twins do no harm, they only do work twice.
        """
        name = f"{KEY_PREFIX}lease:{work}"
        lock = self._redis.lock(name, timeout=self._lease_s, blocking=False, thread_local=False)
        try:
            free = bool(lock.acquire()) or (self._outlasts(name, self._lease_s) and bool(lock.acquire()))
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

    def release_all(self) -> None:
        """Give up every lease that is held: this process ends, and others may take its work over at once."""
        with self._changed:
            held = list(self._leases)
            self._leases.clear()
        for lock in held:
            with suppress(LockError, RedisError):  # it ends by itself
                lock.release()

    def _outlasts(self, key: str, longest_s: float) -> bool:
        """Remove a key that would last longer than any of ours; tell whether it did."""
        left_ms = self._redis.pttl(key)
        if left_ms == _NO_KEY or 0 <= left_ms <= longest_s * 1000:
            return False
        self._redis.delete(key)
        log.warning("foreign_hint_removed")
        return True

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


def _chore(chore: str) -> str:
    return f"{KEY_PREFIX}chore:{chore}"


def _position(work: str) -> str:
    return f"{KEY_PREFIX}position:{work}"


def _documented(recording_sid: str) -> str:
    return f"{KEY_PREFIX}absence:{recording_sid}"


def _resting(recording_sid: str) -> str:
    return f"{KEY_PREFIX}rests:{recording_sid}"
