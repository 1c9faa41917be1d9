"""Every way in which S3 may misbehave over one recording: it ends archived exactly once, or in quarantine.

All recordings suffer at once, so that the waits overlap. Faults are matched by the key, the SID is part of it.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from deploy.local.processes import wait_until
from deploy.local.s3_proxy import (
    AnswerLost,
    ErrorStatus,
    Fault,
    IgnoredHeaders,
    Injection,
    Reset,
    S3Proxy,
    Stall,
    WithoutChecksums,
    WrongChecksum,
)
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import Match, OtherAudio, SimRecording, Simulator
from tests.integration.bucket import Bucket, folder
from tests.integration.conftest import MAIN

SMALL: dict[str, Any] = {"seconds": 6.0}
LARGE: dict[str, Any] = {"seconds": 300.0}  # two parts
MULTIPART = ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")


@dataclass(frozen=True)
class Case:
    """One misfortune: what is injected where, and the kind of recording it meets."""

    name: str
    operation: str
    fault: Fault
    times: int | None = 1
    key: str = "{sid}.wav"
    call: dict[str, Any] = field(default_factory=lambda: SMALL)


def each_operation() -> Iterator[Case]:
    """Yield the common faults at every request by which media is written and verified."""
    for operation in ("PutObject", "HeadObject", *MULTIPART):
        call = LARGE if operation in MULTIPART else SMALL
        for name, fault, times in (
            ("500", ErrorStatus(500), 1),
            ("500 through boto's own retries", ErrorStatus(500), 4),
            ("503 SlowDown", ErrorStatus(503), 1),
            ("answer lost", AnswerLost(), 1),
            ("answer lost through boto's own retries", AnswerLost(reset=True), 3),
            ("reset", Reset(), 1),
            ("silence", Stall(), 1),
            ("403", ErrorStatus(403), 2),
        ):
            yield Case(f"{operation}: {name}", operation, fault, times, call=call)


CASES = [
    *each_operation(),
    Case("CompleteMultipartUpload: silence after it was done", MULTIPART[2], Stall(carried_out=True), call=LARGE),
    Case("CompleteMultipartUpload: error after status 200", MULTIPART[2], ErrorStatus(200), call=LARGE),
    Case("PutObject: silence after it was done", "PutObject", Stall(carried_out=True)),
    Case("PutObject: 409", "PutObject", ErrorStatus(409)),
    Case("PutObject: damaged on the way", "PutObject", ErrorStatus(400, "BadDigest")),
    Case("PutObject: bucket missing", "PutObject", ErrorStatus(404, "NoSuchBucket"), times=2),
    Case("PutObject: clock skew", "PutObject", ErrorStatus(403, "RequestTimeTooSkewed")),
    Case("UploadPart: the upload has been thrown away", "UploadPart", ErrorStatus(404, "NoSuchUpload"), call=LARGE),
    Case("HeadObject: no checksum once", "HeadObject", WithoutChecksums()),
    *(
        Case(f"{name}: {operation} {fault}", operation, fault, key=key)
        for name, operation, key in (
            ("receipt", "PutObject", "receipts/account={account}/{day}/{sid}.json"),
            ("deletion request", "PutObject", "{sid}.requested.json"),
            ("deletion", "PutObject", "deletions/account={account}/{day}/{sid}.json"),
            ("index", "PutObject", "recording={sid}"),
            ("receipt", "GetObject", "receipts/account={account}/{day}/{sid}.json"),
        )
        for fault in (ErrorStatus(500), AnswerLost())
    ),
]


@dataclass
class Ordeal:
    """The running stack, the proxy in front of its S3, and the recordings that suffer."""

    stack: Stack
    proxy: S3Proxy
    archived: Bucket
    recordings: dict[str, SimRecording]
    injections: dict[str, Injection]


@pytest.fixture(scope="module")
def ordeal(redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> Iterator[Ordeal]:
    """Let every recording meet its fault, announced by a callback and found again by frequent sweeps."""
    with S3Proxy(s3_server.endpoint_url) as proxy, Simulator(accounts=[MAIN]) as simulator:
        settings = {
            "SWEEP_INTERVAL": "3s",
            "SWEEP_GRACE": "1s",
            "QUARANTINE_AFTER": "3",
            "CELERY_CONCURRENCY": "32",
            "AWS_ENDPOINT_URL_S3": proxy.url,
        }
        with Stack(
            ("web", "worker", "beat"),
            settings=settings,
            redis_server=redis_server,
            database=next(databases),
            s3_server=s3_server,
            simulator=simulator,
        ) as stack:
            suffering = {case.name: suffer(stack, proxy, case) for case in CASES}
            recordings = {name: recording for name, (recording, _) in suffering.items()}
            injections = {name: injection for name, (_, injection) in suffering.items()}
            yield Ordeal(stack, proxy, Bucket(stack.s3.client(), stack.bucket), recordings, injections)


def suffer(stack: Stack, proxy: S3Proxy, case: Case) -> tuple[SimRecording, Injection]:
    """Inject a case's fault and let its call happen."""
    recording = stack.simulator.record(MAIN.sid, "call", **case.call)
    day = f"{recording.date_created:year=%Y/month=%m/day=%d}"
    key = case.key.format(sid=recording.sid, account=recording.account_sid, day=day)
    injection = proxy.inject(case.fault, operation=case.operation, key_contains=key, times=case.times)
    assert stack.simulator.send_callback(recording, stack.callback_url).status == 204
    return recording, injection


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_once_the_fault_is_gone_the_recording_is_archived_once(ordeal: Ordeal, case: Case) -> None:
    """S3 holds one version of the media with the served bytes, one receipt, and the source is gone."""
    recording = ordeal.recordings[case.name]
    deletion = ordeal.archived.wait_for("deletions", recording, timeout_s=110)
    receipt = ordeal.archived.document("receipts", recording)
    assert ordeal.injections[case.name].hits >= 1
    assert receipt is not None
    assert ordeal.archived.media(recording) == ordeal.stack.simulator.media_bytes(recording.sid, 2)
    assert deletion["confirmation"]["status"] == "deleted"
    assert ordeal.archived.document("quarantine", recording) is None
    versions = ordeal.archived.versions(recording)
    assert len(versions) == len(set(versions))


