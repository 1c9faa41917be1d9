"""What is true of the whole service and not of one process, as Redis knows it: its queues, and what was last reported.

Every process that is scraped shows it, for on some platforms only `web` can be. Hints like all that Redis holds: gone
with it, and posted anew by the next sweep and the next audit.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from time import time
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import Redis
from redis.exceptions import RedisError

from app.queue import KEY_PREFIX, OUTBOX, PUBLISHED_AT, QUEUES

SWEEP: Final = "sweep"  # a frequent one, in which no account was left out
FULL_SWEEP: Final = "full_sweep"  # one without a date bound
DELETIONS: Final = "deletions"
AUDIT: Final = "audit"
COMPLETE_AUDIT: Final = "complete_audit"  # every account could be read
ALARM: Final = "alarm_"  # followed by the name of an event

# What calls for a person, shown with 0 from the beginning: a counter that appears with 1 has not increased.
ALARMS: Final = (
    "account_not_audited",
    "account_not_configured",
    "attempt_crashed",
    "deletions_paused",
    "encrypted_with_another_key",
    "listed_recording_malformed",
    "metrics_not_served",
    "notifications_given_up",
    "process_wedged",
    "recording_lost",
    "recording_quarantined",
    "recordings_lost",
    "request_failed",
    "watchdog_failed",
)
_BOARD: Final = f"{KEY_PREFIX}board"
_UNACKNOWLEDGED: Final = f"{KEY_PREFIX}unacked_index"  # kombu's: taken by a worker and not done yet
_AT: Final = "at"
_STATE: Final = "state_"  # begins the number of an audit state
_NAME: Final = re.compile(r"[a-z_]{1,40}")  # whoever can write to Redis makes no other labels
_MAX_NUMBERS: Final = 50

Facts = Mapping[str, Mapping[str, float]]


class Board:
    """Posts facts; what can't be posted now is posted the next time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def post(self, fact: str, /, **numbers: float) -> None:
        """Replace what is known of a fact, as of now."""
        with suppress(RedisError):
            self._redis.hset(_BOARD, fact, json.dumps({**numbers, _AT: time()}))

    def count(self, fact: str) -> None:
        """Count one more of something."""
        with suppress(RedisError):
            self._redis.hincrby(_BOARD, fact, 1)


class BoardCollector(Collector):
    """Reads queues and board whenever it is scraped. `connect` makes a client that tries once, bounded in time."""

    def __init__(self, connect: Callable[[], Redis], clock: Callable[[], float] = time) -> None:
        self._connect = connect
        self._clock = clock

    def describe(self) -> list[Metric]:
        """Promise nothing, so that nothing is read when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all that Redis tells; when it does not answer, only that."""
        is_up = GaugeMetricFamily("archiver_redis_up", "Whether Redis answered this process just now.", value=1)
        try:
            with closing(self._connect()) as redis:
                queues, unacknowledged, untold, facts = _read(redis, self._clock())
        except RedisError:
            is_up.samples.clear()
            is_up.add_metric([], 0)
            yield is_up
            return
        yield is_up
        yield from _of_queues(queues, unacknowledged)
        yield from _of_notifications(*untold)
        yield from _of_sweep(facts)
        yield from _of_audit(facts)
        yield _of_alarms(facts)


def read_queues(redis: Redis, now: float) -> Mapping[str, tuple[int, float]]:
    """Return depth and oldest age in seconds of each queue. Raises `RedisError`."""
    return _read(redis, now)[0]


def _read(redis: Redis, now: float) -> tuple[dict[str, tuple[int, float]], int, tuple[int, float], Facts]:
    """Return depth and oldest age in seconds of each queue, how many messages are unacknowledged, and the board.

    Before the board, how many notifications wait, and how many seconds the first of them has been due.
    """
    with redis.pipeline(transaction=False) as pipeline:
        for queue in QUEUES:
            pipeline.llen(KEY_PREFIX + queue)
            pipeline.lindex(KEY_PREFIX + queue, -1)  # publishers push on the left
        pipeline.zcard(_UNACKNOWLEDGED)
        pipeline.zcard(OUTBOX)
        pipeline.zrange(OUTBOX, 0, 0, withscores=True)
        pipeline.hgetall(_BOARD)
        *of_queues, unacknowledged, untold, first, board = pipeline.execute()
    depths, oldest = of_queues[::2], of_queues[1::2]
    ages = [_age(message, now) for message in oldest]
    queues = {queue: (depth, age) for queue, depth, age in zip(QUEUES, depths, ages, strict=True)}
    overdue_s = max(0.0, now - first[0][1]) if first else 0.0
    facts = {str(name): _numbers(text) for name, text in board.items()}
    return queues, int(unacknowledged), (int(untold), overdue_s), facts


