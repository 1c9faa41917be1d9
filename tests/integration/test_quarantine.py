"""Quarantine: failures of the content are counted one by one, block the deletion at once, and end when all agrees."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.queue import redis_client
from app.receipt import iso, parse_iso
from deploy.local.s3_proxy import Hook, S3Request
from deploy.local.servers import RedisServer
from deploy.local.twilio import ErrorStatus, Match, OtherAudio, SimRecording
from tests.integration.sweep_bench import taken
from tests.integration.workbench import Workbench, now
from workers.errors import ConfigurationError, ContentError, TemporaryError
from workers.quarantine import RETRY_EVERY, Quarantine, read_quarantine, record_failure

ERROR = ContentError("duration_differs", "Twilio states 7 s and other audio came")
THRESHOLD = 3


def fail(bench: Workbench, recording: SimRecording, error: ContentError = ERROR) -> int:
    return record_failure(bench.archive, bench.filing(recording), error, THRESHOLD)


def known(bench: Workbench, recording: SimRecording) -> Quarantine:
    quarantine = read_quarantine(bench.archive, bench.filing(recording))
    assert quarantine is not None
    return quarantine


def test_nothing_failed_is_no_quarantine(workbench: Workbench) -> None:
    """Without a document a recording is not in quarantine."""
    assert read_quarantine(workbench.archive, workbench.filing(workbench.record())) is None


def test_each_failure_is_counted_and_named(workbench: Workbench) -> None:
    """The document says how often, when first and last, and why each time."""
    recording = workbench.record()
    began = now() - timedelta(seconds=1)
    assert [fail(workbench, recording, ContentError(reason, "detail")) for reason in ("first", "second")] == [1, 2]
    quarantine = known(workbench, recording)
    document = workbench.bucket.document("quarantine", recording) or {}
    assert (quarantine.recording_sid, quarantine.account_sid) == (recording.sid, recording.account_sid)
    assert quarantine.attempts == document["attempts"] == 2
    assert [failure["reason"] for failure in quarantine.failures] == ["first", "second"]
    assert [failure["detail"] for failure in quarantine.failures] == ["detail", "detail"]
    assert began < parse_iso(quarantine.first_failed_at) <= parse_iso(quarantine.last_failed_at) <= now()
    times = [failure["at"] for failure in quarantine.failures]
    assert times == [quarantine.first_failed_at, quarantine.last_failed_at]


def test_only_the_latest_failures_are_kept(workbench: Workbench) -> None:
    """The count goes on, the list of reasons does not grow for ever."""
    recording = workbench.record()
    for number in range(22):
        fail(workbench, recording, ContentError(f"number {number}"))
    quarantine = known(workbench, recording)
    assert quarantine.attempts == 22
    assert [failure["reason"] for failure in quarantine.failures] == [f"number {n}" for n in range(2, 22)]


def test_racing_twins_are_all_counted(workbench: Workbench) -> None:
    """Failures at the same moment are counted one by one, whoever writes first."""
    recording = workbench.record()
    with ThreadPoolExecutor(5) as pool:
        counts = list(pool.map(lambda _: fail(workbench, recording), range(5)))
    assert sorted(counts) == [1, 2, 3, 4, 5]
    assert known(workbench, recording).attempts == 5


def test_a_document_that_always_changes_is_left_for_later(workbench: Workbench) -> None:
    """Who loses every round gives up and says so, and overwrites nobody's count."""
    recording = workbench.record()
    key = workbench.filing(recording).quarantine
    fail(workbench, recording)

    def twin(_request: S3Request) -> None:
        workbench.tamper(key, "attempts", known(workbench, recording).attempts + 1)

    workbench.proxy.inject(Hook(before=twin), "PutObject", key_contains=key, times=None)
    with pytest.raises(TemporaryError, match="quarantine_contended"):
        fail(workbench, recording)
    assert known(workbench, recording).attempts == 6


def test_a_person_is_called_at_the_threshold(workbench: Workbench) -> None:
    """Below the threshold a failure is a warning, from it on an error, each with its count."""
    recording = workbench.record()
    with capture_logs() as logs:
        for _ in range(THRESHOLD + 1):
            fail(workbench, recording)
    events = [entry for entry in logs if entry["event"] == "recording_quarantined"]
    assert [(entry["attempts"], entry["log_level"]) for entry in events] == [
        (1, "warning"),
        (2, "warning"),
        (3, "error"),
        (4, "error"),
    ]
    assert {entry["reason"] for entry in events} == {ERROR.reason}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"do not touch",
        b'{"schema":"recording-quarantine/1","attempts":3}',
        *(
            b'{"schema":"recording-quarantine/1","recording_sid":"RE","account_sid":"AC","attempts":3,"failures":[],'
            b'"last_failed_at":"2026-11-22T10:00:00.000Z","first_failed_at":%s}' % moment
            for moment in (b"null", b"7", b'"soon"', b'"2026-11-22T10:00:00"')
        ),
    ],
    ids=["empty", "no schema", "text", "incomplete", "no time", "a number", "no date", "no zone"],
)
def test_a_document_that_nobody_can_read_counts(workbench: Workbench, body: bytes) -> None:
    """What is under the key blocks the deletion whatever it says, and the next failure makes a document of it."""
    recording = workbench.record()
    workbench.overwrite(workbench.filing(recording).quarantine, body)
    assert known(workbench, recording).attempts == 1
    assert fail(workbench, recording) == 2
    reasons = [failure["reason"] for failure in known(workbench, recording).failures]
    assert reasons == ["quarantine_unreadable", ERROR.reason]


