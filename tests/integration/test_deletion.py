"""Deletion: nothing but a receipt of this moment allows it, and whatever ends in between is completed once."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest
from structlog.testing import capture_logs

from app.receipt import DELETIONS_PAUSED, archiver_version, parse_iso
from deploy.local.s3_proxy import Hook as S3Hook
from deploy.local.s3_proxy import S3Request, S3Response
from deploy.local.twilio import Hook, Match, Request, Response, SimRecording
from tests.integration.workbench import Workbench, refusal
from tests.receipt_schema import DELETION_SCHEMA
from workers.deletion import Deletion, pause_deletions
from workers.errors import ArchiverError, ContentError, ForbiddenDeletionError, NotReadyError, TemporaryError
from workers.holds import lift_hold, place_hold
from workers.transcriptions import KeptTexts


def archived(bench: Workbench, **call: Any) -> SimRecording:
    """Let a recording happen and archive it."""
    recording = bench.record(**call)
    bench.archived(recording)
    return recording


def is_recent(moment: str) -> bool:
    return abs(datetime.now(UTC) - parse_iso(moment)) < timedelta(minutes=1)


# The order of things


def test_the_request_is_written_before_and_the_proof_after(workbench: Workbench) -> None:
    """When the DELETE comes the request document is in S3, and the deletion receipt only after Twilio's word."""
    recording = archived(workbench)
    seen: list[tuple[str, bool, bool]] = []

    def look(request: Request) -> None:
        documents = [workbench.bucket.document("deletions", recording, name) for name in ("requested.json", "json")]
        seen.append((request.method, *(document is not None for document in documents)))

    for endpoint in ("delete", "resource"):
        workbench.simulator.inject(Hook(before=look), recording.sid, Match(endpoint=endpoint))
    workbench.delete(recording)
    assert seen == [("DELETE", True, False), ("GET", True, False)]
    assert workbench.bucket.document("deletions", recording) is not None
    assert recording.deleted_at is not None


def test_a_deletion_is_counted_once(workbench: Workbench) -> None:
    """Whoever repeats it learns that it was done before."""
    recording = archived(workbench)
    assert [workbench.delete(recording), workbench.delete(recording)] == [True, False]


def test_a_whole_life_takes_one_connection(workbench: Workbench) -> None:
    """To Twilio, TLS handshakes would cost more than the requests; the answer to the DELETE has no body to wait for."""
    workbench.delete(archived(workbench))
    workbench.delete(archived(workbench))
    assert workbench.simulator.connections == 1


def test_the_documents_say_what_was_checked_and_answered(workbench: Workbench) -> None:
    """The request holds the checks, the deletion receipt the answers; both name the receipt by key and version."""
    recording = archived(workbench)
    verified = workbench.verified(recording)
    texts = KeptTexts(2, 1, "transcriptions/x.json", None)
    workbench.delete(recording, texts)
    receipt = {"key": verified.filing.receipt, "version_id": verified.version_id}
    request = workbench.bucket.document("deletions", recording, "requested.json") or {}
    deletion = workbench.bucket.document("deletions", recording) or {}
    stated = json.loads(verified.receipt.to_json())
    assert is_recent(request.pop("requested_at"))
    assert request == {
        "schema": "recording-deletion-request/1",
        "recording_sid": recording.sid,
        "account_sid": recording.account_sid,
        "receipt": receipt,
        "checks": {
            "media": stated["media"],
            "storage": stated["storage"],
            "method": "checksum",
            "checksum": stated["verification"]["checksum"],
            "legal_hold": False,
            "quarantined": False,
            "deletions_paused": False,
        },
        "transcriptions": asdict(texts),
        "archiver_version": archiver_version(),
    }
    jsonschema.validate(deletion, DELETION_SCHEMA)
    assert is_recent(deletion.pop("deleted_at"))
    assert deletion == {
        "schema": "recording-deletion/1",
        "recording_sid": recording.sid,
        "account_sid": recording.account_sid,
        "receipt": receipt,
        "answer": {"status": 204, "by_archiver": True},
        "confirmation": workbench.twilio.fetch(recording.account_sid, recording.sid).raw,
        "transcriptions": asdict(texts),
        "archiver_version": archiver_version(),
    }


