"""Transcriptions and add-on results: kept as Twilio gave them before the source goes, and not waited for for ever."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.receipt import iso
from deploy.local.s3_proxy import Hook as S3Hook
from deploy.local.s3_proxy import S3Request
from deploy.local.twilio import ErrorStatus, Hook, Match, Request, Response, SimRecording
from tests.integration.workbench import Workbench
from workers.errors import ArchiverError, ContentError, NotReadyError, TemporaryError
from workers.transcriptions import PATIENCE, KeptTexts, keep_texts

DATA = [{"results": {"language": "en", "words": ["hello", "welt ü"]}}, {"score": 0.5}]


def keep(bench: Workbench, recording: SimRecording, archived_ago: timedelta = timedelta(0)) -> KeptTexts:
    """Keep the texts of a recording that was archived some time ago."""
    archived_at = iso(datetime.now(UTC) - archived_ago)
    return keep_texts(bench.twilio, bench.archive, bench.filing(recording), archived_at)


def kept(bench: Workbench, recording: SimRecording) -> dict[str, Any] | None:
    return bench.bucket.document("transcriptions", recording)


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
    """An unfinished text stops the deletion for `PATIENCE` after archival; then what there is is kept."""
    recording = workbench.record()
    add = workbench.simulator.add_transcription if kind == "transcription" else workbench.simulator.add_add_on_result
    text = add(recording, status=status)
    for ago in (timedelta(0), PATIENCE - timedelta(minutes=1)):
        with pytest.raises(NotReadyError, match="transcription_in_progress"):
            keep(workbench, recording, ago)
    assert kept(workbench, recording) is None
    texts = keep(workbench, recording, LATE)
    assert texts.incomplete == "still in progress"
    assert texts.transcriptions + texts.add_on_results == 1
    text["status"] = "completed"
    assert keep(workbench, recording).incomplete is None


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
    """What can't be listed stops the deletion for `PATIENCE`; then the deletion receipt names what is missing."""
    recording = workbench.record()
    workbench.simulator.add_transcription(recording)
    workbench.simulator.add_add_on_result(recording)
    workbench.simulator.inject(ErrorStatus(status), recording.sid, Match(endpoint=endpoint), times=None)
    with pytest.raises(ArchiverError):
        keep(workbench, recording)
    texts = keep(workbench, recording, LATE)
    assert texts.incomplete in ("twilio_refused", "twilio_throttled", "twilio_failed")
    assert (texts.transcriptions, texts.add_on_results) == ((0, 1) if endpoint == "transcriptions" else (1, 0))


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
    keep(workbench, recording)
    workbench.simulator.add_transcription(recording)
    assert keep(workbench, recording).transcriptions == 2
    assert len((kept(workbench, recording) or {})["transcriptions"]) == 2
    assert len(workbench.versions(workbench.filing(recording).transcriptions)) == 2


def test_a_twin_that_keeps_them_too_is_not_overwritten_blindly(workbench: Workbench) -> None:
    """When somebody else writes between our look and our write, the attempt is repeated later."""
    recording = workbench.record()
    workbench.simulator.add_transcription(recording)
    keep(workbench, recording)
    key = workbench.filing(recording).transcriptions

    def twin(_request: S3Request) -> None:
        workbench.overwrite(key, json.dumps({"by": "twin"}).encode())

    workbench.proxy.inject(S3Hook(before=twin), "PutObject", key_contains=key, skip=1)
    with pytest.raises(TemporaryError, match="texts_contended"):
        keep(workbench, recording)
    assert kept(workbench, recording) == {"by": "twin"}


def test_the_deletion_waits_for_them(workbench: Workbench, redis_url: str) -> None:
    """Through the task: the source stays while one is in progress, and goes when it is kept."""
    bench = workbench.under(REDIS_URL=redis_url)
    recording = bench.record()
    transcription = bench.simulator.add_transcription(recording, status="in-progress")
    bench.archived(recording)
    message = {
        "account_sid": recording.account_sid,
        "recording_sid": recording.sid,
        "day": recording.date_created.date().isoformat(),
    }
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