def _age(message: str | None, now: float) -> float:
    """Return how many seconds ago a message was published; 0 where there is none or it does not say."""
    if message is None:
        return 0.0
    try:
        published_at = float(json.loads(message)["headers"][PUBLISHED_AT])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return 0.0
    return max(0.0, now - published_at) if math.isfinite(published_at) else 0.0


def _numbers(text: str) -> dict[str, float]:
    """Return the numbers of a fact by their names, a plain number under no name; what is neither is left out."""
    try:
        raw: Any = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    named = raw if isinstance(raw, dict) else {"": raw}
    return {
        name: float(value)
        for name, value in list(named.items())[:_MAX_NUMBERS]
        if isinstance(value, int | float) and _is_finite(value) and (not name or _NAME.fullmatch(name))
    }


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number that no float can hold
        return False


def _of_queues(queues: Mapping[str, tuple[int, float]], unacknowledged: int) -> Iterator[Metric]:
    depth = GaugeMetricFamily("archiver_queue_depth", "Messages that wait, by queue.", labels=["queue"])
    age = GaugeMetricFamily(
        "archiver_queue_oldest_age_seconds",
        "Time since the oldest waiting message was published, by queue; 0 when none waits.",
        labels=["queue"],
    )
    for queue, (messages, oldest_s) in queues.items():
        depth.add_metric([queue], messages)
        age.add_metric([queue], oldest_s)
    yield depth
    yield age
    yield GaugeMetricFamily(
        "archiver_queue_unacknowledged", "Messages that workers have taken and not finished.", value=unacknowledged
    )


def _of_notifications(waiting: int, overdue_s: float) -> Iterator[Metric]:
    yield GaugeMetricFamily("archiver_notifications_waiting", "Notifications that wait to be sent.", value=waiting)
    yield GaugeMetricFamily(
        "archiver_notifications_oldest_age_seconds",
        "Time since a notification is due that has not been taken; 0 when none is.",
        value=overdue_s,
    )


def _of_sweep(facts: Facts) -> Iterator[Metric]:
    ended = GaugeMetricFamily(
        "archiver_sweep_last_success_timestamp_seconds",
        "When a sweep last looked at every account: at what is recent, or at everything that Twilio lists.",
        labels=["kind"],
    )
    enqueued = GaugeMetricFamily(
        "archiver_sweep_enqueued", "How many recordings the last sweep of that kind enqueued.", labels=["kind"]
    )
    for kind, fact in (("recent", SWEEP), ("everything", FULL_SWEEP)):
        numbers = facts.get(fact, {})
        if {_AT, "enqueued"} <= numbers.keys():
            ended.add_metric([kind], numbers[_AT])
            enqueued.add_metric([kind], numbers["enqueued"])
    yield from (family for family in (ended, enqueued) if family.samples)
    yield from _gauge(
        "archiver_deletions_paused",
        "Whether the stop switch was set when a sweep last looked at it.",
        facts.get(DELETIONS, {}).get("paused"),
    )


def _of_audit(facts: Facts) -> Iterator[Metric]:
    audit = facts.get(AUDIT, {})
    yield from _gauge(
        "archiver_audit_last_success_timestamp_seconds",
        "When an audit last compared all of every account.",
        facts.get(COMPLETE_AUDIT, {}).get(_AT),
    )
    yield from _gauge(
        "archiver_audit_deletions_pending",
        "Deletions at Twilio that are due and that nothing forbids, and that have not come about, by the last audit.",
        audit.get("deletions_pending"),
    )
    yield from _gauge(
        "archiver_audit_unconfigured_accounts",
        "Active accounts at Twilio that the last audit could see and that nobody archives.",
        audit.get("unconfigured_accounts"),
    )
    found = GaugeMetricFamily(
        "archiver_audit_recordings", "Recordings that the last audit found, by state.", labels=["state"]
    )
    for name, count in sorted(audit.items()):
        if name.startswith(_STATE):
            found.add_metric([name.removeprefix(_STATE)], count)
    if found.samples:
        yield found


def _of_alarms(facts: Facts) -> Metric:
    alarms = CounterMetricFamily(
        "archiver_alarms", "Lines of all logs of level error, by their event.", labels=["event"]
    )
    posted = {name.removeprefix(ALARM): numbers for name, numbers in facts.items() if name.startswith(ALARM)}
    for event in (*ALARMS, *sorted(set(posted) - set(ALARMS))[:_MAX_NUMBERS]):
        if _NAME.fullmatch(event):
            alarms.add_metric([event], posted.get(event, {}).get("", 0))
    return alarms


def _gauge(name: str, meaning: str, value: float | None) -> Iterator[Metric]:
    """Yield a gauge, or nothing where its value is not known: that can be alerted upon, and 0 would lie."""
    if value is not None:
        yield GaugeMetricFamily(name, meaning, value=value)


def of_audit(states: Mapping[str, int]) -> dict[str, float]:
    """Return the numbers of an audit's states, for `Board.post`."""
    return {f"{_STATE}{state}": count for state, count in states.items()}
