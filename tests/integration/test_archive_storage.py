"""How S3 is asked to keep what is written: encryption, storage class, owner, and Object Lock."""

import os
import secrets
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from app.receipt import iso, parse_iso
from deploy.local.s3_proxy import Fault, IgnoredHeaders, S3Request
from deploy.local.twilio import Simulator
from tests.integration.workbench import (
    KEY,
    LARGE,
    METADATA,
    SMALL,
    Workbench,
    now,
    settings_for,
    store,
    stream_of,
)
from workers.archive import Archive
from workers.errors import ArchiverError, ContentError
from workers.verification import verify

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


LOCK = "x-amz-object-lock-mode"
UNTIL = "x-amz-object-lock-retain-until-date"

# Encryption, class and owner


def options_of(workbench: Workbench, operation: str) -> list[dict[str, str]]:
    """Return the headers of such requests that say how an object is kept, without their common beginning."""
    names = {
        "x-amz-server-side-encryption": "sse",
        "x-amz-server-side-encryption-aws-kms-key-id": "kms_key_id",
        "x-amz-server-side-encryption-bucket-key-enabled": "bucket_key",
        "x-amz-storage-class": "storage_class",
    }
    events = workbench.requests(operation=operation)
    return [{short: event.headers[name] for name, short in names.items() if name in event.headers} for event in events]


KEY_ARN = "arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab"
SSE = "x-amz-server-side-encryption"


class DefaultKey(Fault):
    """Let S3 take the account's own key where none is named, as AWS does and the local server refuses to."""

    def forward(self, request: S3Request) -> S3Request:
        named = {SSE: "", f"{SSE}-aws-kms-key-id": KEY_ARN} | dict(request.headers)
        return replace(request, headers=named) if named[SSE] == "aws:kms" else request


@pytest.mark.parametrize(
    ("settings", "encryption"),
    [
        ({}, {}),
        ({"ARCHIVE_SSE": "AES256"}, {"sse": "AES256"}),
        ({"ARCHIVE_SSE": "aws:kms"}, {"sse": "aws:kms", "bucket_key": "true"}),
        (
            {"ARCHIVE_SSE": "aws:kms", "ARCHIVE_KMS_KEY_ID": KEY_ARN},
            {"sse": "aws:kms", "bucket_key": "true", "kms_key_id": KEY_ARN},
        ),
    ],
    ids=["unset", "AES256", "KMS", "KMS with a key"],
)
def test_encryption_and_storage_class_are_asked_for(
    workbench: Workbench, settings: dict[str, str], encryption: dict[str, str]
) -> None:
    """Everything is encrypted as the settings say; the storage class is that of media only."""
    workbench.proxy.inject(DefaultKey(), times=None)
    bench = workbench.under(ARCHIVE_STORAGE_CLASS="STANDARD_IA", **settings)
    for body, key in ((SMALL, KEY), (LARGE, f"{KEY}-2")):
        stored = store(bench.archive, body, key)
        storage = verify(bench.archive, bench.settings, stored).storage
        assert storage.storage_class == "STANDARD_IA"
        assert storage.kms_key_id == (KEY_ARN if encryption.get("sse") == "aws:kms" else None)
        if encryption:
            assert storage.sse == encryption["sse"]
    media = {**encryption, "storage_class": "STANDARD_IA"}
    assert options_of(bench, "PutObject") == [media]
    assert options_of(bench, "CreateMultipartUpload") == [media]
    bench.archive.write_once("control/a.json", b"{}", now())
    document = bench.archive.read("control/a.json")
    assert document is not None
    assert bench.archive.replace(document, b"[]")
    bench.archive.write_empty("index/a")
    assert options_of(bench, "PutObject")[1:] == [encryption] * 3


OWNER = "123456789012"


def test_the_expected_owner_is_named_in_every_request(workbench: Workbench) -> None:
    """With ARCHIVE_BUCKET_OWNER every request says whose bucket it must be, so that S3 refuses another's."""
    archive = workbench.under(
        ARCHIVE_BUCKET_OWNER=OWNER, ARCHIVE_OBJECT_LOCK_MODE="GOVERNANCE", ARCHIVE_RETENTION_DAYS="1"
    ).archive
    workbench.proxy.inject(
        IgnoredHeaders({"x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date"}), times=None
    )
    store(archive, SMALL)
    store(archive, LARGE, f"{KEY}-2")
    with pytest.raises(ContentError):
        archive.store(stream_of(LARGE, duration_s=1), f"{KEY}-3", "audio/x-wav", METADATA, now())
    archive.digest(KEY, None)
    document = archive.write_once("quarantine/a.json", b"{}")
    archive.write_once("quarantine/a.json", b"{}")
    archive.replace(document, b"[]")
    archive.write_empty("index/a")
    archive.remove("quarantine/a.json")
    list(archive.listing("receipts/"))
    with archive.writing("reports/a.csv", "text/csv") as report:
        report.write(b"a,b")
    assert archive.has_object_lock() is False
    with pytest.raises(ArchiverError):  # the bucket has no Object Lock
        archive.set_legal_hold(KEY, None, on=True)
    workbench.bucket.client.create_multipart_upload(Bucket=workbench.bucket.name, Key=KEY)
    archive.abort_stale_uploads(now() + timedelta(hours=1))
    events = workbench.requests()
    assert {event.operation for event in events} == {
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CreateMultipartUpload",
        "DeleteObject",
        "GetObject",
        "GetObjectLockConfiguration",
        "HeadObject",
        "ListMultipartUploads",
        "ListObjectsV2",
        "PutObject",
        "PutObjectLegalHold",
        "UploadPart",
    }
    assert {event.headers.get("x-amz-expected-bucket-owner") for event in events} == {OWNER}


