"""Every alert fires when what it is about happens to real processes, and no other; a healthy service fires none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.queue import ARCHIVE_TASK, AUDIT_TASK
from deploy.local.processes import wait_until
from deploy.local.s3_proxy import ErrorStatus as S3ErrorStatus
from deploy.local.servers import RedisServer, S3Server
from deploy.local.twilio import (
    ErrorStatus,
    Fault,
    Match,
    OtherAudio,
    Request,
    Response,
    throttled,
)
from tests.integration.receiver import SECRET, Receiver
from tests.integration.rules import Story, needs_promtool
from tests.integration.scraped import MAIN, WORKER, Service, service
from tests.integration.switchboard import Switchboard

pytestmark = needs_promtool

HOUR, DAY = 60, 24 * 60


class RefusedAudit(Fault):
    """Refuse what only the audit asks: the list with what is deleted."""

    endpoint = "list"

    def instead(self, request: Request) -> Response | None:
        if "IncludeSoftDeleted" not in request.query:
            return None
        return ErrorStatus(401, 20003).instead(request)


@pytest.fixture(scope="module")
def shared(redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> Iterator[Service]:
    """Return a product for what leaves nothing behind but counts; it tells a receiver what happens."""
    with (
        Receiver() as receiver,
        service(
            redis_server, s3_server, database=next(databases), NOTIFY_URL=receiver.url, NOTIFY_SECRET=SECRET
        ) as made,
    ):
        yield made
        assert receiver.events


@pytest.fixture
def redis_of_its_own() -> Iterator[RedisServer]:
    """Return a Redis server that may be broken."""
    with RedisServer() as server:
        yield server


def test_a_healthy_service_fires_nothing(shared: Service, tmp_path: Path) -> None:
    """It archives, sweeps and audits, with an occasional retry, for two days."""
    before = shared.begin()
    shared.simulator.inject(ErrorStatus(503), match=Match(endpoint="media"))
    for _ in range(5):
        shared.archive()
    shared.sweep(everything=True)
    shared.audit()
    happened = shared.look()
    for _ in range(5):
        shared.archive()
    shared.sweep(everything=True)
    shared.audit()
    story = Story(before, happened, shared.look(), step_min=4)
    assert story.firing(tmp_path, 5, 30, HOUR, 2 * DAY) == [set()] * 4


def test_callbacks_that_are_refused(shared: Service, tmp_path: Path) -> None:
    """A wrong token, or a PUBLIC_URL that is not the one that Twilio calls."""
    before = shared.begin()
    recording = shared.record()
    for _ in range(8):
        shared.simulator.send_callback(recording, shared.stack.callback_url, token="not-the-token")
    happened = shared.look()
    assert Story(before, happened, happened).firing(tmp_path, 10) == [{"ArchiverCallbacksRefused"}]


def test_redis_that_does_not_answer(redis_of_its_own: RedisServer, s3_server: S3Server, tmp_path: Path) -> None:
    """Callbacks are answered with 503; after half an hour without a sweep that is one more alert."""
    with service(redis_of_its_own, s3_server) as watched:
        before = watched.begin()
        redis_of_its_own.pause()
        recording = watched.record()
        assert watched.simulator.send_callback(recording, watched.stack.callback_url).status == 503
        happened = watched.look()
        story = Story(before, happened, happened)
        redis_of_its_own.resume()
    assert story.firing(tmp_path, 2, 5, 40) == [
        {"ArchiverCallbacksNotEnqueued"},
        {"ArchiverCallbacksNotEnqueued", "ArchiverRedisDown"},
        {"ArchiverRedisDown", "ArchiverSweepLate"},
    ]


def test_a_worker_that_is_gone(redis_of_its_own: RedisServer, s3_server: S3Server, tmp_path: Path) -> None:
    """It does not answer, what is called back waits, and nobody sweeps."""
    with service(redis_of_its_own, s3_server) as watched:
        before = watched.begin()
        watched.stack.worker.terminate(timeout_s=30)
        watched.call()
        wait_until(lambda: watched.value("archiver_queue_depth", queue="archive") == 1, timeout_s=10, what="a message")
        happened = watched.look()
        story = Story(before, happened, happened)
    assert story.firing(tmp_path, 3, 6, 16, 32) == [
        set(),
        {"ArchiverDown"},
        {"ArchiverDown", "ArchiverQueueStuck"},
        {"ArchiverDown", "ArchiverQueueStuck", "ArchiverSweepLate"},
    ]


def test_a_sweep_that_fails(shared: Service, tmp_path: Path) -> None:
    """Twilio does not give its list: that is no sweep, however often it is tried."""
    before = shared.begin()
    injection = shared.simulator.inject(ErrorStatus(401, 20003), match=Match(endpoint="list"), times=None)
    shared.sweep()
    happened = shared.look()
    shared.sweep()
    story = Story(before, happened, shared.look())
    injection.remove()
    assert story.firing(tmp_path, 10, 32) == [set(), {"ArchiverSweepLate"}]


def test_a_full_sweep_that_fails(shared: Service, tmp_path: Path) -> None:
    """S3 does not give its listing, which only the sweep of everything needs, for what stays in Twilio's list."""
    shared.record(status="absent", error_code=16101, seconds=0.0)
    before = shared.begin()
    injection = shared.s3_proxy.inject(S3ErrorStatus(403, "AccessDenied"), "ListObjectsV2", times=None)
    shared.sweep(everything=True)
    happened = shared.look()
    shared.sweep(everything=True)
    story = Story(before, happened, shared.look(), step_min=4)
    injection.remove()
    assert story.firing(tmp_path, 34 * HOUR, 39 * HOUR) == [set(), {"ArchiverAuditLate", "ArchiverFullSweepLate"}]


