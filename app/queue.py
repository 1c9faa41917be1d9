"""The queue as both sides see it: names, broker options, and publishing bounded in time.

Messages are published by task name, so that the endpoint never imports the code that archives.
"""

import ssl
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from threading import BoundedSemaphore
from time import monotonic, time
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

from celery import Celery
from kombu import Exchange, Producer, Queue
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.receipt import iso
from app.recording import Callback
from app.settings import CommonSettings

ARCHIVE_QUEUE: Final = "archive"
DELETE_QUEUE: Final = "delete"
SWEEP_QUEUE: Final = "sweep"
AUDIT_QUEUE: Final = "audit"
NOTIFY_QUEUE: Final = "notify"
BACKFILL_QUEUE: Final = "backfill"

ARCHIVE_TASK: Final = "archive_recording"
DELETE_TASK: Final = "delete_source"
SWEEP_TASK: Final = "sweep"
AUDIT_TASK: Final = "audit"
NOTIFY_TASK: Final = "deliver_notifications"
BACKFILL_TASK: Final = "backfill_recording"

# A worker takes from the first queue that has something: what is happening now comes before what is long past, and what
# ends a recording before what begins another. For until its source is gone, sweeps enqueue it again: archivals that
# came first would keep their own queue from ever being empty, and no deletion would have its turn.
_QUEUES: Final = {
    SWEEP_TASK: SWEEP_QUEUE,
    AUDIT_TASK: AUDIT_QUEUE,
    DELETE_TASK: DELETE_QUEUE,
    NOTIFY_TASK: NOTIFY_QUEUE,
    ARCHIVE_TASK: ARCHIVE_QUEUE,
    BACKFILL_TASK: BACKFILL_QUEUE,
}
QUEUES: Final = tuple(_QUEUES.values())
TASKS: Final = frozenset(_QUEUES)

# A header of every message, in seconds since 1970: how old the oldest one of a queue is says whether the queue moves.
PUBLISHED_AT: Final = "published_at"

KEY_PREFIX: Final = "recording-archiver:"
OUTBOX: Final = f"{KEY_PREFIX}notifications"  # a sorted set: what is to be sent, by when it is due

# The endpoint answers within 2 s: one attempt to connect and send, and one more after a stale connection.
ENDPOINT_LIMIT_S: Final = 1.2
# Twilio waits for no worker and no command: a moment in which the machine or Redis stands still costs them nothing.
_PATIENT_LIMIT_S: Final = 6.0
_TO_CONNECT, _TO_ANSWER = 1 / 3, 5 / 12  # of such a limit
_SLOTS: Final = 4
_SHORT_WAIT_S: Final = 0.1  # enough for a turn and an answer of Redis; short enough for the threads of an outage
_HINT_TIMEOUT_S: Final = 5.0

# When the request that this thread answers had come, by `time.monotonic()`: it may have waited for the thread.
arrived_at: Final[ContextVar[float]] = ContextVar("arrived_at")


class QueueUnavailableError(Exception):
    """The queue could not take a message; nothing is known to be enqueued."""


def broker_config(settings: CommonSettings) -> dict[str, Any]:
    """Return the Celery settings that publisher and consumer must agree on."""
    url = settings.REDIS_URL.get_secret_value()
    config: dict[str, Any] = {
        "broker_url": url,
        # Named apart, because Celery lets BROKER_URL and CELERY_BROKER_URL of the environment replace the one above.
        "broker_read_url": url,
        "broker_write_url": url,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_default_queue": ARCHIVE_QUEUE,
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        "task_routes": {task: {"queue": queue} for task, queue in _QUEUES.items()},
        "broker_transport_options": {"global_keyprefix": KEY_PREFIX},
    }
    if tls := _tls(settings):
        config["broker_use_ssl"] = tls
    return config


def redis_client(settings: CommonSettings, *, timeout_s: float = _HINT_TIMEOUT_S, once: bool = False) -> Redis:
    """Return a client of the same server under the same TLS policy, for hints that are no messages.

    `timeout_s` bounds connecting and each answer; with `once` nothing is tried a second time. What is there and no
    text, which is none of ours, arrives as other text: no error of decoding is an error of Redis.
    """
    retry = {"retry": Retry(NoBackoff(), 0)} if once else {}
    return Redis.from_url(
        settings.REDIS_URL.get_secret_value(),
        decode_responses=True,
        encoding_errors="replace",
        socket_connect_timeout=timeout_s,
        socket_timeout=timeout_s,
        **retry,
        **_tls(settings),
    )


def _tls(settings: CommonSettings) -> dict[str, Any]:
    """Return the TLS options. A bare rediss:// URL means no certificate check in kombu, so they are spelled out."""
    if urlsplit(settings.REDIS_URL.get_secret_value()).scheme != "rediss":
        return {}
    checked = settings.REDIS_TLS_VERIFY == "full"
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED if checked else ssl.CERT_NONE, "ssl_check_hostname": checked}


