"""What the consumer takes for a message of ours: all that our publishers send, and nothing else."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from celery import Celery
from kombu.message import Message
from structlog.testing import capture_logs

from app.queue import TASKS
from workers.consumer import CarefulConsumer, fault_of

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
NOTHING = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
ID = "2b7e1516-28ae-d2a6-abf7-158809cf4f3c"


def as_celery_sends(task: str, **options: Any) -> Message:
    """Return a message as Celery itself makes it."""
    kwargs = {"account_sid": "AC1", "callback": {"RecordingSid": "RE1"}, "unknown_names": []}
    sent = Celery(set_as_current=False).amqp.as_task_v2(ID, task, kwargs=kwargs, now=NOW, **options)
    return message(json.dumps(sent.body).encode(), sent.headers)


def message(body: bytes, headers: Any, content_type: str = "application/json") -> Message:
    return Message(
        body=body, headers=headers, content_type=content_type, content_encoding="utf-8", accept={"application/json"}
    )


def changed(headers: dict[str, Any] | None = None, body: Any = None, **options: Any) -> Message:
    """Return a message of ours with other headers or another body."""
    ours = as_celery_sends("archive_recording")
    raw = ours.body if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return message(raw, {**ours.headers, **(headers or {})}, **options)


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize(
    "options", [{}, {"expires": 900.0}, {"countdown": 60.0, "retries": 6}], ids=["now", "expires", "retry"]
)
def test_what_celery_sends_for_us_is_ours(task: str, options: dict[str, Any]) -> None:
    """Each task at once, with a time to live, and as a retry."""
    assert fault_of(as_celery_sends(task, **options), NOW) is None


JUNK: dict[str, tuple[Message, str]] = {
    "no headers": (message(b"[[],{},{}]", None), "task"),
    "no task": (message(b"[[],{},{}]", {}), "task"),
    "a task of somebody else": (changed({"task": "celery.chunks"}), "task"),
    "a task that is no name": (changed({"task": {"a": 1}}), "task"),
    "no id": (changed({"id": None}), "id"),
    "an id that can't be compared": (changed({"id": {"a": 1}}), "id"),
    "retries in words": (changed({"retries": "many"}), "retries"),
    "retries that never end": (changed({"retries": -1_000_000}), "retries"),
    "retries beyond counting": (changed({"retries": 10**400}), "retries"),
    "a time limit": (changed({"timelimit": [1, 1]}), "options"),
    "another name": (changed({"shadow": "x"}), "options"),
    "a group": (changed({"group": "x"}), "options"),
    "stamps": (changed({"stamped_headers": ["a"], "stamps": {"a": 1}}), "options"),
    "compression": (changed({"compression": "application/x-gzip"}), "options"),
    "no time to live": (changed({"expires": "soon"}), "time"),
    "a time that is none": (changed({"eta": "soon"}), "time"),
    "a time without a zone": (changed({"eta": "2026-11-22T10:00:00"}), "time"),
    "a time of another kind": (changed({"eta": 7}), "time"),
    "a time far away": (changed({"eta": (NOW + timedelta(hours=1, seconds=1)).isoformat()}), "time"),
    "pickle": (changed(content_type="application/x-python-serialize"), "content_type"),
    "a body that is no JSON": (changed(body=b"+15557779999"), "body"),
    "a body that is nested too deeply": (changed(body=b"[" * 100_000), "body"),
    "a body of one": (changed(body=[[]]), "body"),
    "a body of another kind": (changed(body="abc"), "body"),
    "arguments by place": (changed(body=[["x"], {}, NOTHING]), "body"),
    "arguments without names": (changed(body=[[], [1], NOTHING]), "body"),
    "an argument that is Celery's": (changed(body=[[], {"self": 1}, NOTHING]), "body"),
    "nothing embedded": (changed(body=[[], {}, None]), "body"),
    "work to do afterwards": (changed(body=[[], {}, NOTHING | {"callbacks": [{"task": "delete_source"}]}]), "embedded"),
    "work to do after a failure": (changed(body=[[], {}, NOTHING | {"errbacks": [{}]}]), "embedded"),
    "a chain": (changed(body=[[], {}, NOTHING | {"chain": [{}]}]), "embedded"),
    "a chord": (changed(body=[[], {}, NOTHING | {"chord": {"task": "x"}}]), "embedded"),
}


@pytest.mark.parametrize(
    "edge",
    [{"retries": 0}, {"retries": 100}, {"eta": (NOW + timedelta(hours=1)).isoformat()}, {"eta": NOW.isoformat()}],
    ids=str,
)
def test_what_is_just_within_is_ours(edge: dict[str, Any]) -> None:
    """Retries and times may be as high as is allowed."""
    assert fault_of(changed(edge), NOW) is None


@pytest.mark.parametrize(("junk", "fault"), JUNK.values(), ids=JUNK.keys())
def test_what_nobody_of_us_sends_is_junk(junk: Message, fault: str) -> None:
    """What is wrong is told in one word, which is never of the message."""
    assert fault_of(junk, NOW) == fault


class Channel:
    """A channel that only notes what is acknowledged; it decodes nothing."""

    no_ack_consumers: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        self.acknowledged: list[str] = []

    def basic_ack(self, delivery_tag: str, *, multiple: bool = False) -> None:
        assert not multiple
        self.acknowledged.append(delivery_tag)


class Taken(list[Message]):
    """What reached Celery's own handling, instead of a pool of threads."""

    def __call__(self, message: Message, payload: object, *rest: object) -> None:
        self.append(message)


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
def consumer(taken: Taken) -> CarefulConsumer:
    """Return the consumer of an app that is connected to nothing."""
    app = Celery(broker="memory://", set_as_current=False)
    made = CarefulConsumer(lambda request: None, app=app, controller=SimpleNamespace(use_eventloop=False))
    made.strategies |= dict.fromkeys(TASKS, taken)
    return made


