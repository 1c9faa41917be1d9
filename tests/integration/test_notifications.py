"""What is told to the receiver of an operator: what has happened, signed by the book, late rather than never."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from threading import Event
from time import time

import pytest
from redis import Redis
from structlog.testing import capture_logs

from app.queue import KEY_PREFIX, NOTIFY_TASK, OUTBOX, SWEEP_TASK, Publisher
from app.settings import CommonSettings, load
from deploy.local.processes import reserve_port, wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import Account, Match, OtherAudio, SimRecording, Simulator
from tests.integration.bucket import Bucket
from tests.integration.command_line import CommandLine
from tests.integration.receiver import OLD_SECRET, SECRET, Receiver
from tests.integration.workbench import NOWHERE, Workbench
from workers import notify
from workers.errors import ContentError, TemporaryError
from workers.metrics import NOTIFICATIONS
from workers.notify import MAX_WAITING, Notification
from workers.webhook import Receiver as OurReceiver

MAIN = Account(sid="AC" + "a1" * 16, auth_tokens=["main-token-one"])
CALL = ("recording.archived", "recording.deleted")


@contextmanager
def telling(
    url: str, redis_server: RedisServer, s3_server: S3Server, database: int, **settings: str
) -> Iterator[Stack]:
    """Run a product that tells what happens."""
    with (
        Simulator(accounts=[MAIN]) as simulator,
        Stack(
            ("web", "worker"),
            settings={"NOTIFY_URL": url, "NOTIFY_SECRET": SECRET, **settings},
            redis_server=redis_server,
            database=database,
            s3_server=s3_server,
            simulator=simulator,
        ) as stack,
    ):
        yield stack


def call(stack: Stack, **options: object) -> SimRecording:
    """Let a call be recorded and called back."""
    return stack.simulator.record(MAIN.sid, "call", 2.0, callback_url=stack.callback_url, **options)


def gone(stack: Stack, recording: SimRecording) -> Bucket:
    """Wait until a recording is archived and gone, and return the bucket."""
    bucket = Bucket(stack.s3.client(), stack.bucket)
    bucket.wait_for("deletions", recording)
    return bucket


def sweep(stack: Stack) -> None:
    """Let beat's next sweep come now."""
    Publisher(load(CommonSettings, {"REDIS_URL": stack.redis_url})).publish(SWEEP_TASK)


# A running product


def test_a_call_is_told_as_it_is_in_the_bucket(
    redis_server: RedisServer, redis_database: int, s3_server: S3Server
) -> None:
    """One notification says what was archived, one that it is gone; thirty callbacks tell nothing twice."""
    with Receiver() as receiver, telling(receiver.url, redis_server, s3_server, redis_database) as stack:
        recording = call(stack)
        for _ in range(30):
            stack.simulator.send_callback(recording, stack.callback_url)
        bucket = gone(stack, recording)
        receiver.wait_for(*CALL)
        archived, deleted = (receiver.data(kind, recording.sid) for kind in CALL)
        receipt = bucket.document("receipts", recording) or {}
        media = bucket.media(recording) or b""
        place = f"s3://{bucket.name}/"
        assert archived["media"] == {
            "uri": place + receipt["media"]["key"],
            "version_id": receipt["media"]["version_id"],
            "bytes": len(media),
            "sha256": sha256(media).hexdigest(),
        }
        assert (archived["account_sid"], archived["call_sid"]) == (MAIN.sid, recording.call_sid)
        assert archived["archived_at"] == receipt["archived_at"]
        assert bucket.document("deletions", recording)
        for uri in (archived["receipt"], deleted["receipt"], deleted["deletion"]):
            assert bucket.body(uri.removeprefix(place))
    assert len(receiver.requests) == len(CALL)


def test_a_receiver_that_was_away_gets_everything_afterwards(
    redis_server: RedisServer, redis_database: int, s3_server: S3Server
) -> None:
    """Archiving and deleting go on meanwhile, and what happened is sent when somebody listens again."""
    with (
        reserve_port() as port,
        telling(f"http://127.0.0.1:{port}/hooks?key=part-of-the-url", redis_server, s3_server, redis_database) as stack,
    ):
        recordings = [call(stack) for _ in range(3)]
        for recording in recordings:
            gone(stack, recording)
        with Receiver(port) as receiver:
            sweep(stack)
            receiver.wait_for(*3 * CALL)
        assert {event["data"]["recording_sid"] for event in receiver.events.values()} == {
            recording.sid for recording in recordings
        }