def test_an_audit_that_fails(shared: Service, tmp_path: Path) -> None:
    """It says so each time that it is tried, and is late after a day and a half."""
    before = shared.begin()
    injection = shared.simulator.inject(RefusedAudit(), times=None)
    shared.audit()
    happened = shared.look()
    shared.sweep(everything=True)
    story = Story(before, happened, shared.look(), step_min=4)
    injection.remove()
    assert story.firing(tmp_path, 30, 38 * HOUR) == [{"ArchiverAlarm"}, {"ArchiverAuditLate"}]


def test_a_receiver_that_takes_nothing(redis_of_its_own: RedisServer, s3_server: S3Server, tmp_path: Path) -> None:
    """Nobody listens where notifications are to go; everything else goes on."""
    with service(redis_of_its_own, s3_server, NOTIFY_URL="http://127.0.0.1:1/", NOTIFY_SECRET=SECRET) as watched:
        before = watched.look()
        failed = watched.wait_to_count("archiver_notifications_total", outcome="failed")
        watched.begin()
        failed()
        happened = watched.look()
        watched.sweep(everything=True)
        story = Story(before, happened, watched.look())
    assert story.firing(tmp_path, 4, 20) == [set(), {"ArchiverNotificationsNotTaken"}]


def test_a_service_that_never_audits(redis_of_its_own: RedisServer, s3_server: S3Server, tmp_path: Path) -> None:
    """After an empty Redis the next audit has a day, and then it is missed."""
    with service(redis_of_its_own, s3_server) as watched:
        watched.archive()
        watched.sweep(everything=True)
        before = watched.look()
        watched.sweep(everything=True)
        happened = watched.look()
        watched.sweep(everything=True)
        story = Story(before, happened, watched.look(), step_min=4)
    assert story.firing(tmp_path, 25 * HOUR, 31 * HOUR) == [set(), {"ArchiverAuditNever"}]


