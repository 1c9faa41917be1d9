"""Notifications: what has happened is told to a receiver of the operator's, and nothing waits for it.

Whoever decides tells; what is told waits in Redis, and a task of its own sends it, one at a time in the whole service,
until the receiver has taken it. Without Redis it is not told: the daily audit's totals say how many there should be.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from time import monotonic, time
from typing import Any, Final, TypeVar

import structlog
from redis import Redis
from redis.exceptions import RedisError

from app.queue import KEY_PREFIX, NOTIFY_TASK, OUTBOX, Publisher, QueueUnavailableError, redis_client
from app.receipt import Filing, Receipt, iso, parse_iso
from app.settings import WorkerSettings
from workers.daily_audit import report_key
from workers.errors import TemporaryError
from workers.hints import Hints
from workers.judgement import State
from workers.metrics import NOTIFICATIONS
from workers.reports import Report
from workers.webhook import Receiver, ReceiverRefusedError

MAX_WAITING: Final = 10_000  # about a kilobyte each, in a Redis whose messages must find room
KEPT_FOR: Final = timedelta(days=3)
REMEMBERED: Final = timedelta(hours=2)  # longer than it takes a dead worker's message to come back
_RUN_S: Final = 5.0  # a run holds one of the threads that archive
_REDIS_TIMEOUT_S: Final = 1.0
_SHORTEST_REST_S: Final = 2.0  # before one that was refused is sent again, and then as long as it has waited
_LONGEST_REST_S: Final = 60 * 60.0
_CLOCKS_APART_S: Final = 10.0  # what one machine tells is due at once by the clock of another, which sends it
_MAX_NAMED: Final = 100

T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Notification:
    """What is to be sent. Signed when it was told, so that whoever can write to Redis can't tell anything."""

    id: str
    at: int
    body: str
    signature: str


class Outbox:
    """What waits to be sent, by when it is due. Raises `RedisError`."""

    def __init__(self, redis: Redis) -> None:
        """Take a client that tries once: its connection may be from before a restart of Redis."""
        self._redis = redis

    def put(self, notification: Notification) -> bool:
        """Keep a notification unless the same was told lately; return whether it is the only one that is due."""
        told = f"{KEY_PREFIX}told:{notification.id}"

        def put() -> bool:
            if self._redis.exists(told):
                return False
            with self._redis.pipeline() as pipeline:
                told_at = time() - _CLOCKS_APART_S  # finer than `at`: in the order told
                pipeline.zadd(OUTBOX, {json.dumps(asdict(notification)): told_at})
                pipeline.set(told, "told", ex=REMEMBERED)
                pipeline.zremrangebyrank(OUTBOX, 0, -MAX_WAITING - 1)
                pipeline.zcount(OUTBOX, "-inf", time())
                *_, too_many, due = pipeline.execute()
            _give_up(int(too_many))
            return int(due) == 1

        return _twice(put)

    def next(self) -> str | None:
        """Return what has been due the longest, as it was put."""
        found = _twice(lambda: self._redis.zrangebyscore(OUTBOX, "-inf", time(), start=0, num=1))
        return str(found[0]) if found else None

    def remove(self, item: str) -> None:
        """Forget what was sent."""
        _twice(lambda: self._redis.zrem(OUTBOX, item))

    def discard_first(self) -> None:
        """Forget what has been due the longest, whatever bytes it is made of."""
        _twice(lambda: self._redis.zremrangebyrank(OUTBOX, 0, 0))

    def put_off(self, item: str, for_s: float) -> None:
        """Let it be due later."""
        _twice(lambda: self._redis.zadd(OUTBOX, {item: time() + for_s}, xx=True))