def test_no_upload_is_left_behind(ordeal: Ordeal) -> None:
    """When everything has ended, no multipart upload is open, except where the abort or the answer was lost."""
    for recording in ordeal.recordings.values():
        ordeal.archived.wait_for("deletions", recording, timeout_s=110)
    lost = {
        ordeal.recordings[case.name].sid
        for case in CASES
        if case.operation == "CreateMultipartUpload" and isinstance(case.fault, AnswerLost)
    }
    open_uploads = ordeal.archived.client.list_multipart_uploads(Bucket=ordeal.archived.name).get("Uploads", [])
    left = {upload["Key"].rpartition("/")[2].partition(".")[0] for upload in open_uploads}
    assert left <= lost


def test_other_bytes_on_the_second_try_are_quarantined(ordeal: Ordeal) -> None:
    """When the first try's answer was lost and Twilio then serves other bytes, neither is deleted nor overwritten."""
    sid = f"RE{secrets.token_hex(16)}"
    ordeal.proxy.inject(ErrorStatus(500), operation="HeadObject", key_contains=f"{sid}.wav", times=4)
    ordeal.stack.simulator.inject(OtherAudio(), recording_sid=sid, match=Match(endpoint="media"), times=None, skip=1)
    recording = ordeal.stack.simulator.record(MAIN.sid, "call", **SMALL, sid=sid)
    ordeal.stack.simulator.send_callback(recording, ordeal.stack.callback_url)
    document = quarantined(ordeal, recording)
    assert {failure["reason"] for failure in document["failures"]} == {"archive_differs"}
    assert ordeal.archived.media(recording) == ordeal.stack.simulator.media_bytes(sid, 2)
    assert recording.deleted_at is None


