"""The steps together: one download, one object, one receipt, whoever comes and whenever an attempt ends."""

import hashlib
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import jsonschema
import pytest

from app.receipt import iso
from deploy.local.s3_proxy import Hook as S3Hook
from deploy.local.s3_proxy import S3Request
from deploy.local.twilio import (
    Deliver,
    ErrorStatus,
    Hook,
    Match,
    NotReady,
    OtherAudio,
    Request,
    Response,
    SimRecording,
)
from tests.integration.bucket import folder
from tests.integration.workbench import Workbench, now, refusal
from tests.receipt_schema import RECEIPT_SCHEMA
from workers.archive import PART_BYTES
from workers.encryption import decrypt, load_private_key
from workers.errors import ArchiverError, ContentError, NotReadyError
from workers.media import LengthUnprovenError
from workers.pipeline import Pipeline


def documents(bench: Workbench, recording: SimRecording) -> list[str]:
    """Return the collections in which something is filed for a recording, in order."""
    return [key.partition("/")[0] for key in bench.bucket.keys(recording)]


def written(bench: Workbench) -> list[str]:
    """Return what was asked of S3 that was not only a look, but for the index, which proves nothing."""
    changes = [event for event in bench.requests() if event.method not in ("GET", "HEAD")]
    return [event.operation for event in changes if not event.key.startswith("index/")]


ALL = ["index", "index", "receipts", "recordings"]

# Thirty at once


def test_thirty_duplicates_cause_one_download(workbench: Workbench, redis_url: str) -> None:
    """While one archives, the other twenty-nine find the recording leased and leave it alone."""
    bench = workbench.under(REDIS_URL=redis_url)
    recording = bench.record()
    message = {"account_sid": recording.account_sid, "recording_sid": recording.sid}
    start, others_are_back, back = threading.Barrier(30), threading.Event(), threading.Semaphore(0)

    def hold(_request: Request) -> None:
        for _ in range(29):
            assert back.acquire(timeout=20)
        others_are_back.set()

    bench.simulator.inject(Hook(during=hold), recording.sid, Match(endpoint="media"))
    work = bench.work

    def run(_number: int) -> None:
        start.wait(20)
        work.archive_recording(message)
        back.release()

    with ThreadPoolExecutor(30) as pool:
        list(pool.map(run, range(30)))
    assert others_are_back.is_set()
    assert [served.recording_sid for served in bench.simulator.served] == [recording.sid]
    assert [event.endpoint for event in bench.simulator.timeline] == ["resource", "media"]
    assert len(bench.bucket.versions(recording)) == len(ALL)


def test_a_message_of_another_account_keeps_nobody_from_work(workbench: Workbench, redis_url: str) -> None:
    """While Twilio is asked for a recording in an account that it is not of, it is archived in its own."""
    bench = workbench.under(REDIS_URL=redis_url)
    recording = bench.record()
    asked, archived = threading.Event(), threading.Event()

    def hold(_request: Request) -> None:
        asked.set()
        assert archived.wait(timeout=20)

    stranger = {"account_sid": "AC" + "0" * 32, "recording_sid": recording.sid}
    bench = bench.under(
        TWILIO_ACCOUNTS=json.dumps([{"account_sid": stranger["account_sid"], "auth_tokens": ["token-of-the-stranger"]}])
    )
    bench.simulator.inject(Hook(before=hold), match=Match(endpoint="resource"))
    with ThreadPoolExecutor(1) as pool:
        junk = pool.submit(bench.work.archive_recording, stranger)
        assert asked.wait(timeout=20)
        step = bench.work.archive_recording({"account_sid": recording.account_sid, "recording_sid": recording.sid})
        archived.set()
        with pytest.raises(ArchiverError):
            junk.result()
    assert step is not None
    assert documents(bench, recording) == ALL


def test_twins_without_a_lease_do_no_harm(workbench: Workbench) -> None:
    """With Redis away several download the same recording, and all end with the same object and receipt."""
    recording = workbench.record()
    barrier = threading.Barrier(5)

    def meet(_request: S3Request) -> None:
        barrier.wait(20)

    for collection in ("recordings/", "receipts/"):
        workbench.proxy.inject(S3Hook(before=meet), "PutObject", key_contains=collection, times=5)
    with ThreadPoolExecutor(5) as pool:
        receipts = list(pool.map(lambda _: workbench.archived(recording), range(5)))
    assert all(receipt == receipts[0] for receipt in receipts)
    assert documents(workbench, recording) == ALL
    assert len(workbench.bucket.versions(recording)) == len(ALL)
    assert len(workbench.simulator.served) == 5


