"""What Redis knows beside the messages, in memory: leases that end with their holder, and may be lost at any time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError

from app.board import Board
from tests.model.broker import DEPTHS, Queue
from tests.model.schedule import Call, Process, this_strand
from workers.hints import LEASE_S

Gate = Callable[[Call, Callable[[], Any]], Any]


class HintLostError(Exception):
    """Redis does not answer."""


@dataclass(slots=True)
class Hinted:
    """What is in Redis: values with the time at which they end, and leases with their holders."""

    values: dict[str, float] = field(default_factory=dict)
    leases: dict[str, tuple[object, Process | None, float]] = field(default_factory=dict)
    positions: dict[str, datetime] = field(default_factory=dict)
    deletions: dict[tuple[str, str], float] = field(default_factory=dict)

    def wipe(self) -> None:
        """Lose everything."""
        self.values.clear()
        self.leases.clear()
        self.positions.clear()
        self.deletions.clear()


class _BoardRedis:
    """What the board needs of Redis. `ask` makes a call that may fail."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask

    def hset(self, _name: str, fact: str, _numbers: str) -> None:
        if self._ask("post", fact, lambda: True, unknown=None) is None:
            raise RedisError


class MemoryHints:
    """Has every method of `workers.hints.Hints`, and keeps its promises: nothing that it says is to be relied upon."""

    def __init__(self, hinted: Hinted, queue: Queue, gate: Gate, now: Callable[[], float]) -> None:
        self._hinted = hinted
        self._queue = queue
        self._gate = gate
        self._now = now
        self.board = Board(cast(Redis, _BoardRedis(self._ask)))

    def queue_depth(self, queue: str) -> int:
        task = DEPTHS.get(queue)
        depth = sum(message.task == task for message in self._queue.waiting)
        return int(self._ask("depth", queue, lambda: depth, unknown=0))

    def was_done(self, chore: str, within_s: int) -> bool:
        until = self._hinted.values.get(f"chore:{chore}", 0.0)
        return bool(self._ask("was_done", chore, lambda: self._now() < until <= self._now() + within_s, unknown=False))

    def remember_done(self, chore: str, for_s: int) -> None:
        self._remember(f"chore:{chore}", for_s)

    def position(self, work: str) -> datetime | None:
        reached: datetime | None = self._ask("position", work, lambda: self._hinted.positions.get(work), unknown=None)
        return reached

    def remember_position(self, work: str, reached: datetime | None) -> None:
        def remember() -> None:
            if reached is None:
                self._hinted.positions.pop(work, None)
            else:
                self._hinted.positions[work] = reached

        self._ask("remember", work, remember, unknown=None)

    def remember_documented(self, recording_sid: str) -> None:
        self._remember(f"documented:{recording_sid}", 7 * 24 * 60 * 60)

    def documented(self, recording_sids: list[str]) -> set[str]:
        return self._known("documented", recording_sids)

    def remember_resting(self, recording_sid: str, for_s: float) -> None:
        self._remember(f"resting:{recording_sid}", for_s)

    def resting(self, recording_sids: list[str]) -> set[str]:
        return self._known("resting", recording_sids)

    def remember_deletion(self, account_sid: str, recording_sid: str) -> bool:
        def remember() -> bool:
            is_new = (account_sid, recording_sid) not in self._hinted.deletions
            self._hinted.deletions.setdefault((account_sid, recording_sid), self._now())
            return is_new

        return bool(self._ask("remember", recording_sid, remember, unknown=False))

    def forget_deletion(self, account_sid: str, recording_sid: str) -> None:
        self._ask(
            "forget",
            recording_sid,
            lambda: self._hinted.deletions.pop((account_sid, recording_sid), None),
            unknown=None,
        )

    def unfinished_deletions(self, older_than_s: float, most: int) -> list[tuple[str, str]]:
        begun, latest = self._hinted.deletions, self._now() - older_than_s
        old = [sids for sids in sorted(begun, key=begun.__getitem__) if begun[sids] <= latest][:most]
        return list(self._ask("unfinished", "", lambda: old, unknown=[]))

    def _remember(self, name: str, for_s: float) -> None:
        def remember() -> None:
            self._hinted.values[name] = self._now() + for_s

        self._ask("remember", name, remember, unknown=None)

    def _known(self, what: str, recording_sids: list[str]) -> set[str]:
        if not recording_sids:
            return set()
        values, now = self._hinted.values, self._now()
        known = {sid for sid in recording_sids if values.get(f"{what}:{sid}", 0.0) > now}
        return set(self._ask(what, "", lambda: known, unknown=set()))

    @contextmanager
    def lease(self, work: str) -> Iterator[bool]:
        token, strand = object(), this_strand()
        holder = strand.process if strand else None

        def acquire() -> bool:
            if self._is_held(work):
                return False
            self._hinted.leases[work] = (token, holder, self._now() + LEASE_S)
            return True

        free = self._ask("lease", work, acquire, unknown=None)
        if not free:
            self._renew_no_more(work, token)  # it may have been given, and nobody knows
            yield free is None  # without Redis the answer is yes
            return
        try:
            yield True
        finally:
            self._renew_no_more(work, token)
            self._ask("release", work, lambda: self._release(work, token), unknown=None)

    def _is_held(self, work: str) -> bool:
        _, holder, until = self._hinted.leases.get(work, (None, None, 0.0))
        if holder is not None and holder.alive and holder.stopped_until <= self._now():
            return work in self._hinted.leases  # it is renewed
        return self._now() < until

    def _renew_no_more(self, work: str, token: object) -> None:
        if self._hinted.leases.get(work, (None,))[0] is token:
            self._hinted.leases[work] = (token, None, self._now() + LEASE_S)

    def _release(self, work: str, token: object) -> None:
        if self._hinted.leases.get(work, (None,))[0] is token:
            del self._hinted.leases[work]

    def _ask(self, operation: str, target: str, act: Callable[[], Any], *, unknown: Any) -> Any:
        try:
            return self._gate(Call("hints", operation, target), act)
        except HintLostError:
            return unknown
