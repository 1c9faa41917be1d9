"""Transcriptions and add-on results: kept as Twilio gave them before the source goes, and not waited for for ever."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.receipt import iso, parse_iso
from deploy.local.s3_proxy import Hook as S3Hook
from deploy.local.s3_proxy import S3Request
from deploy.local.twilio import ErrorStatus, Hook, Match, Request, Response, SimRecording
from tests.integration.workbench import Workbench
from workers.errors import ArchiverError, ContentError, NotReadyError, TemporaryError
from workers.transcriptions import PATIENCE, KeptTexts, keep_texts, list_texts

DATA = [{"results": {"language": "en", "words": ["hello", "welt ü"]}}, {"score": 0.5}]


def keep(bench: Workbench, recording: SimRecording, waited: timedelta | None = None) -> KeptTexts:
    """Keep the texts of a recording; `waited` is how long ago something was first missing."""
    if waited is not None:
        since = iso(datetime.now(UTC) - waited)
        bench.tamper(bench.filing(recording).transcriptions, "waiting_since", since)
    filing = bench.filing(recording)
    return keep_texts(bench.archive, filing, list_texts(bench.twilio, filing))


def kept(bench: Workbench, recording: SimRecording) -> dict[str, Any] | None:
    return bench.bucket.document("transcriptions", recording)


def deletion_message(recording: SimRecording) -> dict[str, str]:
    """Return what the archiving task enqueues."""
    day = recording.date_created.date().isoformat()
    return {"account_sid": recording.account_sid, "recording_sid": recording.sid, "day": day}


LATE = PATIENCE + timedelta(seconds=5)


def test_a_recording_without_texts_leaves_no_document(workbench: Workbench) -> None:
    """Where there is neither, nothing is written, and the deletion receipt will say so."""
    recording = workbench.record()
    assert keep(workbench, recording) == KeptTexts(0, 0, None, None)
    assert workbench.requests() == []


def test_finished_texts_are_kept_as_twilio_gave_them(workbench: Workbench) -> None:
    """Every field of each transcription and add-on result is in the document, with each payload's data."""
    recording = workbench.record()
    transcriptions = [workbench.simulator.add_transcription(recording, text=text) for text in ("One.", "Two ü.")]
    result = workbench.simulator.add_add_on_result(recording, data=DATA)
    filing = workbench.filing(recording)
    assert keep(workbench, recording) == KeptTexts(2, 1, filing.transcriptions, None)
    document = kept(workbench, recording) or {}
    assert document["schema"] == "recording-transcriptions/1"
    assert (document["recording_sid"], document["account_sid"]) == (recording.sid, recording.account_sid)
    assert document["transcriptions"] == transcriptions
    assert document["add_on_results"] == [result]
    assert [payload["data"] for payload in document["add_on_results"][0]["payloads"]] == DATA


def test_data_that_is_not_json_is_kept_as_text(workbench: Workbench) -> None:
    """Whatever an add-on delivers is kept."""
    recording = workbench.record()
    workbench.simulator.add_add_on_result(recording, data=DATA[:1])

    def as_text(_request: Request, response: Response) -> Response:
        return Response(200, {"Content-Type": "text/plain"}, type(response.body)(b"plain \xff"))  # type: ignore[call-arg]

    workbench.simulator.inject(Hook(after=as_text), match=Match(endpoint="cdn"))
    keep(workbench, recording)
    ((payload,),) = [result["payloads"] for result in (kept(workbench, recording) or {})["add_on_results"]]
    assert payload["data"] == "plain \ufffd"