def test_the_documents_carry_the_retention_of_the_media(make_workbench: Callable[..., Workbench]) -> None:
    """Proof lives as long as what it proves: request and deletion receipt are locked until the same date."""
    bench = make_workbench(object_lock=True).under(ARCHIVE_OBJECT_LOCK_MODE="GOVERNANCE", ARCHIVE_RETENTION_DAYS="10")
    created = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
    recording = archived(bench, date_created=created, start_time=created - timedelta(days=1))
    bench.delete(recording)
    filing = bench.filing(recording)
    keys = [filing.media("wav"), filing.receipt, filing.deletion_request, filing.deletion]
    heads = [bench.archive.head(key) or {} for key in keys]
    assert {head["ObjectLockRetainUntilDate"] for head in heads} == {recording.start_time + timedelta(days=10)}


def test_between_the_look_at_the_receipt_and_the_request_is_only_what_forbids_it(
    make_workbench: Callable[..., Workbench], redis_url: str
) -> None:
    """What a worker has yet to learn of the bucket it learns before: the look is to be of the moment of the DELETE."""
    bench = make_workbench(object_lock=True).under(ARCHIVE_OBJECT_LOCK_MODE="GOVERNANCE", ARCHIVE_RETENTION_DAYS="10")
    recording = archived(bench)
    earlier = len(bench.requests())
    bench.under(REDIS_URL=redis_url).work.delete_source(message(recording))
    requests = bench.requests()[earlier:]
    keys, filing = [event.key for event in requests], bench.filing(recording)
    assert "GetObjectLockConfiguration" in [event.operation for event in requests[: keys.index(filing.receipt)]]
    checks = keys[keys.index(filing.receipt) : keys.index(filing.deletion_request)]
    looked_at = [filing.receipt, filing.media("wav"), filing.hold, filing.quarantine, DELETIONS_PAUSED]
    assert checks == looked_at


# What forbids it


def forbidden(bench: Workbench, recording: SimRecording) -> str:
    """Try to delete, and return what an operator is told; nothing was written or sent then."""
    with pytest.raises(ForbiddenDeletionError) as caught:
        bench.delete(recording)
    assert bench.deletes(recording) == []
    assert bench.bucket.document("deletions", recording, "requested.json") is None
    assert bench.bucket.document("deletions", recording) is None
    return str(caught.value)


@pytest.mark.parametrize("setting", ["never", "24h"])
def test_twilio_delete_keeps_the_source(workbench: Workbench, setting: str) -> None:
    """With `never`, or before the delay is over, the source stays."""
    recording = archived(workbench)
    assert forbidden(workbench.under(TWILIO_DELETE=setting), recording) == (
        "deletion_not_due: TWILIO_DELETE asks to keep the source for now"
    )


def test_twilio_delete_counts_from_the_archival(workbench: Workbench) -> None:
    """When the delay since `archived_at` is over, the source goes."""
    recording = archived(workbench)
    yesterday = datetime.now(UTC) - timedelta(hours=24, seconds=1)
    workbench.tamper(workbench.filing(recording).receipt, "archived_at", yesterday.isoformat())
    workbench.under(TWILIO_DELETE="24h").delete(recording)
    assert recording.deleted_at is not None


def test_a_legal_hold_forbids_it(make_workbench: Callable[..., Workbench]) -> None:
    """What S3 holds for a court stays at Twilio too."""
    bench = make_workbench(object_lock=True)
    recording = archived(bench)
    bench.bucket.client.put_object_legal_hold(
        Bucket=bench.bucket.name, Key=bench.filing(recording).media("wav"), LegalHold={"Status": "ON"}
    )
    assert forbidden(bench, recording) == "legal_hold: the media is under an S3 legal hold"


