"""What the watchdog asks of a worker and of the schedule: does the work move?

A process that lives says nothing. A worker is stuck when its event loop stands still, or when messages wait and it
takes none although it has room: so it notices a connection that is dead and looks alive, and one to a server that is
no longer the one that everybody else talks to. Redis is asked through a fresh connection each time. While Redis
itself is away nobody is stuck: no restart would help.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from time import monotonic
from typing import Any, Final

from celery import bootsteps, signals
from celery.beat import ScheduleEntry, Scheduler
from celery.worker import state
from redis import Redis
from redis.exceptions import RedisError

from app.queue import KEY_PREFIX, QUEUES

_SPARE: Final = timedelta(minutes=1)

Connect = Callable[[], Redis]


class WorkerPulse:
    """Signs of life of a worker. `connect` makes a client that tries once and is bounded in time."""

    def __init__(
        self, connect: Connect, slots: int, running: Callable[[], int] = lambda: len(state.active_requests)
    ) -> None:
        """Start as if everything had just moved; `slots` is how many tasks run at most, `running` how many do now."""
        self._connect = connect
        self._slots = slots
        self._running = running
        self._queues: Sequence[str] = QUEUES
        self._turns = self._taken = 0
        self._seen = (-1, -1)

    def is_busy(self) -> bool:
        """Tell whether any task is running."""
        return self._running() > 0

    def complaint(self) -> str | None:
        """Say what has not moved since the last time that this was asked; None while all is well."""
        (turns, taken), self._seen = self._seen, (self._turns, self._taken)
        waiting = self._waiting()
        if waiting is None:
            return None
        if turns == self._turns:
            return "the event loop stands still"
        if waiting and taken == self._taken and self._running() < self._slots:
            return "messages wait and none is taken"
        return None

    def _waiting(self) -> int | None:
        """Return how many messages wait in the queues that this worker serves; None when Redis does not answer."""
        try:
            with closing(self._connect()) as redis:
                return sum(int(redis.llen(KEY_PREFIX + queue)) for queue in self._queues)
        except RedisError:
            return None

    def serve(self, queues: Sequence[str], slots: int) -> None:
        """Note which queues are served, and how many tasks run at most."""
        self._queues, self._slots = queues, slots

    def turn(self) -> None:
        """Note that the event loop has turned."""
        self._turns += 1

    def take(self, **_signal: Any) -> None:
        """Note that a message was taken."""
        self._taken += 1

    def step(self, every_s: float) -> type[bootsteps.StartStopStep]:
        """Return the step that lets a consumer show its pulse from its own event loop, after each reconnect anew."""
        pulse = self

        class Pulse(bootsteps.StartStopStep):
            requires = ("celery.worker.consumer.tasks:Tasks",)

            def start(self, consumer: Any) -> None:
                pulse.serve([queue.name for queue in consumer.task_consumer.queues], consumer.pool.limit)
                self.timer = consumer.timer.call_repeatedly(every_s, pulse.turn)

            def stop(self, consumer: Any) -> None:
                self.timer.cancel()

        signals.task_received.connect(pulse.take, weak=False)
        return Pulse


class BeatPulse:
    """Signs of life of the schedule: it turns, and has published its sweep not too long ago."""

    def __init__(self, connect: Connect, interval: timedelta, clock: Callable[[], float] = monotonic) -> None:
        """Start as if a sweep had just been published; `interval` is that of the sweeps."""
        self._connect = connect
        self._overdue_after_s = (2 * interval + _SPARE).total_seconds()
        self._clock = clock
        self._published_at = clock()
        self._turns, self._seen = 0, -1

    def complaint(self) -> str | None:
        """Say what has not moved since this was last asked; None while all is well."""
        turns, self._seen = self._seen, self._turns
        if not self._redis_answers():
            return None
        if turns == self._turns:
            return "the schedule stands still"
        if self._clock() - self._published_at > self._overdue_after_s:
            return "nothing was published when it was due"
        return None

    def _redis_answers(self) -> bool:
        try:
            with closing(self._connect()) as redis:
                return bool(redis.ping())
        except RedisError:
            return False

    def turn(self) -> None:
        """Note that the schedule has been looked at."""
        self._turns += 1

    def publish(self) -> None:
        """Note that the broker took a message."""
        self._published_at = self._clock()

    def scheduler(self) -> type[Scheduler]:
        """Return the scheduler that shows this pulse."""
        pulse = self

        class PulsingScheduler(Scheduler):
            def tick(self, *args: Any, **options: Any) -> Any:
                pulse.turn()
                return super().tick(*args, **options)

            def apply_async(self, entry: ScheduleEntry, *args: Any, **options: Any) -> Any:
                published = super().apply_async(entry, *args, **options)
                pulse.publish()
                return published

        return PulsingScheduler