@pytest.mark.parametrize(
    ("attempts", "ago", "rests"),
    [
        (THRESHOLD - 1, timedelta(0), False),
        (THRESHOLD, timedelta(0), True),
        (THRESHOLD, RETRY_EVERY - timedelta(seconds=1), True),
        (THRESHOLD, RETRY_EVERY, False),
        (THRESHOLD + 9, RETRY_EVERY, False),
    ],
)
def test_what_needs_a_person_is_tried_once_a_day(attempts: int, ago: timedelta, rests: bool) -> None:
    """At the threshold a recording rests for a day after its last failure."""
    moment = now()
    failed_at = iso(moment - ago)
    quarantine = Quarantine("RE", "AC", attempts, failed_at, failed_at, ())
    assert quarantine.rests(THRESHOLD, parse_iso(iso(moment))) is rests


# The task around it


@pytest.fixture
def bench(make_workbench: Callable[..., Workbench], redis_url: str) -> Workbench:
    """Return the parts of a worker that calls for a person at the second failure."""
    return make_workbench().under(REDIS_URL=redis_url, QUARANTINE_AFTER="2")


def message(recording: SimRecording) -> dict[str, Any]:
    return {"account_sid": recording.account_sid, "recording_sid": recording.sid}


def enqueued(bench: Workbench) -> list[str]:
    """Return the SIDs that wait to be archived, and take them away."""
    with redis_client(bench.settings) as client:
        return taken(client)


def downloads(bench: Workbench, recording: SimRecording) -> int:
    """Return how often the media was asked for."""
    events = bench.simulator.timeline
    return sum(each.endpoint == "media" and each.recording_sid == recording.sid for each in events)


def test_content_that_fails_is_quarantined_rests_and_is_resolved(bench: Workbench) -> None:
    """Two failures leave it to a person; a day later it is tried again, and its receipt tells the story."""
    recording = bench.record(seconds=7.0)
    fault = bench.simulator.inject(OtherAudio(seconds=3.0), recording.sid, times=None)
    for _ in range(2):
        with pytest.raises(ContentError, match="duration_differs"):
            bench.work.archive_recording(message(recording))
    tried = downloads(bench, recording)
    bench.work.archive_recording(message(recording))
    assert downloads(bench, recording) == tried
    fault.remove()
    bench.work.archive_recording(message(recording))
    assert downloads(bench, recording) == tried
    key = bench.filing(recording).quarantine
    bench.tamper(key, "last_failed_at", iso(now() - RETRY_EVERY))
    bench.work.archive_recording(message(recording))
    assert bench.bucket.body(key) is None
    receipt = bench.bucket.document("receipts", recording) or {}
    assert receipt["quarantine"]["attempts"] == 2
    assert {failure["reason"] for failure in receipt["quarantine"]["failures"]} == {"duration_differs"}
    assert parse_iso(receipt["quarantine"]["resolved_at"]) <= now()


def test_a_resource_that_is_no_recording_is_quarantined(bench: Workbench) -> None:
    """Also before the day of a recording is known its failure is counted."""
    recording = bench.record(resource_status=["not a string"])
    with pytest.raises(ContentError, match="resource_malformed"):
        bench.work.archive_recording(message(recording))
    key = f"quarantine/account={recording.account_sid}/day=undated/{recording.sid}.json"
    assert json.loads(bench.bucket.body(key) or b"")["attempts"] == 1


def failing(bench: Workbench, recording: SimRecording, times: int) -> None:
    """Try a recording whose content fails or rests, as sweeps would."""
    for _ in range(times):
        with suppress(ContentError):
            bench.work.archive_recording(message(recording))


def test_a_receipt_that_nobody_can_read_rests_too(bench: Workbench) -> None:
    """It is counted to the threshold, left alone for a day, and by frequent sweeps at once."""
    recording = bench.record()
    bench.archived(recording)
    bench.overwrite(bench.filing(recording).receipt, b"{}")
    failing(bench, recording, 4)
    assert known(bench, recording).attempts == 2
    assert bench.work.hints.resting([recording.sid]) == {recording.sid}
    bench.tamper(bench.filing(recording).quarantine, "last_failed_at", iso(now() - RETRY_EVERY))
    failing(bench, recording, 1)
    assert known(bench, recording).attempts == 3