@pytest.mark.parametrize("end", ["as S3 shows nothing", "as nobody can read it"])
def test_a_hold_that_s3_does_not_show_forbids_it(make_workbench: Callable[..., Workbench], end: str) -> None:
    """Whoever may not see legal holds is not shown any: the document that asks for one is enough."""
    bench = make_workbench(object_lock=True)
    recording = archived(bench)
    place_hold(bench.archive, bench.filed(recording), "case 7")
    if end == "as nobody can read it":
        bench.overwrite(bench.filing(recording).hold, b"{}")

    def unseen(_request: S3Request, response: S3Response) -> S3Response:
        shown = {k: v for k, v in response.headers.items() if k != "x-amz-object-lock-legal-hold"}
        return replace(response, headers=shown)

    bench.proxy.inject(S3Hook(after=unseen), "HeadObject", times=None)
    assert bench.verified(recording).legal_hold is False
    assert forbidden(bench, recording) == "legal_hold: control/holds in the bucket says why"


def test_a_hold_that_was_lifted_forbids_nothing(make_workbench: Callable[..., Workbench]) -> None:
    """What was held and is not any more goes as ever."""
    bench = make_workbench(object_lock=True)
    recording = archived(bench)
    place_hold(bench.archive, bench.filed(recording), "case 7")
    lift_hold(bench.archive, bench.filed(recording), "case 7 is over")
    bench.delete(recording)
    assert recording.deleted_at is not None


def test_a_quarantine_forbids_it(workbench: Workbench) -> None:
    """A quarantine document blocks the deletion of its recording, whatever it says, and of no other."""
    recording, other = archived(workbench), archived(workbench)
    workbench.overwrite(workbench.filing(recording).quarantine, b"")
    assert forbidden(workbench, recording) == "quarantined: the recording is in quarantine"
    workbench.delete(other)
    assert other.deleted_at is not None


@pytest.mark.parametrize("prefix", ["", "ours"])
def test_the_stop_switch_forbids_it(workbench: Workbench, prefix: str) -> None:
    """While `control/deletions-paused.json` is under our prefix nothing is deleted; without it, things go on."""
    bench = workbench.under(ARCHIVE_PREFIX=prefix)
    recording = archived(bench)
    switch = bench.settings.ARCHIVE_PREFIX + "control/deletions-paused.json"
    pause_deletions(bench.archive, "archive_differs", recording.sid)
    assert bench.bucket.body(switch) is not None
    told = "deletions_paused: control/deletions-paused.json in the bucket says why"
    assert forbidden(bench, recording) == told
    bench.archive.remove(switch)
    bench.delete(recording)
    assert recording.deleted_at is not None


def test_a_pause_while_s3_is_slow_is_noticed(workbench: Workbench) -> None:
    """Checks are of one moment: when the request takes long to be written, they are made once more."""
    recording, seconds = archived(workbench), [0.0]

    def hang(request: S3Request) -> None:
        pause_deletions(workbench.archive, "meanwhile")
        seconds[0] += 11.0

    workbench.proxy.inject(S3Hook(before=hang), "PutObject", key_contains=workbench.filing(recording).deletion_request)
    deletion = Deletion(workbench.settings, workbench.twilio, workbench.archive, clock=lambda: seconds[0])
    with pytest.raises(TemporaryError, match="checks_outdated"):
        deletion.delete_source(workbench.verified(recording), KeptTexts())
    with pytest.raises(ForbiddenDeletionError, match="deletions_paused"):
        workbench.delete(recording)
    assert workbench.deletes(recording) == []


def test_the_stop_switch_says_why_and_stays(workbench: Workbench) -> None:
    """The document names reason and recording, and the first reason stands."""
    with capture_logs() as logs:
        pause_deletions(workbench.archive, "archive_differs", "RE1")
    assert logs == [{"event": "deletions_paused", "log_level": "error", "reason": "archive_differs"}]
    pause_deletions(workbench.archive, "another", "RE2")
    document = json.loads(workbench.bucket.body(DELETIONS_PAUSED) or b"")
    assert is_recent(document.pop("paused_at"))
    assert document == {
        "schema": "deletions-paused/1",
        "reason": "archive_differs",
        "recording_sid": "RE1",
        "archiver_version": archiver_version(),
    }


# What Twilio answers


