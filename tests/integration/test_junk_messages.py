"""Whoever can write to Redis costs a log line or a restart: never a recording, never a wrong delete (invariant 7)."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.queue import ARCHIVE_QUEUE, DELETE_QUEUE, KEY_PREFIX
from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import SimRecording, Simulator
from tests.integration.bucket import Bucket
from tests.integration.conftest import MAIN
from tests.integration.workbench import Workbench
from workers.errors import ArchiverError, ConfigurationError, ForbiddenDeletionError, JunkMessageError

PLANTED = "+15557779999"
FORMS = (PLANTED, "15557779999", base64.b64encode(PLANTED.encode()).decode())
EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def raw_message(headers: Any = None, body: Any = None, **parts: Any) -> str:
    """Return what a publisher puts on the queue, with something else in it."""
    ours = {
        "task": "archive_recording",
        "id": "2b7e1516-28ae-d2a6-abf7-158809cf4f3c",
        "lang": "py",
        "retries": 0,
        "eta": None,
        "expires": None,
        "timelimit": [None, None],
    }
    content = body if isinstance(body, str) else json.dumps([[], {}, EMBEDDED] if body is None else body)
    properties = {
        "body_encoding": "base64",
        "delivery_tag": "ae2d8a57-1e03-4cf1-b2a6-f2d6a1a4b0c3",
        "delivery_info": {"exchange": "", "routing_key": ARCHIVE_QUEUE},
    }
    envelope = {
        "body": base64.b64encode(content.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": ours | headers if isinstance(headers, dict) else headers or ours,
        "properties": properties | parts.pop("properties", {}),
        **parts,
    }
    return json.dumps(envelope)


# What arrives as a message, but is none of ours: Celery's consumer dies of some of it, again and again.
DROPPED = [
    raw_message(body=PLANTED),
    raw_message(body=json.dumps(PLANTED)),
    raw_message(body=[[PLANTED]]),
    raw_message(body="[" * 100_000),
    raw_message(body=[[PLANTED], {}, EMBEDDED]),
    raw_message(body=[[], [PLANTED], EMBEDDED]),
    raw_message(body=[[], {"self": PLANTED}, EMBEDDED]),
    raw_message(body=[[], {PLANTED: PLANTED}, EMBEDDED]),
    raw_message(body=[[], {"account_sid": {"a": PLANTED}, "recording_sid": [PLANTED]}, EMBEDDED]),
    raw_message(body=[[], {}, EMBEDDED | {"callbacks": [{"task": PLANTED, "args": [PLANTED]}]}]),
    raw_message({"task": f"foreign.{PLANTED}"}),
    raw_message({"task": None}, body=[[], {"a": PLANTED}, EMBEDDED]),
    raw_message({"task": {"a": PLANTED}}),
    raw_message({"id": {"a": PLANTED}}),
    raw_message({"retries": PLANTED}),
    raw_message({"retries": -1_000_000_000}),
    raw_message({"eta": PLANTED}),
    raw_message({"eta": "2999-01-01T00:00:00+00:00"}),
    raw_message({"expires": PLANTED}),
    raw_message({"timelimit": [PLANTED, PLANTED]}),
    raw_message({"compression": PLANTED}),
    raw_message(**{"content-type": PLANTED}),
    raw_message(**{"content-type": "application/x-python-serialize"}),
    raw_message(body=f"%%%{PLANTED}"),
]
# What is no message at all: kombu's transport dies of it, once.
FATAL = [
    PLANTED,
    json.dumps(PLANTED),
    json.dumps([PLANTED]),
    json.dumps({"body": PLANTED}),
    raw_message(headers=PLANTED),
    raw_message(properties={"delivery_info": PLANTED}),
    raw_message(properties={"delivery_tag": {"a": PLANTED}}),
]


def push(stack: Stack, messages: list[str]) -> None:
    with stack.redis.client(stack_database(stack)) as client:
        client.lpush(KEY_PREFIX + ARCHIVE_QUEUE, *messages)


def stack_database(stack: Stack) -> int:
    return int(stack.redis_url.rpartition("/")[2])


def waiting(stack: Stack) -> int:
    """Return how many messages wait or are being worked on."""
    with stack.redis.client(stack_database(stack)) as client:
        return int(client.llen(KEY_PREFIX + ARCHIVE_QUEUE)) + int(client.hlen(f"{KEY_PREFIX}unacked"))


def worker_log(stack: Stack) -> str:
    return (stack.directory / "worker.log").read_text(errors="replace")


@pytest.fixture
def stack(redis_server: RedisServer, redis_database: int, s3_server: S3Server) -> Iterator[Stack]:
    """Return a product whose worker is started again when it dies, and says all it has to say."""
    with (
        Simulator(accounts=[MAIN]) as simulator,
        Stack(
            settings={"LOG_LEVEL": "debug"},
            respawn=True,
            redis_server=redis_server,
            database=redis_database,
            s3_server=s3_server,
            simulator=simulator,
        ) as stack,
    ):
        yield stack


def still_archives(stack: Stack) -> None:
    """Let a call happen, and wait until it is archived and deleted."""
    recording = stack.simulator.record(MAIN.sid, seconds=1.0, callback_url=stack.callback_url)
    Bucket(stack.s3.client(), stack.bucket).wait_for("deletions", recording, timeout_s=60)


def test_junk_is_dropped_without_a_word_of_it(stack: Stack) -> None:
    """The same process goes on; each junk message is a line in the log, with nothing of it, and does not come back."""
    worker = stack.worker.pid
    push(stack, DROPPED)
    wait_until(lambda: waiting(stack) == 0, timeout_s=60, what="an empty queue")
    still_archives(stack)
    assert stack.worker.pid == worker
    log = worker_log(stack)
    assert log.count("junk_message") == len(DROPPED)
    assert [form for form in FORMS if form in log] == []
    assert [each.method for each in stack.simulator.timeline if each.method == "DELETE"] == ["DELETE"]


def test_what_is_no_message_costs_restarts(stack: Stack) -> None:
    """Whatever lies in the queue, the worker comes back, does not die of it again, and says nothing of it."""
    push(stack, FATAL)
    wait_until(lambda: waiting(stack) == 0, timeout_s=90, what="an empty queue")
    still_archives(stack)
    log = worker_log(stack)
    assert 1 <= log.count("Unrecoverable error") <= len(FATAL)
    assert [form for form in FORMS if form in log] == []


# What looks like a message of ours


@pytest.fixture
def bench(workbench: Workbench, redis_url: str) -> Workbench:
    """Return the parts of a worker with a queue."""
    return workbench.under(REDIS_URL=redis_url)


def archive_message(recording: SimRecording, **changes: Any) -> dict[str, Any]:
    return {"account_sid": recording.account_sid, "recording_sid": recording.sid, **changes}


def callback_of(recording: SimRecording, **changes: Any) -> dict[str, Any]:
    return {
        "AccountSid": recording.account_sid,
        "RecordingSid": recording.sid,
        "RecordingStatus": "completed",
        "received_at": "2026-11-22T10:00:00.000Z",
        **changes,
    }


WRONG_SIDS: list[dict[str, Any]] = [
    {"account_sid": None},
    {"account_sid": ["AC" + "a1" * 16]},
    {"account_sid": "AC" + "a1" * 16 + "\n"},
    {"account_sid": "RE" + "a1" * 16},
    {"recording_sid": None},
    {"recording_sid": "RE../../../x"},
    {"recording_sid": "re" + "a1" * 16},
    {"recording_sid": {"a": 1}},
]


@pytest.mark.parametrize("changes", WRONG_SIDS, ids=str)
def test_a_message_without_sids_asks_nobody(bench: Workbench, changes: dict[str, Any]) -> None:
    """Neither Twilio nor S3 is asked for anything that is no SID."""
    recording = bench.record()
    for act in (bench.work.archive_recording, bench.work.delete_source):
        with pytest.raises(JunkMessageError):
            act(archive_message(recording, day="2026-11-22") | changes)
    assert bench.requests() == []
    assert bench.simulator.timeline == []


WRONG_CALLBACKS: dict[str, Callable[[SimRecording], Any]] = {
    "text": lambda recording: "RecordingStatus=absent",
    "list": lambda recording: [1],
    "unknown field": lambda recording: callback_of(recording, From=PLANTED),
    "field that is no text": lambda recording: callback_of(recording, RecordingDuration=7),
    "field that is a list": lambda recording: callback_of(recording, RecordingUrl=["x"]),
    "long field": lambda recording: callback_of(recording, RecordingUrl="x" * 4097),
    "half a character": lambda recording: callback_of(recording, RecordingUrl="\ud800"),
    "another recording": lambda recording: callback_of(recording, RecordingSid="RE" + "0" * 32),
    "another account": lambda recording: callback_of(recording, AccountSid="AC" + "0" * 32),
    "a call that is none": lambda recording: callback_of(recording, CallSid=PLANTED),
    "no recording": lambda recording: {"RecordingStatus": "absent"},
    "no time": lambda recording: callback_of(recording, received_at=PLANTED),
}


@pytest.mark.parametrize("callback", WRONG_CALLBACKS.values(), ids=WRONG_CALLBACKS.keys())
def test_a_callback_that_is_none_becomes_no_evidence(bench: Workbench, callback: Callable[..., Any]) -> None:
    """What our endpoint would have refused is not written into a receipt or an absence."""
    recording = bench.record()
    with pytest.raises(JunkMessageError) as caught:
        bench.work.archive_recording(archive_message(recording, callback=callback(recording)))
    assert PLANTED not in str(caught.value)
    assert bench.bucket.keys(recording) == []


def test_an_account_that_is_not_configured_is_not_asked_for(bench: Workbench) -> None:
    """A message that names somebody else's account reaches neither side's data."""
    recording = bench.record()
    message = archive_message(recording, account_sid="AC" + "0" * 32)
    with pytest.raises(ConfigurationError, match="account_not_configured"):
        bench.work.archive_recording(message)
    with pytest.raises(ForbiddenDeletionError):
        bench.work.delete_source(message | {"day": "2026-11-22"})
    assert bench.simulator.timeline == []
    assert bench.bucket.keys(recording) == []


@pytest.mark.parametrize("day", [None, "", "tomorrow", "2026-02-30", 20261122.5, {"a": 1}, "2026-11-22T00:00:00Z"])
def test_a_deletion_without_a_day_asks_nobody(bench: Workbench, day: Any) -> None:
    """A day that is none leads nowhere."""
    recording = bench.record()
    bench.archived(recording)
    asked = len(bench.requests())
    with pytest.raises(JunkMessageError):
        bench.work.delete_source(archive_message(recording, day=day))
    assert len(bench.requests()) == asked
    assert recording.deleted_at is None


@pytest.mark.parametrize("setting", ["never", "24h"])
def test_a_message_does_not_hasten_a_deletion(bench: Workbench, setting: str) -> None:
    """What the settings keep stays, whoever asks for its deletion and however often."""
    recording = bench.record()
    bench.archived(recording)
    patient = bench.under(TWILIO_DELETE=setting)
    for _ in range(3):
        with pytest.raises(ForbiddenDeletionError, match="deletion_not_due"):
            patient.work.delete_source(archive_message(recording, day=str(recording.date_created.date())))
        patient.work.archive_recording(archive_message(recording))
    assert bench.deletes(recording) == []
    assert patient.work.hints.queue_depth(DELETE_QUEUE) == 0


def test_a_forged_absence_documents_nothing_of_what_is_archived(bench: Workbench) -> None:
    """A callback that says absent, for a recording that Twilio has forgotten since, finds its receipt by the index."""
    recording = bench.record()
    bench.archived(recording)
    bench.simulator.store.recordings.pop(recording.sid)
    forged = callback_of(recording, RecordingStatus="absent", ErrorCode="16101")
    bench.work.archive_recording(archive_message(recording, callback=forged))
    assert [key for key in bench.bucket.keys(recording) if key.startswith("absences/")] == []


def test_an_absence_that_twilio_does_not_know_needs_the_callbacks_word(bench: Workbench) -> None:
    """Without a receipt, the callback's word beside REST's 404 is enough; without either there is nothing."""
    recording = bench.record()
    bench.simulator.store.recordings.pop(recording.sid)
    with pytest.raises(ArchiverError, match="recording_not_ready"):
        bench.work.archive_recording(archive_message(recording, callback=callback_of(recording)))
    assert bench.bucket.keys(recording) == []
    bench.work.archive_recording(
        archive_message(recording, callback=callback_of(recording, RecordingStatus="absent", ErrorCode="16101"))
    )
    assert bench.bucket.keys(recording) == [
        f"absences/account={recording.account_sid}/day=undated/{recording.sid}.json"
    ]