@pytest.mark.parametrize("kind", ["transcription", "add-on result"])
@pytest.mark.parametrize("status", ["in-progress", "processing", "queued", "init"])
def test_what_is_unfinished_is_waited_for_and_then_not(workbench: Workbench, kind: str, status: str) -> None:
    """An unfinished text stops the deletion for `PATIENCE` after it was seen first; then what there is is kept."""
    recording = workbench.record()
    add = workbench.simulator.add_transcription if kind == "transcription" else workbench.simulator.add_add_on_result
    text = add(recording, status=status)
    for waited in (None, PATIENCE - timedelta(minutes=1)):
        with pytest.raises(NotReadyError, match="transcription_in_progress"):
            keep(workbench, recording, waited)
    texts = keep(workbench, recording, LATE)
    assert texts.incomplete == "transcription_in_progress"
    assert texts.transcriptions + texts.add_on_results == 1
    text["status"] = "completed"
    assert keep(workbench, recording).incomplete is None
    document = kept(workbench, recording) or {}
    assert [each["status"] for each in document["transcriptions"] + document["add_on_results"]] == ["completed"]
    assert document["waiting_since"] is None


def test_a_wait_is_written_down_once(workbench: Workbench) -> None:
    """As long as nothing changes the document stays as it is, however often somebody looks."""
    recording = workbench.record()
    workbench.simulator.add_transcription(recording, status="in-progress")
    for _ in range(3):
        with pytest.raises(NotReadyError):
            keep(workbench, recording)
    assert len(workbench.versions(workbench.filing(recording).transcriptions)) == 1


def test_a_wait_of_long_ago_does_not_count(workbench: Workbench) -> None:
    """When a deletion was held up for weeks, one error at its next try does not lose the texts."""
    recording = workbench.record()
    workbench.simulator.add_transcription(recording)
    workbench.simulator.inject(ErrorStatus(500), recording.sid, Match(endpoint="transcriptions"), times=2)
    for waited in (None, 2 * PATIENCE):
        with pytest.raises(TemporaryError, match="twilio_failed"):
            keep(workbench, recording, waited)
    since = parse_iso((kept(workbench, recording) or {})["waiting_since"])
    assert abs(datetime.now(UTC) - since) < timedelta(minutes=1)
    assert keep(workbench, recording) == KeptTexts(1, 0, workbench.filing(recording).transcriptions, None)


def test_what_was_kept_once_stays(workbench: Workbench) -> None:
    """A list that can't be read, or says less than before, takes nothing away; the newer word of each text counts."""
    recording = workbench.record()
    first = workbench.simulator.add_transcription(recording, text="One.")
    result = workbench.simulator.add_add_on_result(recording, data=DATA)
    keep(workbench, recording)
    first_as_kept = dict(first)
    recording.transcriptions.clear()
    second = workbench.simulator.add_transcription(recording, text="Two.")
    result["status"] = "failed"
    assert keep(workbench, recording) == KeptTexts(2, 1, workbench.filing(recording).transcriptions, None)
    document = kept(workbench, recording) or {}
    assert document["transcriptions"] == [first_as_kept, second]
    assert [each["status"] for each in document["add_on_results"]] == ["failed"]


@pytest.mark.parametrize("status", ["completed", "failed", "a status of next year"])
def test_what_has_ended_is_not_waited_for(workbench: Workbench, status: str) -> None:
    """A transcription that failed, or whose status nobody knows, does not block the deletion."""
    recording = workbench.record()
    workbench.simulator.add_transcription(recording, status=status)
    assert keep(workbench, recording).incomplete is None


@pytest.mark.parametrize("endpoint", ["transcriptions", "addons"])
def test_an_account_that_has_none_does_not_block(workbench: Workbench, endpoint: str) -> None:
    """A 404 for one of the lists (PCI mode) is no error, and the other list is kept."""
    recording = workbench.record()
    workbench.simulator.add_transcription(recording)
    workbench.simulator.add_add_on_result(recording)
    workbench.simulator.inject(ErrorStatus(404, 20404), recording.sid, Match(endpoint=endpoint), times=None)
    texts = keep(workbench, recording)
    assert (texts.transcriptions, texts.add_on_results) == ((0, 1) if endpoint == "transcriptions" else (1, 0))
    assert texts.incomplete is None


