"""Take nothing from the queue but messages of ours: junk is dropped, and what is in it is not said.

Celery's own consumer logs word for word what it can't make sense of, and some of it makes it die, get the same message
again, and die again (https://github.com/celery/celery/blob/v5.7.0/celery/worker/consumer/consumer.py).
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from celery.worker.consumer import Consumer
from kombu.message import Message

from app.queue import SWEEP_TASK, TASKS

_MOST_RETRIES: Final = 100
_FARTHEST: Final = timedelta(hours=1)  # what is to be done later sits in this process's memory
_UNUSED: Final = ("shadow", "group", "group_index", "compression", "stamped_headers", "stamps")

log = structlog.get_logger()


class CarefulConsumer(Consumer):
    """Celery's consumer, which is handed only messages that a publisher of ours could have sent."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], None]:
        """Return what takes each message. Junk is acknowledged, or it would come back for ever."""
        handle = super().create_task_handler(*args, **kwargs)

        def take(message: Message) -> None:
            now = datetime.now(UTC)
            fault = fault_of(message, now)
            if fault is None:
                _tell_if_expired(message.headers, now)
                handle(message)
            else:
                self._drop(message, fault)

        return take

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Drop what can't even be unpacked."""
        self._drop(message, type(exc).__name__)

    def _drop(self, message: Message, fault: str) -> None:
        log.warning("junk_message", fault=fault)
        message.ack()


def fault_of(message: Message, now: datetime) -> str | None:
    """Return in a static word what makes a message none of ours; None when it is one."""
    headers: Any = message.headers
    if not isinstance(headers.get("task"), str) or headers["task"] not in TASKS:
        return "task"
    if not isinstance(headers.get("id"), str):
        return "id"
    if not isinstance(headers.get("retries"), int) or not 0 <= headers["retries"] <= _MOST_RETRIES:
        return "retries"
    if headers.get("timelimit") not in ([None, None], None) or any(headers.get(name) for name in _UNUSED):
        return "options"
    if not (_is_moment(headers.get("expires")) and _is_moment(headers.get("eta"), now + _FARTHEST)):
        return "time"
    if message.content_type != "application/json":
        return "content_type"
    try:
        args, message_kwargs, embedded = message.decode()
    except Exception:  # whatever is wrong with it, and however it is said
        return "body"
    if args != [] or not isinstance(message_kwargs, dict) or not isinstance(embedded, dict):
        return "body"
    if "self" in message_kwargs:  # which is what Celery calls the task itself
        return "body"
    return "embedded" if any(embedded.values()) else None


def _tell_if_expired(headers: Any, now: datetime) -> None:
    """Say that Celery is about to drop a message whose time is over, which it does almost without a word.

    A later sweep sends what was dropped again. But if the sweeps themselves expire, then all workers were too busy for
    an hour, or this machine's clock is ahead of the scheduler's.
    """
    late_s = (now - datetime.fromisoformat(headers["expires"])).total_seconds() if headers.get("expires") else 0.0
    if late_s <= 0:
        return
    if headers["task"] == SWEEP_TASK:
        log.warning("sweep_expired", late_s=round(late_s), mend="compare the clocks: archiver check")
    else:
        log.info("message_expired", task=headers["task"], late_s=round(late_s))


def _is_moment(value: object, latest: datetime | None = None) -> bool:
    """Tell whether a header is None or a time as Celery writes it, at `latest` then."""
    if value is None:
        return True
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return moment.tzinfo is not None and (latest is None or moment <= latest)