def test_a_404_to_the_first_request_is_somebody_elses_deletion(workbench: Workbench) -> None:
    """What was gone before we asked was not deleted by us, and the deletion receipt says so."""
    recording = archived(workbench)
    workbench.simulator.delete(recording)
    with capture_logs() as logs:
        workbench.delete(recording)
    assert logs == [{"event": "source_deleted", "log_level": "info", "answer": 404, "by_archiver": False}]
    deletion = workbench.bucket.document("deletions", recording) or {}
    assert deletion["answer"] == {"status": 404, "by_archiver": False}
    assert deletion["confirmation"]["status"] == "deleted"


def test_a_404_to_a_repeated_request_is_ours(workbench: Workbench) -> None:
    """When the answer to our DELETE was lost, the next one's 404 does not look like somebody else's deletion."""
    recording = archived(workbench)
    workbench.simulator.inject(Hook(after=unavailable), recording.sid, Match(endpoint="delete"))
    with pytest.raises(ArchiverError):
        workbench.delete(recording)
    assert workbench.bucket.document("deletions", recording) is None
    workbench.delete(recording)
    deletion = workbench.bucket.document("deletions", recording) or {}
    assert deletion["answer"] == {"status": 404, "by_archiver": True}


def unavailable(_request: Request, _response: Response | None = None) -> Response:
    """Answer 503 in Twilio's place."""
    return Response.json({"code": 20503, "status": 503}, 503)


def test_a_deletion_that_twilio_does_not_confirm_is_not_proven(workbench: Workbench) -> None:
    """As long as the resource is not called deleted there is no deletion receipt; later there is one."""
    recording = archived(workbench)

    def still_there(_request: Request, response: Response) -> Response:
        return Response.json(json.loads(response.body.read()) | {"status": "completed"})

    workbench.simulator.inject(Hook(after=still_there), recording.sid, Match(endpoint="resource"))
    with pytest.raises(NotReadyError) as caught:
        workbench.delete(recording)
    assert str(caught.value) == "deletion_unconfirmed: Twilio does not call the recording deleted yet"
    assert workbench.bucket.document("deletions", recording) is None
    workbench.delete(recording)
    assert (workbench.bucket.document("deletions", recording) or {})["answer"] == {"status": 404, "by_archiver": True}


def test_a_resource_that_twilio_has_forgotten_is_gone(workbench: Workbench) -> None:
    """A 404 also for the soft-deleted resource is more than deleted; the receipt says that nothing confirms it."""
    recording = archived(workbench)

    def forgotten(_request: Request) -> Response:
        return Response.json({"code": 20404, "status": 404}, 404)

    workbench.simulator.inject(Hook(before=forgotten), recording.sid, Match(endpoint="resource"))
    workbench.delete(recording)
    deletion = workbench.bucket.document("deletions", recording) or {}
    jsonschema.validate(deletion, DELETION_SCHEMA)
    assert (deletion["answer"]["status"], deletion["confirmation"]) == (204, None)


def test_a_recording_that_twilio_knows_nowhere_is_not_proven_deleted(workbench: Workbench) -> None:
    """Two times 404 is also what another region answers: no deletion receipt, and with the right one it goes on."""
    recording = archived(workbench)

    def unknown(_request: Request) -> Response:
        return Response.json({"code": 20404, "status": 404}, 404)

    elsewhere = workbench.simulator.inject(Hook(before=unknown), recording.sid, times=None)
    for _ in range(2):
        with pytest.raises(NotReadyError) as caught:
            workbench.delete(recording)
        assert str(caught.value) == (
            "deletion_unconfirmed: Twilio knows neither the recording nor that it was deleted; check the region"
        )
    assert workbench.bucket.document("deletions", recording) is None
    elsewhere.remove()
    workbench.delete(recording)
    assert recording.deleted_at is not None
    deletion = workbench.bucket.document("deletions", recording) or {}
    assert deletion["answer"] == {"status": 204, "by_archiver": True}


# An end in between


@dataclass(frozen=True)
class End:
    """Where an attempt ends: at a request of one side, before it was carried out or after."""

    side: str
    request: str
    carried_out: bool

    @contextmanager
    def at(self, bench: Workbench, recording: SimRecording) -> Iterator[None]:
        """Let attempts on a recording end here for the length of the block."""
        injection: Any
        if self.side == "S3":
            filing = bench.filing(recording)
            key = filing.deletion_request if self.request == "requested.json" else filing.deletion
            injection = bench.proxy.inject(refusal(carried_out=self.carried_out), "PutObject", key_contains=key)
        else:
            hook = Hook(after=unavailable) if self.carried_out else Hook(before=unavailable)
            injection = bench.simulator.inject(hook, recording.sid, Match(endpoint=self.request))
        yield
        injection.remove()
        assert injection.hits == 1