@pytest.mark.parametrize("endpoint", ["transcriptions", "addons"])
@pytest.mark.parametrize("status", [401, 429, 500])
def test_an_error_blocks_for_a_while_only(workbench: Workbench, endpoint: str, status: int) -> None:
    """What can't be listed stops the deletion for `PATIENCE`; then the deletion receipt says why not all is there."""
    recording = workbench.record()
    workbench.simulator.add_transcription(recording)
    workbench.simulator.add_add_on_result(recording)
    workbench.simulator.inject(ErrorStatus(status), recording.sid, Match(endpoint=endpoint), times=None)
    with pytest.raises(ArchiverError):
        keep(workbench, recording)
    texts = keep(workbench, recording, LATE)
    assert texts.incomplete in ("twilio_refused", "twilio_throttled", "twilio_failed")
    assert (texts.transcriptions, texts.add_on_results) == ((0, 1) if endpoint == "transcriptions" else (1, 0))


@pytest.mark.parametrize(
    ("item", "reason"),
    [("text", "list_malformed"), ({"sid": "TR" + "1" * 32, "status": ["completed"]}, None), ({"sid": "TR"}, None)],
    ids=str,
)
def test_a_list_that_is_malformed_blocks_for_a_while_only(workbench: Workbench, item: Any, reason: str | None) -> None:
    """What no transcription looks like keeps no source for ever, and a status of any kind is none to wait for."""
    recording = workbench.record()

    def other(_request: Request, response: Response) -> Response:
        return Response.json(json.loads(response.body.read()) | {"transcriptions": [item]})

    match = Match(endpoint="transcriptions")
    workbench.simulator.inject(Hook(after=other), recording.sid, match, times=None)
    if reason:
        with pytest.raises(ContentError, match=reason):
            keep(workbench, recording)
    texts = keep(workbench, recording, LATE if reason else None)
    assert (texts.transcriptions, texts.incomplete) == (0 if reason else 1, reason)


@pytest.mark.parametrize("wrong", ["result", "payload"])
def test_a_sid_that_is_none_is_not_asked_for(workbench: Workbench, wrong: str) -> None:
    """SIDs in Twilio's answers become parts of URLs only when they are SIDs."""
    recording = workbench.record()
    result = workbench.simulator.add_add_on_result(recording, data=DATA)
    (result if wrong == "result" else result["payloads"][0])["sid"] = "../../../AC"
    with pytest.raises(ContentError, match="add_on_result_malformed"):
        keep(workbench, recording)
    assert not any(".." in event.path for event in workbench.simulator.timeline)


def test_the_latest_list_stands(workbench: Workbench) -> None:
    """A second attempt that finds more keeps more; the first document stays as an old version."""
    recording = workbench.record()
    workbench.simulator.add_transcription(recording)
    for _ in range(2):
        assert keep(workbench, recording).transcriptions == 1
    assert len(workbench.versions(workbench.filing(recording).transcriptions)) == 1
    workbench.simulator.add_transcription(recording)
    assert keep(workbench, recording).transcriptions == 2
    assert len((kept(workbench, recording) or {})["transcriptions"]) == 2
    assert len(workbench.versions(workbench.filing(recording).transcriptions)) == 2


def test_a_twin_that_keeps_them_too_is_not_overwritten_blindly(workbench: Workbench) -> None:
    """When somebody else writes between our look and our write, the attempt is repeated later."""
    recording = workbench.record()
    workbench.simulator.add_transcription(recording)
    key = workbench.filing(recording).transcriptions

    for number in range(2):  # a document that is new, and one that was there

        def twin(_request: S3Request, number: int = number) -> None:
            workbench.overwrite(key, json.dumps({"by twin": number}).encode())

        workbench.proxy.inject(S3Hook(before=twin), "PutObject", key_contains=key)
        with pytest.raises(TemporaryError, match="texts_contended"):
            keep(workbench, recording)
        assert kept(workbench, recording) == {"by twin": number}
    assert keep(workbench, recording).transcriptions == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"schema":"recording-transcriptions/1","transcriptions":null,"add_on_results":[]}',
        b'{"schema":"recording-transcriptions/1","transcriptions":[1],"add_on_results":[]}',
        b'{"schema":"recording-transcriptions/1","transcriptions":[],"add_on_results":[],"waiting_since":"soon"}',
        b'{"schema":"recording-transcriptions/1","transcriptions":[],"add_on_results":[],"waiting_since":7}',
    ],
)
def test_a_document_that_nobody_can_read_is_replaced(workbench: Workbench, body: bytes) -> None:
    """Whatever is under the key, the texts are kept."""
    recording = workbench.record()
    transcription = workbench.simulator.add_transcription(recording)
    workbench.overwrite(workbench.filing(recording).transcriptions, body)
    assert keep(workbench, recording).transcriptions == 1
    assert (kept(workbench, recording) or {})["transcriptions"] == [transcription]