# One recording


def test_the_receipt_states_what_was_served(workbench: Workbench) -> None:
    """Object, receipt and index are where the layout says, and the receipt is what the schema says."""
    bench = workbench.under(ARCHIVE_PREFIX="ours")
    recording = bench.record(start_time=now() - timedelta(days=1))
    source = bench.twilio.fetch(recording.account_sid, recording.sid)
    callback = {
        "AccountSid": recording.account_sid,
        "RecordingSid": recording.sid,
        "RecordingStatus": "completed",
        "received_at": "2026-11-23T02:00:00.000Z",
    }
    quarantine = {"attempts": 1, "first_failed_at": iso(now())}
    receipt = Pipeline(bench.settings, bench.twilio, bench.archive).run(source, callback, quarantine)
    filed = json.loads(bench.bucket.body(f"ours/{folder('receipts', recording)}/{recording.sid}.json") or b"")
    served = bench.simulator.media_bytes(recording.sid, 2)
    jsonschema.validate(filed, RECEIPT_SCHEMA)
    assert filed == json.loads(receipt.to_json())
    assert filed["callback"] == callback
    assert filed["quarantine"] == quarantine
    assert filed["source"] == source.raw
    assert filed["media"] == {
        "bucket": bench.bucket.name,
        "key": f"ours/{folder('recordings', recording)}/{recording.sid}.wav",
        "version_id": bench.versions(receipt.media.key)[0],
        "format": "wav",
        "content_type": "audio/x-wav",
        "bytes": len(served),
        "sha256": hashlib.sha256(served).hexdigest(),
        "channels": 2,
        "sample_rate": 8000,
        "duration_seconds": 2.0,
        "requested_channels": 2,
        "attempts": [{"requested_channels": 2, "status": 200, "code": None}],
        "part_bytes": None,
    }
    head = bench.archive.head(receipt.media.key) or {}
    assert head["Metadata"] == {
        "account-sid": recording.account_sid,
        "call-sid": recording.call_sid,
        "recording-sid": recording.sid,
        "start-time": recording.start_time.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "duration": "2",
        "channels": "2",
        "source": recording.source,
        "sha256": receipt.media.sha256,
    }


@pytest.mark.parametrize(
    ("call", "rungs"),
    [
        ({"kind": "record_verb"}, [(2, 400, 16113), (1, 200, None)]),
        ({"kind": "conference"}, [(2, 200, None)]),
    ],
)
def test_the_ladder_is_in_the_receipt(
    workbench: Workbench, call: dict[str, Any], rungs: list[tuple[int, int, int | None]]
) -> None:
    """Each rung that was asked for is there with its answer."""
    receipt = workbench.archived(workbench.record(**call))
    assert [(each.requested_channels, each.status, each.code) for each in receipt.media.attempts] == rungs
    assert receipt.media.channels == receipt.media.requested_channels == rungs[-1][0]


def test_the_last_rung_asks_for_nothing(workbench: Workbench) -> None:
    """Where neither two channels nor one are given, what comes is taken as it is stored."""
    recording = workbench.record()
    for channels in (2, 1):
        workbench.simulator.inject(ErrorStatus(400, 16113), recording.sid, Match("GET", "media", channels))
    receipt = workbench.archived(recording)
    assert [each.requested_channels for each in receipt.media.attempts] == [2, 1, None]
    assert (receipt.media.requested_channels, receipt.media.channels) == (None, 2)


def test_a_recording_without_any_layout_is_a_fault_of_its_content(workbench: Workbench) -> None:
    """Three times 400 stores nothing."""
    recording = workbench.record()
    workbench.simulator.inject(ErrorStatus(400, 16113), recording.sid, Match(endpoint="media"), times=None)
    with pytest.raises(ContentError, match="no_channel_layout"):
        workbench.archived(recording)
    assert written(workbench) == []