def test_a_receiver_that_was_away_is_tried_again_by_itself(
    redis_server: RedisServer, redis_database: int, s3_server: S3Server
) -> None:
    """Within the first minutes no sweep is needed: each failure is followed by another try."""
    with (
        reserve_port() as port,
        telling(f"http://127.0.0.1:{port}/hooks?key=part-of-the-url", redis_server, s3_server, redis_database) as stack,
    ):
        gone(stack, call(stack))
        wait_until(lambda: "receiver_unreachable" in stack.worker.log.read_text(), timeout_s=20, what="a failed try")
        with Receiver(port) as receiver:
            receiver.wait_for(*CALL, timeout_s=100)


def test_a_receiver_that_hangs_holds_one_thread(
    redis_server: RedisServer, redis_database: int, s3_server: S3Server
) -> None:
    """Calls are archived while it does not answer, with two threads as with any number."""
    release = Event()
    with (
        Receiver() as receiver,
        telling(receiver.url, redis_server, s3_server, redis_database, CELERY_CONCURRENCY="2") as stack,
    ):
        receiver.answer = lambda _event: 204 if release.wait(60) else 500
        for _ in range(4):
            gone(stack, call(stack))
        release.set()
        sweep(stack)
        receiver.wait_for(*4 * CALL)


# The parts of a worker


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def bench(workbench: Workbench, redis_url: str, receiver: Receiver) -> Workbench:
    """Return a worker's parts, with a Redis and a receiver."""
    return workbench.under(REDIS_URL=redis_url, NOTIFY_URL=receiver.url, NOTIFY_SECRET=SECRET)


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def message(recording: SimRecording) -> dict[str, str]:
    return {"account_sid": recording.account_sid, "recording_sid": recording.sid}


def count(outcome: str) -> float:
    return NOTIFICATIONS.labels(outcome)._value.get()


def test_nothing_is_kept_when_notifications_are_off(bench: Workbench, redis: Redis) -> None:
    """Without NOTIFY_URL nothing is told, and the task does nothing."""
    quiet = bench.under(NOTIFY_URL=None, NOTIFY_SECRET=None)
    quiet.work.archive_recording(message(quiet.record()))
    quiet.work.deliver_notifications({})
    assert not redis.exists(OUTBOX)
    assert not redis.llen(KEY_PREFIX + "notify")


def test_only_the_first_asks_for_delivery(bench: Workbench, redis: Redis) -> None:
    """One message is enough for all that wait."""
    for _ in range(3):
        bench.work.archive_recording(message(bench.record()))
    assert redis.zcard(OUTBOX) == 3
    (waiting,) = redis.lrange(KEY_PREFIX + "notify", 0, -1)
    assert json.loads(waiting)["headers"]["task"] == NOTIFY_TASK


def test_who_dies_between_the_receipt_and_telling_is_made_up_for(bench: Workbench, receiver: Receiver) -> None:
    """The message comes back, and whoever finds the receipt or the deletion receipt tells it."""
    recording = bench.record()
    bench.archived(recording)
    bench.delete(recording)
    bench.work.archive_recording(message(recording))
    bench.work.delete_source({**message(recording), "day": str(bench.filing(recording).day)})
    bench.work.deliver_notifications({})
    assert sorted(receiver.types) == sorted(CALL)