class Publisher:
    """Puts work on the queue, or says within `limit_s` that it could not. Thread-safe.

    Connects when first used, so that it may be made before a fork. A burst waits for its turn; but while Redis is away
    only `_SLOTS` attempts wait for it, and everybody else is told soon: an outage must not use up the threads that
    answer Twilio.
    """

    def __init__(self, settings: CommonSettings, *, limit_s: float = _PATIENT_LIMIT_S) -> None:
        self._limit_s = limit_s
        connect_s, answer_s = limit_s * _TO_CONNECT, limit_s * _TO_ANSWER
        self._attempt_s = 2 * answer_s  # on a connection: to send, and to be answered
        self._celery = Celery("recording-archiver-publisher", set_as_current=False)
        config = broker_config(settings)
        config["broker_transport_options"] |= {
            "socket_connect_timeout": connect_s,
            "socket_timeout": answer_s,
            "retry_on_timeout": False,
            # kombu would go on connecting for ever; whoever asked has given up by then.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
        }
        config["broker_connection_timeout"] = connect_s
        self._celery.conf.update(config)
        self._slots = BoundedSemaphore(_SLOTS)
        self._failing = False  # whether the last attempt was in vain; a hint, so no lock
        self._connected: deque[Producer] = deque()  # connections that nobody uses now, the last one used at the end
        # Threads of its own, to connect in: whoever waits for one can go before it ends. What is connected is bounded
        # by its socket, and used by whoever needs it: handing it over costs as much as what is sent.
        self._threads = ThreadPoolExecutor(max_workers=_SLOTS, thread_name_prefix="publisher")

    def publish_callback(self, callback: Callback) -> None:
        """Enqueue the archiving that a callback asks for. Returns only after Redis has taken the message.

        Raises `QueueUnavailableError`.
        """
        self.publish(
            ARCHIVE_TASK,
            account_sid=callback.account_sid,
            recording_sid=callback.recording_sid,
            callback={**callback.fields, "received_at": iso(callback.received_at)},
            unknown_names=callback.unknown_names,
            idempotency_token=callback.idempotency_token,
        )

    def publish(self, task: str, *, expires_s: float | None = None, **message: Any) -> None:
        """Enqueue one message for `task`; with `expires_s`, a worker drops it when it comes later than that.

        Returns only after Redis has taken the message. Raises `QueueUnavailableError` within `limit_s` of the
        arrival of what is answered; the message may then still arrive, which does no harm.
        """

        def send(producer: Producer) -> None:
            # Straight to the task's queue, as `send_task` would after looking for routes and listeners that we don't
            # have: they take half of its time. The message's repr would be for monitors that we don't use.
            made = self._celery.amqp.as_task_v2(
                str(uuid4()), task, kwargs=message, expires=expires_s, argsrepr="", kwargsrepr="", ignore_result=True
            )
            producer.publish(
                made.body,
                exchange="",
                routing_key=_QUEUES[task],
                serializer="json",
                headers={**made.headers, PUBLISHED_AT: time()},
                **made.properties,
            )

        self._bounded(send)

    def ping(self) -> None:
        """Ask the broker whether it answers. Raises `QueueUnavailableError` within `limit_s`."""

        def ping(producer: Any) -> None:  # kombu's types don't know the Redis channel
            with producer.channel.conn_or_acquire() as client:
                client.ping()

        self._bounded(ping)

    def _bounded(self, act: Callable[[Producer], object]) -> None:
        deadline = arrived_at.get(monotonic()) + self._limit_s
        turn_s = _SHORT_WAIT_S if self._failing else self._limit_s
        if not self._slots.acquire(timeout=max(0.0, min(turn_s, deadline - monotonic()))):
            raise QueueUnavailableError("the queue does not answer")
        handed_over = False
        try:
            if deadline - monotonic() > self._attempt_s and self._act_connected(act):
                self._failing = False
                return
            attempt = self._threads.submit(self._act_in_slot, act)
            handed_over = True
        except RuntimeError:
            raise QueueUnavailableError("the process is stopping") from None
        finally:
            if not handed_over:
                self._slots.release()
        try:
            attempt.result(timeout=max(_SHORT_WAIT_S, deadline - monotonic()))
        except Exception as error:
            # Whatever went wrong (refused, silent, full, read-only, unknown name), nothing was confirmed. The attempt
            # may still go on: no socket option bounds the time of a name look-up.
            self._failing = True
            raise QueueUnavailableError(f"the queue did not take the message: {type(error).__name__}") from error
        self._failing = False

    def _act_in_slot(self, act: Callable[[Producer], object]) -> None:
        """Act with any connection, and release the slot whenever this ends."""
        try:
            if self._act_connected(act):
                return
            producer: Any = self._celery.amqp.Producer(self._celery.connection_for_write(), auto_declare=False)
            try:
                producer.channel.async_pool.disconnect()  # a second connection, for consumers; plans count each one
                act(producer)
            except Exception:
                _disconnect(producer)
                raise
            self._connected.append(producer)
        finally:
            self._slots.release()

    def _act_connected(self, act: Callable[[Producer], object]) -> bool:
        """Act within `_attempt_s` with a connection that is there; tell whether there was one that worked.

        One from before a Redis restart or failover is thrown away.
        """
        try:
            producer = self._connected.pop()
        except IndexError:
            return False
        try:
            act(producer)
        except Exception:
            _disconnect(producer)
            return False
        self._connected.append(producer)
        return True


def _disconnect(producer: Any) -> None:  # kombu's types don't know the Redis transport
    with suppress(Exception):  # what is being thrown away may be broken in any way
        connection = producer.connection
        poller = connection.transport.cycle.poller
        connection.release()
        poller.close()  # kombu leaves this file descriptor to the garbage collector, which may come late