@pytest.mark.parametrize("code", [None, 20001])
def test_a_400_that_nothing_explains_costs_no_channel(workbench: Workbench, code: int | None) -> None:
    """Where Twilio says that there are two channels, a gateway's 400 does not lead to their mix, and to a deletion."""
    recording = workbench.record()
    body = {"message": "Bad Request"} | ({"code": code} if code else {})
    refused = Hook(before=lambda _request: Response.json(body, 400))
    workbench.simulator.inject(refused, recording.sid, Match("GET", "media", 2))
    with pytest.raises(ContentError) as caught:
        workbench.archived(recording)
    assert str(caught.value) == (
        f"layout_unexplained: Twilio states two channels, and answers 400 with code {code} when it is asked for them"
    )
    assert written(workbench) == []
    assert workbench.archived(recording).media.channels == 2


@pytest.mark.parametrize(("ago", "believed"), [(timedelta(hours=23, minutes=59), False), (timedelta(days=1), True)])
def test_a_400_that_stays_is_believed_after_a_day(workbench: Workbench, ago: timedelta, believed: bool) -> None:
    """What Twilio does not give for a day it does not have: one channel is better than none, as the receipt says."""
    recording = workbench.record()
    workbench.simulator.inject(ErrorStatus(400), recording.sid, Match("GET", "media", 2), times=None)
    source = workbench.twilio.fetch(recording.account_sid, recording.sid)
    pipeline = Pipeline(workbench.settings, workbench.twilio, workbench.archive)
    quarantine = {"first_failed_at": iso(now() - ago)}
    if not believed:
        with pytest.raises(ContentError, match="layout_unexplained"):
            pipeline.run(source, None, quarantine)
        return
    receipt = pipeline.run(source, None, quarantine)
    assert [(each.requested_channels, each.status) for each in receipt.media.attempts] == [(2, 400), (1, 200)]
    assert receipt.quarantine == quarantine


@pytest.mark.parametrize("channels", [1, None])
def test_a_400_needs_no_explanation_where_one_channel_is_stated(workbench: Workbench, channels: int | None) -> None:
    """Where the resource says one channel, or nothing, any 400 goes down the ladder."""
    recording = workbench.record(kind="record_verb")

    def stated(_request: Request, response: Response) -> Response:
        return Response.json(json.loads(response.body.read()) | {"channels": channels})

    workbench.simulator.inject(Hook(after=stated), recording.sid, Match(endpoint="resource"))
    workbench.simulator.inject(ErrorStatus(400), recording.sid, Match("GET", "media", 2))
    assert workbench.archived(recording).media.requested_channels == 1


def test_an_mp3_that_twilio_refuses_is_a_fault_of_the_content(workbench: Workbench) -> None:
    """16109 says encrypted where the resource does not: nothing is stored, and the code is told."""
    bench = workbench.under(ARCHIVE_FORMAT="mp3")
    recording = bench.record(kind="record_verb")
    bench.simulator.inject(ErrorStatus(400, 16109), recording.sid, Match(endpoint="media"), times=None)
    with pytest.raises(ContentError, match=r"no_channel_layout: Twilio answered \[16109, 16109, 16109\] to each"):
        bench.archived(recording)
    assert written(bench) == []


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_nothing_but_a_400_goes_down_the_ladder(workbench: Workbench, status: int) -> None:
    """Any other answer is not one about channels."""
    recording = workbench.record()
    workbench.simulator.inject(ErrorStatus(status), recording.sid, Match(endpoint="media"), times=None)
    with pytest.raises(ArchiverError):
        workbench.archived(recording)
    asked = [event.query["RequestedChannels"] for event in workbench.simulator.timeline if event.endpoint == "media"]
    assert asked == ["2"]


def test_media_that_is_not_there_yet_is_waited_for(workbench: Workbench) -> None:
    """A 404 of the media is no word about the recording."""
    recording = workbench.record()
    workbench.simulator.inject(NotReady(), recording.sid)
    with pytest.raises(NotReadyError, match="media_not_ready"):
        workbench.archived(recording)
    assert workbench.archived(recording).media.channels == 2


# Formats


@pytest.mark.parametrize(("encrypted", "extension"), [(False, "mp3"), (True, "wav")])
def test_the_format_is_the_one_asked_for_unless_encrypted(
    workbench: Workbench, encrypted: bool, extension: str
) -> None:
    """With ARCHIVE_FORMAT=mp3 what is encrypted comes as WAV nevertheless: Twilio can't encode it."""
    bench = workbench.under(ARCHIVE_FORMAT="mp3")
    recording = bench.record(encrypted=encrypted, seconds=8.0)
    receipt = bench.archived(recording)
    assert receipt.media.format == extension
    assert receipt.media.key.endswith(f".{extension}")
    assert bench.bucket.media(recording, extension) == bench.simulator.media_bytes(recording.sid, 2, extension)
    head = bench.archive.head(receipt.media.key) or {}
    assert head["ContentType"] == receipt.media.content_type == {"mp3": "audio/mpeg", "wav": "audio/x-wav"}[extension]