class Notifier:
    """Tells, and sends what was told; does nothing where NOTIFY_URL is not set. Telling raises nothing."""

    def __init__(self, settings: WorkerSettings, publisher: Publisher, hints: Hints) -> None:
        """Take the settings, and what wakes the task that sends. Connects when first used."""
        self._receiver = Receiver.of(settings)
        self._place = f"s3://{settings.ARCHIVE_BUCKET}/"
        self._prefix = settings.ARCHIVE_PREFIX
        self._threshold = settings.QUARANTINE_AFTER
        self._settings = settings
        self._publisher = publisher
        self._hints = hints

    @cached_property
    def _outbox(self) -> Outbox:
        """The outbox, of which nobody knows where nothing is told."""
        return Outbox(redis_client(self._settings, timeout_s=_REDIS_TIMEOUT_S, once=True))

    # What is told

    def archived(self, filing: Filing, receipt: Receipt) -> None:
        """Tell that a recording has its receipt; nothing of one that has had it for long."""
        if datetime.now(UTC) - parse_iso(receipt.archived_at) > REMEMBERED:
            return
        data = {
            **_sids(filing),
            "call_sid": receipt.call_sid,
            "conference_sid": receipt.conference_sid,
            "media": {
                "uri": self._place + receipt.media.key,
                "version_id": receipt.media.version_id,
                "bytes": receipt.media.bytes,
                "sha256": receipt.media.sha256,
            },
            "receipt": self._place + filing.receipt,
            "archived_at": receipt.archived_at,
        }
        self._tell("recording.archived", filing.recording_sid, data)

    def deleted(self, filing: Filing) -> None:
        """Tell that a recording is gone from Twilio, and has its deletion receipt."""
        data = {**_sids(filing), "receipt": self._place + filing.receipt, "deletion": self._place + filing.deletion}
        self._tell("recording.deleted", filing.recording_sid, data)

    def quarantined(self, filing: Filing, reason: str, attempts: int) -> None:
        """Tell that the content of a recording failed for the first time, or often enough to need a person."""
        if attempts not in (1, self._threshold):
            return
        data = {
            **_sids(filing),
            "reason": reason,
            "attempts": attempts,
            "needs_person": attempts >= self._threshold,
            "quarantine": self._place + filing.quarantine,
        }
        self._tell("recording.quarantined", f"{filing.recording_sid} {attempts} {datetime.now(UTC).date()}", data)

    def audited(self, report: Report) -> None:
        """Tell what the audit of a day found, and what is lost in a notification of its own."""
        day = report.began.date()
        found = {"day": str(day), "report": self._place + report_key(self._prefix, day, "json")}
        totals = report.all_totals()
        self._tell("audit.completed", str(day), {**found, "complete": report.complete, "totals": totals})
        if lost := report.total(State.LOST):
            named = report.exceptions.get(State.LOST, [])[:_MAX_NAMED]
            sids = [{"account_sid": each.account_sid, "recording_sid": each.recording_sid} for each in named]
            self._tell("audit.lost", str(day), {**found, "count": lost, "recordings": sids})

    def _tell(self, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        if self._receiver is None:
            return
        now = datetime.now(UTC)
        body = json.dumps({"type": kind, "timestamp": iso(now), "data": data}, separators=(",", ":"))
        # The same for the same, so that a receiver can tell what came twice.
        digest = hashlib.sha256("\n".join((kind, self._place, self._prefix, subject)).encode()).hexdigest()
        webhook_id, at = f"msg_{digest[:32]}", int(now.timestamp())
        signature = self._receiver.sign(webhook_id, at, body)
        try:
            is_first = self._outbox.put(Notification(webhook_id, at, body, signature))
        except RedisError as error:
            NOTIFICATIONS.labels("lost").inc()
            log.warning("notification_lost", type=kind, error=type(error).__name__)
            return
        if is_first:
            self._ask_for_delivery()

    def wake(self) -> None:
        """Ask for the delivery of what is due, if anything is: whoever should have done it may have died."""
        if self._receiver is None:
            return
        try:
            is_due = self._outbox.next() is not None
        except RedisError:
            return
        if is_due:
            self._ask_for_delivery()

    def _ask_for_delivery(self) -> None:
        try:
            self._publisher.publish(NOTIFY_TASK)
        except QueueUnavailableError as error:
            log.warning("delivery_not_enqueued", detail=str(error))  # the next sweep wakes it

    # What is sent

    def deliver(self) -> None:
        """Send what is due, for some seconds. Raises `TemporaryError` when the receiver did not take all of it."""
        if self._receiver is None:
            return
        try:
            with self._hints.lease("notify") as free:
                if not free:
                    return
                self._deliver(self._receiver, monotonic() + _RUN_S)
        except RedisError as error:
            raise TemporaryError("outbox_unreachable", type(error).__name__) from None
        self.wake()  # also for what was told while the lease was held, whose own task did nothing

    def _deliver(self, receiver: Receiver, until: float) -> None:
        refused: ReceiverRefusedError | None = None
        while monotonic() < until and (item := self._outbox.next()) is not None:
            told = _read(item, receiver)
            if told is None:
                self._outbox.discard_first()
                continue
            age_s = time() - told.at
            if age_s > KEPT_FOR.total_seconds():
                self._outbox.remove(item)
                _give_up(1)
                continue
            try:
                receiver.post(told.id, told.body)
            except ReceiverRefusedError as error:
                refused = error  # the next one may be taken
                NOTIFICATIONS.labels("failed").inc()
                self._outbox.put_off(item, min(_LONGEST_REST_S, max(_SHORTEST_REST_S, age_s)))
            except TemporaryError:
                NOTIFICATIONS.labels("failed").inc()
                raise
            else:
                self._outbox.remove(item)
                NOTIFICATIONS.labels("delivered").inc()
        if refused is not None:
            raise refused


def _sids(filing: Filing) -> dict[str, str]:
    return {"account_sid": filing.account_sid, "recording_sid": filing.recording_sid}


def _read(item: str, receiver: Receiver) -> Notification | None:
    """Read what waited; None, and a warning without any of it, where it is none of ours."""
    try:
        told = Notification(**json.loads(item))
        if receiver.is_ours(told.id, told.at, told.body, told.signature):
            return told
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    log.warning("junk_notification")
    return None


def _give_up(count: int) -> None:
    if count:
        NOTIFICATIONS.labels("lost").inc(count)
        log.error("notifications_given_up", count=count)


def _twice(ask: Callable[[], T]) -> T:
    """Ask Redis, and once more: the connection may be one that the server has closed."""
    try:
        return ask()
    except RedisError:
        return ask()