def test_a_resource_that_is_no_recording_rests_too(
    bench: Workbench, redis_server: RedisServer, redis_database: int
) -> None:
    """Frequent sweeps leave it alone for a day from its threshold on, though nothing but its failure is known."""
    recording = bench.record(resource_status=["not a string"])
    failing(bench, recording, 1)
    assert bench.work.hints.resting([recording.sid]) == set()
    failing(bench, recording, 1)
    assert bench.work.hints.resting([recording.sid]) == {recording.sid}
    with redis_server.client(redis_database) as redis:
        (key,) = redis.scan_iter(f"*{recording.sid}")
        assert 23 * 60 * 60 < redis.ttl(key) <= RETRY_EVERY.total_seconds()


def test_what_was_archived_meanwhile_is_resolved(bench: Workbench) -> None:
    """A recording that failed once and has a receipt by now is released when S3 confirms the receipt."""
    recording = bench.record()
    bench.archived(recording)
    record_failure(bench.archive, bench.filing(recording), ERROR, 2)
    bench.work.archive_recording(message(recording))
    assert bench.bucket.document("quarantine", recording) is None


@pytest.mark.parametrize(("status", "deleted"), [("completed", True), ("absent", False), ("processing", False)])
def test_what_is_resolved_is_deleted_only_when_twilio_has_it(bench: Workbench, status: str, deleted: bool) -> None:
    """A receipt is released whatever Twilio says; its source is to go only if Twilio calls it completed or deleted."""
    recording = bench.record()
    bench.archived(recording)
    record_failure(bench.archive, bench.filing(recording), ERROR, 2)
    recording.resource_status = status
    bench.work.archive_recording(message(recording))
    assert bench.bucket.document("quarantine", recording) is None
    assert bench.work.hints.queue_depth("delete") == int(deleted)


@pytest.mark.parametrize("setting", ["never", "verified"])
@pytest.mark.parametrize("gone", [False, True], ids=["at Twilio", "deleted by somebody else"])
def test_an_end_that_could_not_be_written_is_made_up_for(
    bench: Workbench, setting: str, gone: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was archived while S3 refused to remove its quarantine is brought back by the audit, and released."""
    bench = bench.under(TWILIO_DELETE=setting)
    recording = bench.record(date_created=now() - timedelta(hours=1))
    record_failure(bench.archive, bench.filing(recording), ERROR, 2)
    key = bench.filing(recording).quarantine
    with bench.meanwhile("DeleteObject", key), pytest.raises(ConfigurationError, match="s3_refused"):
        bench.work.archive_recording(message(recording))
    assert bench.bucket.document("receipts", recording) is not None
    assert bench.bucket.body(key) is not None
    if gone:
        bench.simulator.delete(recording)
    bench.work.audit({})
    assert enqueued(bench) == [recording.sid]
    bench.work.archive_recording(message(recording))
    assert bench.bucket.body(key) is None
    assert bench.work.hints.queue_depth("delete") == int(setting == "verified")


def test_what_twilio_has_forgotten_is_released_by_its_receipt(bench: Workbench) -> None:
    """Also when Twilio shows nothing of it any more: the index says where it is filed."""
    recording = bench.record()
    bench.archived(recording)
    record_failure(bench.archive, bench.filing(recording), ERROR, 2)
    bench.simulator.delete(recording)
    recording.deleted_at = now() - timedelta(days=41)
    bench.work.archive_recording(message(recording))
    assert bench.bucket.document("quarantine", recording) is None


def test_a_failure_before_the_day_was_known_is_over_once_it_is_archived(bench: Workbench) -> None:
    """The document without a day goes, too, when the recording comes by again; the audit sees to it."""
    recording = bench.record(date_created=now() - timedelta(hours=1), resource_status=["not a string"])
    with pytest.raises(ContentError, match="resource_malformed"):
        bench.work.archive_recording(message(recording))
    recording.resource_status = None
    bench.archived(recording)
    bench.work.audit({})
    assert enqueued(bench) == [recording.sid]
    bench.work.archive_recording(message(recording))
    assert not any(key.startswith("quarantine/") for key in bench.bucket.keys(recording))


@pytest.mark.parametrize("status", [401, 403])
def test_configuration_counts_nothing(bench: Workbench, status: int) -> None:
    """A refusal is nobody's content: nothing is put into quarantine."""
    recording = bench.record()
    bench.simulator.inject(ErrorStatus(status, 20003), recording.sid, Match(endpoint="media"), times=None)
    with pytest.raises(ConfigurationError):
        bench.work.archive_recording(message(recording))
    assert bench.bucket.document("quarantine", recording) is None