@pytest.mark.parametrize(("first", "then"), [("wav", "mp3"), ("mp3", "wav")])
@pytest.mark.parametrize(("key", "carried_out"), [("recordings/", True), ("receipts/", False)])
def test_a_format_that_changes_between_attempts_makes_no_second_object(
    workbench: Workbench, first: str, then: str, key: str, carried_out: bool
) -> None:
    """What an attempt under another ARCHIVE_FORMAT has stored is what the recording is archived as."""
    recording = workbench.record(seconds=4.0)
    workbench.proxy.inject(refusal(carried_out=carried_out), "PutObject", key_contains=key)
    with pytest.raises(ArchiverError):
        workbench.under(ARCHIVE_FORMAT=first).archived(recording)
    bench = workbench.under(ARCHIVE_FORMAT=then)
    receipt = bench.archived(recording)
    assert receipt.media.format == first
    assert documents(bench, recording) == ALL
    assert bench.verified(recording).receipt == receipt


@pytest.mark.parametrize("call", [{"seconds": 8.0}, {"size_bytes": PART_BYTES + 44}], ids=["one part", "two parts"])
def test_an_encrypted_recording_can_be_decrypted_from_the_archive(
    workbench: Workbench, tmp_path: Any, call: dict[str, Any]
) -> None:
    """The archived ciphertext, with the details in the receipt and the account's key, is the original WAV."""
    recording = workbench.record(encrypted=True, **call)
    receipt = workbench.archived(recording)
    ciphertext = workbench.bucket.media(recording) or b""
    assert ciphertext == workbench.simulator.media_bytes(recording.sid, 2)
    assert receipt.encryption is not None
    key, plain = load_private_key(workbench.account.private_key_pem()), tmp_path / "plain.wav"
    decrypt(io.BytesIO(ciphertext), plain, receipt.encryption, key)
    assert plain.read_bytes() == recording.audio(recording.channels).read()
    metadata = (workbench.archive.head(receipt.media.key) or {})["Metadata"]
    assert {name: metadata[f"encryption-{name}"] for name in ("type", "public-key-sid", "cek", "iv")} == {
        "type": "rsa-aes",
        "public-key-sid": workbench.account.public_key_sid,
        "cek": receipt.encryption.encrypted_cek,
        "iv": receipt.encryption.iv,
    }


@pytest.mark.parametrize(
    ("source", "kept"), [("NextYearsVerb", True), ("Verb\u00e9", False), ("a\nb", False), ("x" * 65, False), (7, True)]
)
def test_a_source_that_no_header_can_carry_stops_nothing(workbench: Workbench, source: Any, kept: bool) -> None:
    """Twilio's words may be new: one that is no plain short word is in the receipt and not in the metadata."""
    recording = workbench.record()

    def other(_request: Request, response: Response) -> Response:
        return Response.json(json.loads(response.body.read()) | {"source": source})

    workbench.simulator.inject(Hook(after=other), recording.sid, Match(endpoint="resource"))
    receipt = workbench.archived(recording)
    assert receipt.source["source"] == source
    metadata = (workbench.archive.head(receipt.media.key) or {})["Metadata"]
    assert metadata.get("source") == (str(source) if kept else None)


@pytest.mark.parametrize(
    ("details", "left_out"),
    [
        ({"encryption_cek": "\u00e9"}, "encryption-cek"),
        ({"encryption_iv": "a\r\nx: y"}, "encryption-iv"),
        ({"encryption_public_key_sid": "x" * 1401}, "encryption-public-key-sid"),
    ],
)
def test_encryption_details_that_no_header_can_carry_stop_nothing(
    workbench: Workbench, details: dict[str, str], left_out: str
) -> None:
    """They are in the receipt as Twilio gave them, and only what a header can carry is in the metadata."""
    recording = workbench.record(encrypted=True, seconds=8.0)

    def other(_request: Request, response: Response) -> Response:
        resource = json.loads(response.body.read())
        return Response.json(resource | {"encryption_details": resource["encryption_details"] | details})

    workbench.simulator.inject(Hook(after=other), recording.sid, Match(endpoint="resource"))
    receipt = workbench.archived(recording)
    assert receipt.source["encryption_details"] | details == receipt.source["encryption_details"]
    metadata = (workbench.archive.head(receipt.media.key) or {})["Metadata"]
    named = {f"encryption-{name}" for name in ("type", "public-key-sid", "cek", "iv")}
    assert named - metadata.keys() == {left_out}