@pytest.mark.parametrize("setting", ["verified", "48h"])
def test_one_error_does_not_lose_them(workbench: Workbench, redis_url: str, setting: str) -> None:
    """Also where a deletion is due only days after the archival, it waits for a list that can't be read."""
    bench = workbench.under(REDIS_URL=redis_url, TWILIO_DELETE=setting)
    recording = bench.record()
    bench.simulator.add_transcription(recording)
    bench.archived(recording)
    long_ago = iso(datetime.now(UTC) - timedelta(days=3))
    bench.tamper(bench.filing(recording).receipt, "archived_at", long_ago)
    bench.simulator.inject(ErrorStatus(500), recording.sid, Match(endpoint="transcriptions"))
    with pytest.raises(TemporaryError, match="twilio_failed"):
        bench.work.delete_source(deletion_message(recording))
    assert recording.deleted_at is None
    bench.work.delete_source(deletion_message(recording))
    assert (bench.bucket.document("deletions", recording) or {})["transcriptions"]["transcriptions"] == 1


@pytest.mark.parametrize("endpoint", ["transcriptions", "addons"])
@pytest.mark.parametrize("texts", [0, 1])
def test_a_receipt_that_changes_while_they_are_listed_is_seen(
    workbench: Workbench, redis_url: str, endpoint: str, texts: int
) -> None:
    """However long Twilio takes to list them, the deletion goes by what the receipt says after that."""
    bench = workbench.under(REDIS_URL=redis_url)
    recording = bench.record()
    for _ in range(texts):
        bench.simulator.add_transcription(recording)
    bench.archived(recording)

    def change(_request: Request) -> None:
        bench.tamper(bench.filing(recording).receipt, "media.sha256", "0" * 64)

    bench.simulator.inject(Hook(before=change), recording.sid, Match(endpoint=endpoint))
    with pytest.raises(ContentError):
        bench.work.delete_source(deletion_message(recording))
    assert bench.deletes(recording) == []


def test_a_receipt_that_changes_while_they_are_kept_is_seen(workbench: Workbench, redis_url: str) -> None:
    """Writing them takes its time, too."""
    bench = workbench.under(REDIS_URL=redis_url)
    recording = bench.record()
    bench.simulator.add_transcription(recording)
    bench.archived(recording)

    def change(_request: S3Request) -> None:
        bench.tamper(bench.filing(recording).receipt, "media.sha256", "0" * 64)

    bench.proxy.inject(S3Hook(before=change), "PutObject", key_contains=bench.filing(recording).transcriptions)
    with pytest.raises(ContentError):
        bench.work.delete_source(deletion_message(recording))
    assert bench.deletes(recording) == []


def test_the_deletion_waits_for_them(workbench: Workbench, redis_url: str) -> None:
    """Through the task: the source stays while one is in progress, and goes when it is kept."""
    bench = workbench.under(REDIS_URL=redis_url)
    recording = bench.record()
    transcription = bench.simulator.add_transcription(recording, status="in-progress")
    bench.archived(recording)
    message = deletion_message(recording)
    with pytest.raises(NotReadyError):
        bench.work.delete_source(message)
    assert recording.deleted_at is None
    transcription |= {"status": "completed", "transcription_text": "Hello."}
    bench.work.delete_source(message)
    assert recording.deleted_at is not None
    deletion = bench.bucket.document("deletions", recording) or {}
    assert deletion["transcriptions"] == {
        "transcriptions": 1,
        "add_on_results": 0,
        "key": bench.filing(recording).transcriptions,
        "incomplete": None,
    }