ENDS = [
    End(side, request, carried_out)
    for side, request in (
        ("S3", "requested.json"),
        ("Twilio", "delete"),
        ("Twilio", "resource"),
        ("S3", "json"),
    )
    for carried_out in (False, True)
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: f"{end.request} {'after' if end.carried_out else 'before'}")
def test_an_end_anywhere_in_between_is_completed(workbench: Workbench, end: End) -> None:
    """Wherever an attempt ends, the next one leads to one effective DELETE and one deletion receipt, which is ours."""
    recording = archived(workbench)
    with end.at(workbench, recording), pytest.raises(ArchiverError):
        workbench.delete(recording)
    workbench.delete(recording)
    filing = workbench.filing(recording)
    assert len(workbench.versions(filing.deletion)) == 1
    assert len(workbench.versions(filing.deletion_request)) == 1
    assert workbench.deletes(recording).count(204) + (end == End("Twilio", "delete", True)) == 1
    deletion = workbench.bucket.document("deletions", recording) or {}
    assert deletion["answer"]["by_archiver"] is True
    assert deletion["confirmation"]["status"] == "deleted"


def test_what_is_requested_starts_again_at_the_checks(workbench: Workbench) -> None:
    """A request document permits nothing: after an end in between, what forbids the deletion forbids it again."""
    recording = archived(workbench)
    with End("Twilio", "delete", False).at(workbench, recording), suppress(ArchiverError):
        workbench.delete(recording)
    pause_deletions(workbench.archive, "later")
    with pytest.raises(ForbiddenDeletionError, match="deletions_paused"):
        workbench.delete(recording)
    assert recording.deleted_at is None


def test_what_was_kept_is_stated_though_twilio_shows_it_no_more(workbench: Workbench) -> None:
    """Transcriptions vanish with their recording: after an end in between, the request says what was kept of them."""
    recording = archived(workbench)
    texts = KeptTexts(2, 1, "transcriptions/x.json", None)
    with End("Twilio", "delete", True).at(workbench, recording), suppress(ArchiverError):
        workbench.delete(recording, texts)
    workbench.delete(recording, KeptTexts())
    assert (workbench.bucket.document("deletions", recording) or {})["transcriptions"] == asdict(texts)


def test_what_was_kept_since_the_request_is_stated(workbench: Workbench) -> None:
    """Where the source is still there, the latest look is the one that counts; an old request may say nothing of it."""
    recording = archived(workbench)
    workbench.overwrite(workbench.filing(recording).deletion_request, b"{}")
    texts = KeptTexts(3, 0, "transcriptions/x.json", None)
    workbench.delete(recording, texts)
    assert (workbench.bucket.document("deletions", recording) or {})["transcriptions"] == asdict(texts)


def test_a_deletion_may_be_repeated(workbench: Workbench) -> None:
    """What is asked for twice is done once, and the deletion receipt stays as it is."""
    recording = archived(workbench)
    workbench.delete(recording)
    first = workbench.bucket.document("deletions", recording)
    workbench.delete(recording)
    assert workbench.bucket.document("deletions", recording) == first
    assert workbench.deletes(recording) == [204]


# The task around it


@pytest.fixture
def bench(workbench: Workbench, redis_url: str) -> Workbench:
    """Return the parts of a worker with a queue."""
    return workbench.under(REDIS_URL=redis_url)


def message(recording: SimRecording) -> dict[str, str]:
    """Return what the archiving task enqueues."""
    day = recording.date_created.date().isoformat()
    return {"account_sid": recording.account_sid, "recording_sid": recording.sid, "day": day}


