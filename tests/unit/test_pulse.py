"""What a worker and the schedule say of themselves when they are asked."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from app.queue import KEY_PREFIX, QUEUES
from workers.pulse import BeatPulse, WorkerPulse

STILL, NOTHING_TAKEN = "the event loop stands still", "messages wait and none is taken"


@dataclass
class FreshRedis(Redis):
    """Answers what a pulse asks of Redis: the length of lists, and whether it is there."""

    lengths: dict[str, int] = field(default_factory=dict)
    is_away: bool = False
    closed: int = 0

    def llen(self, name: str) -> int:  # type: ignore[override]
        if self.is_away:
            raise RedisConnectionError
        return self.lengths.get(name, 0)

    def ping(self, **_options: object) -> bool:  # type: ignore[override]
        if self.is_away:
            raise RedisConnectionError
        return True

    def close(self) -> None:
        self.closed += 1

    def __del__(self) -> None:
        """There is nothing to close."""

    def hold(self, queue: str, messages: int) -> None:
        self.lengths[KEY_PREFIX + queue] = messages


@dataclass
class Bench:
    """A worker's pulse, with a Redis and a pool that do what the test says."""

    redis: FreshRedis = field(default_factory=FreshRedis)
    running: int = 0

    def __post_init__(self) -> None:
        self.pulse = WorkerPulse(lambda: self.redis, slots=2, running=lambda: self.running)
        assert self.pulse.complaint() is None  # at first there is nothing to compare with

    def ask(self, *, turn: bool = True, take: bool = False) -> str | None:
        """Let the event loop turn and take a message, or not, and ask."""
        if turn:
            self.pulse.turn()
        if take:
            self.pulse.take(sender=None)
        return self.pulse.complaint()


def test_an_idle_worker_is_well() -> None:
    """Nothing waits, nothing is taken, and the event loop turns."""
    assert [Bench().ask() for _ in range(3)] == [None] * 3


def test_an_event_loop_that_stands_still_is_a_complaint() -> None:
    """Also when nothing waits: whatever comes would not be taken."""
    assert Bench().ask(turn=False) == STILL


@pytest.mark.parametrize("queue", QUEUES)
def test_messages_that_nobody_takes_are_a_complaint(queue: str) -> None:
    """The loop turns and there is room: the worker looks into the wrong place."""
    bench = Bench()
    bench.redis.hold(queue, 1)
    assert bench.ask() == NOTHING_TAKEN


def test_a_queue_that_moves_is_none() -> None:
    """More waits than is taken, and something was taken since the last look."""
    bench = Bench()
    bench.redis.hold("archive", 1000)
    assert [bench.ask(take=True) for _ in range(3)] == [None] * 3
    assert bench.ask() == NOTHING_TAKEN


def test_a_worker_without_room_takes_nothing() -> None:
    """While every slot has a task, messages may wait as long as they must."""
    bench = Bench(running=2)
    bench.redis.hold("archive", 1000)
    assert bench.ask() is None
    bench.running = 1
    assert bench.ask() == NOTHING_TAKEN


def test_while_redis_is_away_nobody_is_stuck() -> None:
    """No restart would bring it back."""
    bench = Bench()
    bench.redis.is_away = True
    assert bench.ask(turn=False) is None


def test_queues_of_other_workers_do_not_count() -> None:
    """A worker that serves some queues is not blamed for the others."""
    bench = Bench()
    bench.redis.hold("delete", 5)
    bench.pulse.serve(["archive", "sweep"], 2)
    assert bench.ask() is None
    bench.pulse.serve(["delete"], 2)
    assert bench.ask() == NOTHING_TAKEN


def test_every_question_is_asked_through_a_fresh_connection() -> None:
    """What was connected before may lead to a server that nobody else talks to."""
    bench = Bench()
    bench.ask()
    bench.ask()
    assert bench.redis.closed == 3


@dataclass
class Schedule:
    """The pulse of a schedule that sweeps every five minutes."""

    redis: FreshRedis = field(default_factory=FreshRedis)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.pulse = BeatPulse(lambda: self.redis, timedelta(minutes=5), clock=lambda: self.now)
        assert self.pulse.complaint() is None

    def ask(self, *, turn: bool = True) -> str | None:
        if turn:
            self.pulse.turn()
        return self.pulse.complaint()


def test_a_schedule_that_publishes_is_well() -> None:
    """Between two sweeps nothing is published, and nothing is wrong."""
    schedule = Schedule()
    for _ in range(100):
        schedule.now += 300
        assert schedule.ask() is None
        schedule.pulse.publish()


def test_a_schedule_that_stands_still_is_a_complaint() -> None:
    """It is looked at every few seconds, whatever is due."""
    assert Schedule().ask(turn=False) == "the schedule stands still"


def test_a_sweep_that_is_not_published_is_a_complaint() -> None:
    """After two intervals and a minute, while Redis answers others."""
    schedule = Schedule(now=0.0)
    schedule.now = 660.0
    assert schedule.ask() is None
    schedule.now = 661.0
    assert schedule.ask() == "nothing was published when it was due"
    schedule.redis.is_away = True
    assert schedule.ask() is None