def on(channel: Channel, message: Message) -> Message:
    message.channel, message.delivery_tag = channel, "tag 1"
    return message


def test_a_message_of_ours_is_handed_on(consumer: CarefulConsumer, taken: Taken) -> None:
    """Celery handles it, and acknowledges it when it is done."""
    channel = Channel()
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    ours = [on(channel, changed()), on(channel, changed({"eta": later}))]
    with capture_logs() as logs:
        for each in ours:
            consumer.create_task_handler()(each)
    assert taken == ours
    assert (channel.acknowledged, logs) == ([], [])


@pytest.mark.parametrize(
    ("task", "said"), [("sweep", ("sweep_expired", "warning")), ("archive_recording", ("message_expired", "info"))]
)
def test_a_message_that_came_too_late_is_spoken_of(
    consumer: CarefulConsumer, taken: Taken, task: str, said: tuple[str, str]
) -> None:
    """Celery drops it, and the log says so: sweeps that expire leave recordings to nobody."""
    late = on(Channel(), as_celery_sends(task, expires=900.0))
    with capture_logs() as logs:
        consumer.create_task_handler()(late)
    assert taken == [late]
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [said]
    assert logs[0]["late_s"] == pytest.approx((datetime.now(UTC) - NOW).total_seconds() - 900, abs=60)


def test_junk_is_acknowledged_and_not_handed_on(consumer: CarefulConsumer, taken: Taken) -> None:
    """It does not come back, and the log says in a word what was wrong."""
    channel = Channel()
    with capture_logs() as logs:
        consumer.create_task_handler()(on(channel, changed({"task": "celery.chunks"})))
        consumer.on_decode_error(on(channel, changed()), KeyError("+15557779999"))
    assert taken == []
    assert channel.acknowledged == ["tag 1", "tag 1"]
    assert logs == [
        {"event": "junk_message", "log_level": "warning", "fault": "task"},
        {"event": "junk_message", "log_level": "warning", "fault": "KeyError"},
    ]