def test_a_mismatch_stops_all_deletions(bench: Workbench) -> None:
    """One object that is not as its receipt states pauses every deletion and puts its recording into quarantine."""
    wrong, right = archived(bench), archived(bench)
    bench.overwrite(bench.filing(wrong).media("wav"), b"not ours")
    with pytest.raises(ContentError):
        bench.work.delete_source(message(wrong))
    assert (bench.bucket.document("quarantine", wrong) or {})["attempts"] == 1
    with pytest.raises(ForbiddenDeletionError, match="deletions_paused"):
        bench.work.delete_source(message(right))
    assert json.loads(bench.bucket.body(DELETIONS_PAUSED) or b"")["recording_sid"] == wrong.sid
    assert bench.deletes(wrong) == bench.deletes(right) == []


@pytest.mark.parametrize("over", [True, False], ids=["retention over", "retention not over"])
def test_what_a_lifecycle_rule_removed_stops_nothing(
    make_workbench: Callable[..., Workbench], redis_url: str, over: bool
) -> None:
    """Media that is gone after its time is no mismatch: Twilio's copy is the last one and stays, others may go."""
    bench = make_workbench(object_lock=True).under(
        REDIS_URL=redis_url, ARCHIVE_OBJECT_LOCK_MODE="GOVERNANCE", ARCHIVE_RETENTION_DAYS="10"
    )
    age = timedelta(days=11 if over else 2)
    recording = archived(bench, date_created=datetime.now(UTC).replace(microsecond=0) - age)
    other = archived(bench)
    bench.archive.remove(bench.filing(recording).media("wav"))
    error = ForbiddenDeletionError if over else ContentError
    with pytest.raises(error, match="archive_expired" if over else "archive_missing"):
        bench.work.delete_source(message(recording))
    assert bench.deletes(recording) == []
    assert (bench.bucket.document("quarantine", recording) is None) is over
    if over:
        bench.work.delete_source(message(other))
        assert other.deleted_at is not None


def test_a_receipt_that_nobody_can_read_stops_all_deletions(bench: Workbench) -> None:
    """What is no receipt any more is a mismatch like any other."""
    wrong, right = archived(bench), archived(bench)
    bench.overwrite(bench.filing(wrong).receipt, b"{}")
    with pytest.raises(ContentError, match="receipt_unreadable"):
        bench.work.delete_source(message(wrong))
    assert (bench.bucket.document("quarantine", wrong) or {})["attempts"] == 1
    with pytest.raises(ForbiddenDeletionError, match="deletions_paused"):
        bench.work.delete_source(message(right))
    assert bench.deletes(wrong) == bench.deletes(right) == []


def test_the_task_does_nothing_twice(bench: Workbench) -> None:
    """What has its deletion receipt is not asked for again."""
    recording = archived(bench)
    for _ in range(3):
        bench.work.delete_source(message(recording))
    assert bench.deletes(recording) == [204]


def test_a_message_cannot_cause_a_deletion(bench: Workbench) -> None:
    """Without a receipt in S3 under the day that a message names, nothing is sent to Twilio."""
    recording = bench.record()
    other = archived(bench)
    for forged in (message(recording), message(other) | {"day": "2026-01-01"}):
        with pytest.raises(ForbiddenDeletionError, match="no_receipt"):
            bench.work.delete_source(forged)
    assert bench.deletes(recording) == bench.deletes(other) == []


def test_a_receipt_of_another_recording_deletes_nothing(bench: Workbench) -> None:
    """A receipt that was copied under another recording's key is refused."""
    recording, other = bench.record(), archived(bench)
    filed = bench.bucket.body(bench.filing(other).receipt) or b""
    bench.overwrite(bench.filing(recording).receipt, filed)
    with pytest.raises(ContentError, match="receipt_of_another_recording"):
        bench.work.delete_source(message(recording))
    assert bench.deletes(recording) == bench.deletes(other) == []


def test_deletion_is_of_the_verified_receipts_recording(workbench: Workbench) -> None:
    """The one DELETE names the account and the recording of the receipt."""
    recording = archived(workbench)
    archived(workbench)
    Deletion(workbench.settings, workbench.twilio, workbench.archive).delete_source(
        workbench.verified(recording), KeptTexts()
    )
    (sent,) = [event for event in workbench.simulator.timeline if event.method == "DELETE"]
    assert sent.path == f"/2010-04-01/Accounts/{recording.account_sid}/Recordings/{recording.sid}.json"