def test_no_owner_is_expected_unless_configured(workbench: Workbench) -> None:
    """Without the setting no request names an owner."""
    store(workbench.archive, SMALL)
    assert [event.headers.get("x-amz-expected-bucket-owner") for event in workbench.requests()] == [None]


# Object Lock


@pytest.fixture
def lockable(make_workbench: Callable[..., Workbench]) -> Workbench:
    """Return the parts of a worker with a bucket that has Object Lock."""
    return make_workbench(object_lock=True)


def locking(workbench: Workbench, mode: str = "GOVERNANCE", days: int = 10) -> Workbench:
    return workbench.under(ARCHIVE_OBJECT_LOCK_MODE=mode, ARCHIVE_RETENTION_DAYS=str(days))


def seconds(moment: datetime) -> datetime:
    """Return a moment as S3's headers have it: in whole seconds."""
    return moment.replace(microsecond=0)


def refused_to_delete(client: "S3Client", bucket: str, key: str, version: str | None) -> bool:
    """Try to delete a version, and tell whether S3 has refused it."""
    with pytest.raises(ClientError) as caught:
        client.delete_object(Bucket=bucket, Key=key, VersionId=version or "")
    return caught.value.response["Error"]["Code"] == "AccessDenied"


@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_what_is_locked_cannot_be_deleted_before_its_date(lockable: Workbench, mode: str) -> None:
    """S3 refuses to delete media and documents; the date counts from the recording's start."""
    bench = locking(lockable, mode)
    started = now() - timedelta(days=3)
    stored = store(bench.archive, SMALL, started=started)
    document = bench.archive.write_once("receipts/a.json", b"{}", started)
    until = seconds(started + timedelta(days=10))
    storage = verify(bench.archive, bench.settings, stored).storage
    assert (stored.retention, storage.retention) == ("applied", "applied")
    assert stored.retain_until is not None
    assert seconds(stored.retain_until) == until
    assert (storage.object_lock_mode, storage.retain_until) == (mode, iso(until))
    for key, version in ((KEY, stored.version_id), ("receipts/a.json", document.version_id)):
        head = bench.archive.head(key)
        assert head is not None
        assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == (mode, until)
        assert refused_to_delete(bench.bucket.client, bench.bucket.name, key, version)


def test_a_document_without_a_start_is_not_locked(lockable: Workbench) -> None:
    """What may change or go, such as quarantine, carries no retention."""
    bench = locking(lockable)
    bench.archive.write_once("quarantine/a.json", b"{}")
    bench.archive.write_empty("index/a")
    assert [LOCK in event.headers for event in bench.requests(operation="PutObject")] == [False, False]


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["one part", "two parts"])
def test_a_date_that_is_past_is_left_out(lockable: Workbench, body: bytes) -> None:
    """A recording whose retention is over already is stored without, and says so; so are its documents."""
    bench = locking(lockable)
    started = now() - timedelta(days=10, seconds=1)
    stored = store(bench.archive, body, started=started)
    bench.archive.write_once("receipts/a.json", b"{}", started)
    writes = [each for each in bench.requests() if each.operation in ("PutObject", "CreateMultipartUpload")]
    assert {name for event in writes for name in event.headers} & {LOCK, UNTIL} == set()
    storage = verify(bench.archive, bench.settings, stored).storage
    assert (storage.retention, storage.object_lock_mode, storage.retain_until) == ("already past", None, None)


def test_the_receipt_says_that_the_date_is_past(lockable: Workbench) -> None:
    """Through all steps: the receipt of an old recording states why it is not locked, and verifies."""
    bench = locking(lockable)
    recording = bench.record(date_created=now().replace(microsecond=0) - timedelta(days=11))
    receipt = bench.archived(recording)
    assert receipt.storage.retention == "already past"
    assert (receipt.storage.object_lock_mode, receipt.storage.retain_until) == (None, None)
    assert bench.verified(recording).receipt == receipt


def by_default(workbench: Workbench, **period: int) -> None:
    """Give the bucket a retention of its own."""
    retention: Any = {"Mode": "GOVERNANCE", **period}
    workbench.bucket.client.put_object_lock_configuration(
        Bucket=workbench.bucket.name,
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}},
    )