def test_what_the_audit_finds(redis_of_its_own: RedisServer, s3_server: S3Server, tmp_path: Path) -> None:
    """A recording that was deleted before it was archived, one whose media was removed, an account of nobody."""
    with service(redis_of_its_own, s3_server, TWILIO_ACCOUNTS=None) as watched:
        before = watched.look()
        watched.simulator.delete(watched.record())
        robbed = watched.archive()
        for version in watched.bucket.client.list_object_versions(Bucket=watched.bucket.name, Prefix="recordings/")[
            "Versions"
        ]:
            if robbed.sid in version["Key"]:
                watched.bucket.client.delete_object(
                    Bucket=watched.bucket.name, Key=version["Key"], VersionId=version["VersionId"]
                )
        watched.sweep()
        watched.audit()
        happened = watched.look()
        watched.sweep()
        story = Story(before, happened, watched.look())
    assert story.firing(tmp_path, 10) == [
        {"ArchiverRecordingsLost", "ArchiverDiscrepancies", "ArchiverAccountNotConfigured"}
    ]


def test_a_recording_in_quarantine(redis_of_its_own: RedisServer, s3_server: S3Server, tmp_path: Path) -> None:
    """Its content failed as often as it takes to call a person; the audit goes on saying so."""
    with service(redis_of_its_own, s3_server, QUARANTINE_AFTER="1") as watched:
        before = watched.begin()
        watched.simulator.inject(OtherAudio(channels=1), match=Match(endpoint="media"), times=None)
        failed = watched.wait_to_count("archiver_attempts_total", outcome="content")
        watched.call()
        failed()
        happened = watched.look()
        watched.audit()
        watched.sweep()
        later = watched.look()
    assert Story(before, happened, happened).firing(tmp_path, 10) == [{"ArchiverQuarantined"}]
    assert "ArchiverQuarantined" in Story(before, happened, later, step_min=4).firing(tmp_path, 10 * HOUR)[0]


def test_deletions_that_are_paused(shared: Service, tmp_path: Path) -> None:
    """The stop switch is set, by whomever; it stays an alert until it is taken away."""
    before = shared.begin()
    shared.bucket.client.put_object(Bucket=shared.bucket.name, Key="control/deletions-paused.json", Body=b"{}")
    shared.sweep()
    happened = shared.look()
    shared.sweep()
    later = shared.look()
    shared.bucket.client.delete_object(Bucket=shared.bucket.name, Key="control/deletions-paused.json")
    shared.sweep()
    assert Story(before, happened, later, step_min=4).firing(tmp_path, 5, 5 * HOUR) == [{"ArchiverDeletionsPaused"}] * 2
    assert Story(later, shared.look(), shared.look()).firing(tmp_path, 2) == [set()]


def test_deletions_that_do_not_come_about(redis_of_its_own: RedisServer, s3_server: S3Server, tmp_path: Path) -> None:
    """Twilio answers every DELETE with an error, and two audits in a row find it undone."""
    with service(redis_of_its_own, s3_server) as watched:
        before = watched.begin()
        watched.simulator.inject(ErrorStatus(500), match=Match(endpoint="delete"), times=None)
        failed = watched.wait_to_count("archiver_attempts_total", task="delete_source", outcome="temporary")
        watched.call()
        failed()
        watched.audit()
        watched.sweep(everything=True)
        happened = watched.look()
        watched.audit()
        watched.sweep(everything=True)
        story = Story(before, happened, watched.look(), step_min=4)
    assert story.firing(tmp_path, 10, 27 * HOUR) == [set(), {"ArchiverDeletionsPending"}]


def test_credentials_that_are_refused(shared: Service, tmp_path: Path) -> None:
    """Twilio answers 401: the work waits, and somebody has to mend it."""
    before = shared.begin()
    injection = shared.simulator.inject(ErrorStatus(401, 20003), match=Match(endpoint="media"), times=None)
    failed = shared.wait_to_count("archiver_attempts_total", outcome="configuration")
    shared.call()
    failed()
    happened = shared.look()
    injection.remove()
    assert Story(before, happened, happened).firing(tmp_path, 3, 8) == [set(), {"ArchiverRefused"}]