@pytest.mark.parametrize("call", [SMALL, LARGE], ids=["one part", "two parts"])
def test_foreign_content_is_left_alone(ordeal: Ordeal, call: dict[str, Any]) -> None:
    """What somebody else put under the key stays as it is, and the source stays at Twilio."""
    recording = ordeal.stack.simulator.record(MAIN.sid, "call", **call)
    key = f"{folder('recordings', recording)}/{recording.sid}.wav"
    ordeal.archived.client.put_object(Bucket=ordeal.archived.name, Key=key, Body=b"not ours")
    ordeal.stack.simulator.send_callback(recording, ordeal.stack.callback_url)
    document = quarantined(ordeal, recording)
    assert {failure["reason"] for failure in document["failures"]} == {"archive_differs"}
    assert ordeal.archived.media(recording) == b"not ours"
    assert ordeal.archived.versions(recording).count(key) == 1
    assert recording.deleted_at is None


def test_a_checksum_that_s3_reports_otherwise_is_quarantined(ordeal: Ordeal) -> None:
    """While S3 reports another checksum than the bytes have, no receipt is written and nothing is deleted."""
    recording = ordeal.stack.simulator.record(MAIN.sid, "call", **SMALL)
    ordeal.proxy.inject(WrongChecksum(), operation="HeadObject", key_contains=f"{recording.sid}.wav", times=None)
    ordeal.stack.simulator.send_callback(recording, ordeal.stack.callback_url)
    document = quarantined(ordeal, recording)
    assert {failure["reason"] for failure in document["failures"]} == {"archive_differs"}
    assert ordeal.archived.document("receipts", recording) is None
    assert recording.deleted_at is None


def test_a_store_without_checksums_counts_no_failure(ordeal: Ordeal) -> None:
    """A store that keeps no checksums is a fault of configuration: nothing is deleted, nothing quarantined."""
    recording = ordeal.stack.simulator.record(MAIN.sid, "call", **SMALL)
    injection = ordeal.proxy.inject(
        WithoutChecksums(), operation="HeadObject", key_contains=f"{recording.sid}.wav", times=None
    )
    ordeal.stack.simulator.send_callback(recording, ordeal.stack.callback_url)
    wait_until(lambda: injection.hits >= 3, timeout_s=60, what="three tries")
    assert ordeal.archived.document("receipts", recording) is None
    assert ordeal.archived.document("quarantine", recording) is None
    assert recording.deleted_at is None


def quarantined(ordeal: Ordeal, recording: SimRecording) -> dict[str, Any]:
    """Wait until a recording's content has failed three times."""

    def failed() -> dict[str, Any] | None:
        document = ordeal.archived.document("quarantine", recording)
        return document if document and document["attempts"] >= 3 else None

    document = wait_until(failed, timeout_s=100, what="quarantine")
    assert document is not None
    return document


def test_readback_copes_with_a_store_that_ignores_conditions(
    redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]
) -> None:
    """With ARCHIVE_VERIFY=readback, a store without checksums and conditional writes is enough, and nothing is lost."""
    with S3Proxy(s3_server.endpoint_url) as proxy, Simulator(accounts=[MAIN]) as simulator:
        proxy.inject(WithoutChecksums(), times=None)
        proxy.inject(IgnoredHeaders("if-none-match"), times=None)
        settings = {"ARCHIVE_VERIFY": "readback", "AWS_ENDPOINT_URL_S3": proxy.url}
        with Stack(
            settings=settings,
            redis_server=redis_server,
            database=next(databases),
            s3_server=s3_server,
            simulator=simulator,
        ) as stack:
            archived = Bucket(stack.s3.client(), stack.bucket)
            foreign = simulator.record(MAIN.sid, "call", **SMALL)
            key = f"{folder('recordings', foreign)}/{foreign.sid}.wav"
            archived.client.put_object(Bucket=stack.bucket, Key=key, Body=b"not ours")
            recordings = [simulator.record(MAIN.sid, "call", **call) for call in (SMALL, LARGE)]
            for recording in (foreign, *recordings):
                simulator.send_callback(recording, stack.callback_url)
            for recording in recordings:
                archived.wait_for("deletions", recording)
                receipt = archived.wait_for("receipts", recording)
                assert receipt["verification"]["method"] == "readback"
                assert archived.media(recording) == simulator.media_bytes(recording.sid, 2)
            archived.wait_for("quarantine", foreign)
            assert archived.media(foreign) == b"not ours"
            assert foreign.deleted_at is None
