"""The queue as both sides see it: names, broker options, and publishing bounded in time.

Messages are published by task name, so that the endpoint never imports the code that archives.
"""

import ssl
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError
from redis import Redis

from app.recording import Callback
from app.settings import CommonSettings

ARCHIVE_QUEUE: Final = "archive"
DELETE_QUEUE: Final = "delete"
SWEEP_QUEUE: Final = "sweep"

ARCHIVE_TASK: Final = "archive_recording"
DELETE_TASK: Final = "delete_source"
SWEEP_TASK: Final = "sweep"

_QUEUES: Final = {ARCHIVE_TASK: ARCHIVE_QUEUE, DELETE_TASK: DELETE_QUEUE, SWEEP_TASK: SWEEP_QUEUE}

KEY_PREFIX: Final = "recording-archiver:"

# The endpoint answers within 2 s: one attempt to connect and send, and one more after a stale connection.
_CONNECT_TIMEOUT_S: Final = 0.4
_ANSWER_TIMEOUT_S: Final = 0.5
_HINT_TIMEOUT_S: Final = 5.0


class QueueUnavailableError(Exception):
    """The queue could not take a message; nothing is known to be enqueued."""


def broker_config(settings: CommonSettings) -> dict[str, Any]:
    """Return the Celery settings that publisher and consumer must agree on."""
    url = settings.REDIS_URL.get_secret_value()
    config: dict[str, Any] = {
        "broker_url": url,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_default_queue": ARCHIVE_QUEUE,
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in sorted(set(_QUEUES.values()))],
        "task_routes": {task: {"queue": queue} for task, queue in _QUEUES.items()},
        "broker_transport_options": {"global_keyprefix": KEY_PREFIX},
    }
    if tls := _tls(settings):
        config["broker_use_ssl"] = tls
    return config


def redis_client(settings: CommonSettings) -> Redis:
    """Return a client of the same server under the same TLS policy, for hints that are no messages."""
    return Redis.from_url(
        settings.REDIS_URL.get_secret_value(),
        decode_responses=True,
        socket_connect_timeout=_HINT_TIMEOUT_S,
        socket_timeout=_HINT_TIMEOUT_S,
        **_tls(settings),
    )


def _tls(settings: CommonSettings) -> dict[str, Any]:
    """Return the TLS options. A bare rediss:// URL means no certificate check in kombu, so they are spelled out."""
    if urlsplit(settings.REDIS_URL.get_secret_value()).scheme != "rediss":
        return {}
    checked = settings.REDIS_TLS_VERIFY == "full"
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED if checked else ssl.CERT_NONE, "ssl_check_hostname": checked}


class Publisher:
    """Puts work on the queue. Thread-safe; connects when first used."""

    def __init__(self, settings: CommonSettings) -> None:
        self._celery = Celery("recording-archiver-publisher", set_as_current=False)
        config = broker_config(settings)
        config["broker_transport_options"] |= {
            "socket_connect_timeout": _CONNECT_TIMEOUT_S,
            "socket_timeout": _ANSWER_TIMEOUT_S,
            "retry_on_timeout": False,
        }
        config["broker_connection_timeout"] = _CONNECT_TIMEOUT_S
        # One immediate retry: the pooled connection may be from before a Redis restart.
        config["task_publish_retry_policy"] = {"max_retries": 1, "interval_start": 0, "interval_max": 0}
        self._celery.conf.update(config)

    def publish_callback(self, callback: Callback) -> None:
        """Enqueue the archiving that a callback asks for. Returns only after Redis has taken the message.

        Raises `QueueUnavailableError`.
        """
        self.publish(
            ARCHIVE_TASK,
            account_sid=callback.account_sid,
            recording_sid=callback.recording_sid,
            callback={**callback.fields, "received_at": _iso(callback.received_at)},
            unknown_names=callback.unknown_names,
            idempotency_token=callback.idempotency_token,
        )

    def publish(self, task: str, *, expires_s: float | None = None, **message: Any) -> None:
        """Enqueue one message for `task`; with `expires_s`, a worker drops it when it comes later than that.

        Raises `QueueUnavailableError`.
        """
        try:
            # The message's repr travels in a header of its own, for monitors that we don't use.
            self._celery.send_task(task, kwargs=message, expires=expires_s, argsrepr="", kwargsrepr="")
        except OperationalError as error:
            raise QueueUnavailableError("the queue did not take the message") from error

    def ping(self) -> None:
        """Ask the broker whether it answers. Raises `QueueUnavailableError`."""
        try:
            with self._celery.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=1)
        except OperationalError as error:
            raise QueueUnavailableError("the queue does not answer") from error


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