def test_most_attempts_fail(shared: Service, tmp_path: Path) -> None:
    """An outage of Twilio's: attempt after attempt is answered with 503."""
    before = shared.begin()
    injection = shared.simulator.inject(ErrorStatus(503), match=Match(endpoint="media"), times=None)
    failed = shared.wait_to_count("archiver_attempts_total", 5, outcome="temporary")
    for _ in range(5):
        shared.call()
    failed()
    happened = shared.look()
    shared.wait_to_count("archiver_attempts_total", 3, outcome="temporary")()
    later = shared.look()
    injection.remove()
    assert Story(before, happened, later).firing(tmp_path, 5, 20) == [set(), {"ArchiverFailing"}]


def test_twilio_throttles(shared: Service, tmp_path: Path) -> None:
    """Request after request is answered with 429."""
    before = shared.begin()
    injection = shared.simulator.inject(throttled(), match=Match(endpoint="media"), times=None)
    failed = shared.wait_to_count("archiver_twilio_answers_total", 2, status="429")
    shared.call()
    failed()
    happened = shared.look()
    injection.remove()
    assert Story(before, happened, happened).firing(tmp_path, 5, 12) == [set(), {"ArchiverThrottled"}]


def test_recordings_that_come_late(shared: Service, tmp_path: Path) -> None:
    """A callback has waited on the queue for an hour before a worker came to it."""
    before = shared.begin()
    recording = shared.record()
    sids = {"AccountSid": MAIN.sid, "RecordingSid": recording.sid}
    waited = {**sids, "RecordingStatus": "completed", "received_at": "2026-01-01T00:00:00.000Z"}
    fetched = shared.wait_to_count("archiver_media_lag_seconds_count")
    shared.publisher.publish(ARCHIVE_TASK, account_sid=MAIN.sid, recording_sid=recording.sid, callback=waited)
    fetched()
    happened = shared.look()
    assert Story(before, happened, happened).firing(tmp_path, 5, 12) == [set(), {"ArchiverSlow"}]


def test_a_process_that_was_stuck(redis_of_its_own: RedisServer, s3_server: S3Server, tmp_path: Path) -> None:
    """The worker has ended itself, and it is known although all that it counted is gone."""
    hasty = WORKER.replace("workers.worker", "tests.integration.hasty_worker")
    with (
        RedisServer() as promoted,
        Switchboard(redis_of_its_own.port) as switchboard,
        service(
            redis_of_its_own, s3_server, worker=hasty, REDIS_URL=f"redis://127.0.0.1:{switchboard.port}/0"
        ) as watched,
    ):
        before = watched.begin()
        switchboard.lead_to(promoted.port)
        watched.stack.restart("web")
        watched.call()
        wait_until(lambda: not watched.stack.worker.alive, timeout_s=30, what="the end of the worker")
        watched.stack.worker.start()
        wait_until(lambda: watched.value("archiver_task_slots") == 8, timeout_s=30, what="another worker")
        happened = watched.look()
    fired = Story(before, happened, happened).firing(tmp_path, 10)
    assert fired == [{"ArchiverWedged"}]


def test_a_bug(redis_of_its_own: RedisServer, s3_server: S3Server, tmp_path: Path) -> None:
    """A step fails in a way that nobody has foreseen."""
    faulty = WORKER.replace("workers.worker", "tests.integration.faulty_worker")
    with service(redis_of_its_own, s3_server, worker=faulty) as watched:
        watched.sweep(everything=True)
        before = watched.look()
        watched.work(AUDIT_TASK)
        happened = watched.look()
    assert Story(before, happened, happened).firing(tmp_path, 10) == [{"ArchiverCrashed"}]


def test_any_other_error(shared: Service, tmp_path: Path) -> None:
    """What has no rule of its own: a recording that is encrypted with another key than the account's current one."""
    before = shared.begin()
    shared.bucket.wait_for("deletions", shared.call(encrypted=True, error_code=16107))
    happened = shared.look()
    assert Story(before, happened, happened).firing(tmp_path, 10) == [{"ArchiverAlarm"}]