def test_what_was_archived_long_ago_is_not_told_again(
    bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late callback for a recording whose message can't come back any more tells nothing."""
    recording = bench.record()
    bench.archived(recording)
    monkeypatch.setattr(notify, "REMEMBERED", notify.REMEMBERED * 0)
    bench.work.archive_recording(message(recording))
    bench.work.deliver_notifications({})
    assert receiver.types == []


def test_an_outage_of_redis_costs_notifications_and_nothing_else(bench: Workbench) -> None:
    """The recording is archived; that it was not told is counted and logged."""
    alone, before = bench.under(REDIS_URL=NOWHERE, TWILIO_DELETE="never"), count("lost")
    recording = alone.record()
    with capture_logs() as lines:
        alone.work.archive_recording(message(recording))
    assert alone.bucket.document("receipts", recording)
    assert count("lost") == before + 1
    assert [line["type"] for line in lines if line["event"] == "notification_lost"] == ["recording.archived"]


def test_quarantine_is_told_at_first_and_when_it_needs_a_person(bench: Workbench, receiver: Receiver) -> None:
    """Not each failure in between, nor each daily try after."""
    patient = bench.under(QUARANTINE_AFTER="3")
    recording = patient.record()
    patient.simulator.inject(OtherAudio(channels=1), match=Match(endpoint="media"), times=None)
    for _ in range(4):
        with pytest.raises(ContentError):
            patient.work.archive_recording(message(recording), wake=True)
    patient.work.deliver_notifications({})
    told = [event["data"] for event in receiver.events.values()]
    assert [(data["attempts"], data["needs_person"]) for data in told] == [(1, False), (3, True)]
    assert all(data["reason"] for data in told)
    assert patient.bucket.body(told[0]["quarantine"].removeprefix(f"s3://{patient.bucket.name}/"))


def test_an_audit_is_told_with_what_is_lost(bench: Workbench, receiver: Receiver) -> None:
    """Its totals say how many notifications there should have been; what is lost has one of its own."""
    bench.work.archive_recording(message(bench.record()))
    lost = bench.record()
    bench.simulator.delete(lost)
    bench.work.audit({})
    bench.work.deliver_notifications({})
    assert sorted(receiver.types) == ["audit.completed", "audit.lost", "recording.archived"]
    audited, named = receiver.data("audit.completed"), receiver.data("audit.lost")
    assert (audited["totals"]["archived"], audited["totals"]["lost"], audited["complete"]) == (1, 1, True)
    assert (named["count"], named["recordings"]) == (1, [message(lost)])
    report = json.loads(bench.bucket.body(named["report"].removeprefix(f"s3://{bench.bucket.name}/")) or b"")
    assert report["totals"]["lost"] == 1


def test_a_rotation_needs_no_moment_at_which_both_change(bench: Workbench) -> None:
    """While two secrets are set, a receiver may know either; what was told under the old one is still sent."""
    for secret in (SECRET, OLD_SECRET):
        with Receiver(secret=secret) as receiver:
            both = bench.under(NOTIFY_URL=receiver.url, NOTIFY_SECRET=f"{SECRET},{OLD_SECRET}")
            before = bench.under(NOTIFY_URL=receiver.url, NOTIFY_SECRET=OLD_SECRET)
            before.work.archive_recording(message(before.record()))
            both.work.archive_recording(message(both.record()))
            both.work.deliver_notifications({})
            assert receiver.types == ["recording.archived"] * 2


def test_one_that_is_refused_holds_up_no_other(bench: Workbench, receiver: Receiver, redis: Redis) -> None:
    """It is sent again later, and until then the others are taken."""
    refused, taken = bench.record(), bench.record()
    receiver.answer = lambda event: 500 if event["data"]["recording_sid"] == refused.sid else 204
    for recording in (refused, taken):
        bench.work.archive_recording(message(recording))
    with pytest.raises(TemporaryError, match="receiver_refused"):
        bench.work.deliver_notifications({})
    assert receiver.data("recording.archived")["recording_sid"] == taken.sid
    ((item, due),) = redis.zrange(OUTBOX, 0, -1, withscores=True)
    assert time() < due < time() + 60
    receiver.answer = lambda _event: 204
    redis.zadd(OUTBOX, {item: time()})
    bench.work.deliver_notifications({})
    assert len(receiver.events) == 2


def test_what_another_machine_told_is_sent_at_once(
    bench: Workbench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clocks are never quite the same: whoever told it has asked for its delivery once, and nobody asks again soon."""
    bench.work.archive_recording(message(bench.record()))
    monkeypatch.setattr(notify, "time", lambda: time() - 5)
    bench.work.deliver_notifications({})
    assert receiver.types == ["recording.archived"]


def test_one_that_was_told_is_sent_with_the_same_id_and_a_new_time(
    bench: Workbench, receiver: Receiver, redis: Redis
) -> None:
    """Each try is signed anew, so that a receiver that refuses what is old takes it."""
    bench.work.archive_recording(message(bench.record()))
    (item,) = redis.zrange(OUTBOX, 0, -1)
    told = Notification(**json.loads(item))
    hours_ago = told.at - 5 * 60 * 60
    ours = OurReceiver.of(bench.settings)
    assert ours is not None
    signature = ours.sign(told.id, hours_ago, told.body)
    redis.delete(OUTBOX)
    redis.zadd(OUTBOX, {json.dumps({**json.loads(item), "at": hours_ago, "signature": signature}): hours_ago})
    bench.work.deliver_notifications({})
    assert list(receiver.events) == [told.id]
    assert abs(int(receiver.requests[0]["webhook-timestamp"]) - time()) < 60


def test_a_redirect_is_not_followed(bench: Workbench, receiver: Receiver) -> None:
    """What is told goes to NOTIFY_URL and nowhere else."""
    with Receiver() as elsewhere:
        receiver.answer, receiver.location = lambda _event: 307, elsewhere.url
        bench.work.archive_recording(message(bench.record()))
        with pytest.raises(TemporaryError, match="receiver_refused: the receiver answered 307"):
            bench.work.deliver_notifications({})
        assert elsewhere.requests == []


def test_a_busy_receiver_is_left_alone(bench: Workbench, receiver: Receiver) -> None:
    """After a 503 nothing else is sent in this run, and what waits stays due."""
    receiver.answer = lambda _event: 503
    for _ in range(3):
        bench.work.archive_recording(message(bench.record()))
    with pytest.raises(TemporaryError, match="receiver_busy"):
        bench.work.deliver_notifications({})
    assert len(receiver.requests) == 1
    receiver.answer = lambda _event: 204
    bench.work.deliver_notifications({})
    assert len(receiver.events) == 3


FORGED = {"id": "msg_1", "at": 1, "body": '{"type":"recording.deleted","data":{}}', "signature": "v1,AAAA"}


@pytest.mark.parametrize(
    "item", ["", b"\xff", "junk", "[]", "{}", "[" * 9999, json.dumps({"id": 1}), json.dumps(FORGED)]
)
def test_who_can_write_to_redis_can_tell_nothing(
    bench: Workbench, receiver: Receiver, redis: Redis, item: str | bytes
) -> None:
    """What was not signed by a worker is thrown away, its content is not logged, and the others are sent."""
    redis.zadd(OUTBOX, {item: 0.0})
    bench.work.archive_recording(message(bench.record()))
    with capture_logs() as lines:
        bench.work.deliver_notifications({})
    assert receiver.types == ["recording.archived"]
    assert [line for line in lines if line["event"] == "junk_notification"] == [
        {"event": "junk_notification", "log_level": "warning"}
    ]
    assert len(receiver.requests) == 1


def test_after_three_days_it_is_given_up(bench: Workbench, receiver: Receiver, redis: Redis) -> None:
    """That is an error in the log, which calls for a person, and is counted."""
    ours = OurReceiver.of(bench.settings)
    assert ours is not None
    at, body, before = int(time()) - 3 * 24 * 60 * 60 - 1, json.dumps({"type": "recording.archived"}), count("lost")
    told = {"id": "msg_old", "at": at, "body": body, "signature": ours.sign("msg_old", at, body)}
    redis.zadd(OUTBOX, {json.dumps(told): at})
    with capture_logs() as lines:
        bench.work.deliver_notifications({})
    assert {"event": "notifications_given_up", "log_level": "error", "count": 1} in lines
    assert count("lost") == before + 1
    assert receiver.requests == []
    assert not redis.exists(OUTBOX)


def test_what_waits_is_bounded(bench: Workbench, redis: Redis) -> None:
    """Redis is the queue's: beyond ten thousand, what has waited longest is given up."""
    redis.zadd(OUTBOX, {f"waits since {n}": n for n in range(MAX_WAITING)})
    with capture_logs() as lines:
        bench.work.archive_recording(message(bench.record()))
    assert redis.zcard(OUTBOX) == MAX_WAITING
    assert redis.zscore(OUTBOX, "waits since 0") is None
    assert {"event": "notifications_given_up", "log_level": "error", "count": 1} in lines


def test_the_sweep_wakes_what_nobody_delivers(bench: Workbench, redis: Redis) -> None:
    """Whoever should have delivered may have died with its message."""
    bench.work.archive_recording(message(bench.record()))
    redis.delete(KEY_PREFIX + "notify")
    bench.work.sweep({})
    assert redis.llen(KEY_PREFIX + "notify") == 1


# archiver check


def test_check_sends_a_trial(bench: Workbench, receiver: Receiver, archiver: CommandLine) -> None:
    """It is signed by the book; and a receiver that takes anything is told apart from one that looks."""
    archiver.use(bench)
    ran = archiver("check", "--only", "notifications", "--json")
    assert receiver.types == ["archiver.check"]
    found = {each["name"]: each["state"] for each in ran.json["checks"] if each["group"] == "notifications"}
    assert found == {"receiver": "green", "forged notifications": "green"}
    assert "part-of-the-url" not in ran.out + ran.err


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"NOTIFY_SECRET": OLD_SECRET}, "the receiver answered 401"),
        ({"NOTIFY_URL": "http://127.0.0.1:1/"}, "nobody listens there"),
    ],
)
def test_check_names_what_is_wrong(
    bench: Workbench, archiver: CommandLine, change: dict[str, str | None], found: str
) -> None:
    """A secret that the receiver does not know, and a receiver that is not there."""
    archiver.use(bench.under(**change))
    ran = archiver("check", "--only", "notifications", "--json")
    (line,) = [each for each in ran.json["checks"] if each["group"] == "notifications"]
    assert (ran.code, line["state"]) == (4, "red")
    assert line["found"] == found