@pytest.mark.parametrize("note", ["\ud800", json.loads("[" * 400 + "]" * 400)], ids=["half a character", "nested"])
def test_a_receipt_that_nobody_could_read_is_not_written(workbench: Workbench, note: Any) -> None:
    """It could never be replaced: the recording is a fault of its content until Twilio says something else."""
    recording = workbench.record()

    def other(_request: Request, response: Response) -> Response:
        return Response.json(json.loads(response.body.read()) | {"note": note})

    workbench.simulator.inject(Hook(after=other), recording.sid, Match(endpoint="resource"))
    with pytest.raises(ContentError, match="resource_malformed"):
        workbench.archived(recording)
    assert "receipts" not in documents(workbench, recording)
    receipt = workbench.archived(recording)
    assert workbench.verified(recording).receipt == receipt


# A length that nothing proves


def test_a_body_that_comes_twice_alike_is_whole(workbench: Workbench) -> None:
    """Where nothing says how long the media is, it is downloaded twice before it is believed."""
    recording = workbench.record(placeholder_sizes=True, framing="close")
    receipt = workbench.archived(recording)
    assert receipt.media.sha256 == workbench.simulator.media_sha256(recording.sid, 2)
    assert len(workbench.simulator.served) == 2
    assert workbench.operations(receipt.media.key).count("PutObject") == 1


def test_a_body_that_comes_otherwise_is_not_believed(workbench: Workbench) -> None:
    """Two downloads that differ prove nothing, and nothing is stored."""
    recording = workbench.record(placeholder_sizes=True)
    workbench.simulator.inject(Deliver("close"), recording.sid, times=None)
    workbench.simulator.inject(OtherAudio(), recording.sid)
    with pytest.raises(LengthUnprovenError):
        workbench.archived(recording)
    assert written(workbench) == []


# An end in between


@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("operation", "key"),
    [
        ("PutObject", "recordings/"),
        ("HeadObject", "recordings/"),
        ("PutObject", "/recording="),
        ("PutObject", "/call="),
        ("PutObject", "receipts/"),
    ],
)
def test_an_end_anywhere_in_between_is_completed(
    workbench: Workbench, operation: str, key: str, carried_out: bool
) -> None:
    """Wherever an attempt ends, the next one leads to one object, one receipt and a whole index."""
    recording = workbench.record()
    injection = workbench.proxy.inject(refusal(carried_out=carried_out), operation, key_contains=key)
    with pytest.raises(ArchiverError):
        workbench.archived(recording)
    assert injection.hits == 1
    receipt = workbench.archived(recording)
    assert documents(workbench, recording) == ALL
    assert len(workbench.bucket.versions(recording)) == len(ALL)
    assert workbench.verified(recording).receipt == receipt


def test_a_second_run_returns_the_first_receipt(workbench: Workbench) -> None:
    """What is archived is compared and left as it is."""
    recording = workbench.record()
    first = workbench.archived(recording)
    assert workbench.archived(recording) == first
    assert len(workbench.bucket.versions(recording)) == len(ALL)


def test_a_receipt_of_other_bytes_is_refused(workbench: Workbench) -> None:
    """A receipt that is there already and proves other bytes is neither believed nor overwritten."""
    recording, key = workbench.record(), "receipts/"
    workbench.archived(recording)
    filing = workbench.filing(recording)
    receipt = workbench.bucket.body(filing.receipt)
    for version in workbench.versions(filing.media("wav")):
        workbench.bucket.client.delete_object(Bucket=workbench.bucket.name, Key=filing.media("wav"), VersionId=version)
    workbench.simulator.inject(OtherAudio(), recording.sid)
    with pytest.raises(ContentError):
        workbench.archived(recording)
    assert workbench.bucket.body(filing.receipt) == receipt
    assert len([each for each in workbench.bucket.versions(recording) if key in each]) == 1