@pytest.mark.parametrize(
    ("period", "days"), [({"Days": 30}, 30), ({"Years": 1}, 366), ({"Days": 9}, 10)], ids=["days", "a year", "less"]
)
def test_retention_is_never_below_the_buckets_default(lockable: Workbench, period: dict[str, int], days: int) -> None:
    """The date is the later one of ours and of the bucket's own rule, which is asked for once."""
    by_default(lockable, **period)
    bench = locking(lockable)
    for number in range(2):
        before = now()
        stored = store(bench.archive, SMALL, f"{KEY}-{number}", started=before)
        until = verify(bench.archive, bench.settings, stored).storage.retain_until
        assert until is not None
        assert timedelta(0) <= parse_iso(until) - seconds(before) - timedelta(days=days) < timedelta(minutes=1)
    assert len(bench.requests(operation="GetObjectLockConfiguration")) == 1


def test_parts_are_locked_by_the_request_that_begins_them(lockable: Workbench) -> None:
    """CreateMultipartUpload carries mode, date and the checksum's algorithm, which S3 demands of a locked upload."""
    bench = locking(lockable, "COMPLIANCE")
    started = now() - timedelta(days=3)
    stored, again = (store(bench.archive, LARGE, started=started) for _ in range(2))
    (created,) = bench.requests(KEY, "CreateMultipartUpload")
    assert created.headers[LOCK] == "COMPLIANCE"
    assert stored.retain_until is not None
    assert again.retain_until is not None
    asked = seconds(datetime.fromisoformat(created.headers[UNTIL]))
    assert asked == seconds(stored.retain_until) == seconds(again.retain_until) == seconds(started + timedelta(days=10))
    assert created.headers["x-amz-checksum-algorithm"] == "SHA256"


def test_no_lock_is_asked_for_unless_configured(lockable: Workbench) -> None:
    """Without the settings S3 is not asked about its rule, and the bucket's own retention is recorded as it is."""
    by_default(lockable, Days=30)
    stored = store(lockable.archive, SMALL)
    storage = verify(lockable.archive, lockable.settings, stored).storage
    assert lockable.operations("") == ["PutObject", "HeadObject"]
    assert LOCK not in lockable.requests(KEY, "PutObject")[0].headers
    assert (stored.retention, storage.object_lock_mode) == ("none", "GOVERNANCE")


def test_object_lock_is_seen(workbench: Workbench, lockable: Workbench) -> None:
    """A bucket says itself whether it can lock."""
    assert lockable.archive.has_object_lock() is True
    assert workbench.archive.has_object_lock() is False


def test_a_legal_hold_is_of_one_version(lockable: Workbench) -> None:
    """The version that is named, or the latest, is held and released."""
    lockable.overwrite(KEY, b"old")
    lockable.overwrite(KEY, b"new")
    latest, old = lockable.versions(KEY)

    def held() -> list[bool]:
        heads = [lockable.archive.head(KEY, version) or {} for version in (latest, old)]
        return [head.get("ObjectLockLegalHoldStatus") == "ON" for head in heads]

    lockable.archive.set_legal_hold(KEY, old, on=True)
    assert held() == [False, True]
    lockable.archive.set_legal_hold(KEY, None, on=True)
    lockable.archive.set_legal_hold(KEY, old, on=False)
    assert held() == [True, False]
    asked = lockable.requests(KEY, "PutObjectLegalHold")
    assert {event.headers["x-amz-sdk-checksum-algorithm"] for event in asked} == {"SHA256"}


REAL_BUCKET = "ARCHIVER_TEST_REAL_BUCKET"


@pytest.mark.enable_socket
@pytest.mark.skipif(
    not os.environ.get(REAL_BUCKET),
    reason=f"the local S3 server ignores the lock of parts; set {REAL_BUCKET} (a bucket with Object Lock) and AWS_*",
)
@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["one part", "two parts"])
def test_a_real_bucket_keeps_what_is_locked(simulator: Simulator, body: bytes) -> None:
    """Where the environment names a real bucket, it refuses to delete what was stored, in one part or in two."""
    name, key = os.environ[REAL_BUCKET], f"archiver-test/{secrets.token_hex(8)}.wav"
    settings = settings_for(simulator, name, ARCHIVE_OBJECT_LOCK_MODE="GOVERNANCE", ARCHIVE_RETENTION_DAYS="1")
    archive, started = Archive(settings), now()
    stored = store(archive, body, key, started)
    with closing(boto3.client("s3")) as client:
        try:
            storage = verify(archive, settings, stored).storage
            assert storage.retain_until is not None
            assert parse_iso(storage.retain_until) >= seconds(started + timedelta(days=1))
            assert refused_to_delete(client, name, key, stored.version_id)
        finally:
            client.delete_object(
                Bucket=name, Key=key, VersionId=stored.version_id or "", BypassGovernanceRetention=True
            )
