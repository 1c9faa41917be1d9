"""Verification asks S3 itself, and believes neither our memory nor a receipt."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.receipt import parse_iso
from deploy.local.s3_proxy import Hook, IgnoredHeaders, S3Request, S3Response, WithoutChecksums, WrongChecksum
from deploy.local.twilio import SimRecording
from tests.integration.workbench import KEY, LARGE, SMALL, Workbench, now, store
from workers.archive import PART_BYTES
from workers.errors import ConfigurationError, ContentError, TemporaryError
from workers.verification import verify

# What was stored


def test_a_stored_object_is_described_by_s3(workbench: Workbench) -> None:
    """Version, checksum and storage are what S3 reports."""
    stored = store(workbench.archive, SMALL)
    verified = verify(workbench.archive, workbench.settings, stored)
    head = workbench.bucket.client.head_object(Bucket=workbench.bucket.name, Key=KEY, ChecksumMode="ENABLED")
    assert verified.stored == stored
    assert verified.version_id == head["VersionId"]
    assert (verified.verification.method, verified.verification.checksum) == ("checksum", head["ChecksumSHA256"])
    assert abs(parse_iso(verified.verification.verified_at) - now()) < timedelta(minutes=1)
    assert (verified.storage.storage_class, verified.storage.object_lock_mode) == ("STANDARD", None)


def test_an_object_that_s3_does_not_show_yet_is_tried_again(workbench: Workbench) -> None:
    """A missing object right after the write is no reason to quarantine anything."""
    stored = store(workbench.archive, SMALL)
    workbench.archive.remove(KEY)
    workbench.bucket.client.delete_object(Bucket=workbench.bucket.name, Key=KEY, VersionId=stored.version_id or "")
    with pytest.raises(TemporaryError, match="stored_object_missing"):
        verify(workbench.archive, workbench.settings, stored)


@pytest.mark.parametrize("fault", [WrongChecksum(), WithoutChecksums()], ids=["wrong", "none"])
def test_another_checksum_or_none_is_refused(workbench: Workbench, fault: Any) -> None:
    """A wrong checksum is a fault of the content, a store that has none one of the configuration."""
    stored = store(workbench.archive, SMALL)
    workbench.proxy.inject(fault, "HeadObject", key_contains=KEY)
    error = ContentError if isinstance(fault, WrongChecksum) else ConfigurationError
    with pytest.raises(error, match="archive_differs" if error is ContentError else "ARCHIVE_VERIFY=readback"):
        verify(workbench.archive, workbench.settings, stored)


def test_readback_needs_no_checksum_and_reads_all(workbench: Workbench) -> None:
    """With `readback` S3's checksums count for nothing: the bytes are read again, also those of parts."""
    bench = workbench.under(ARCHIVE_VERIFY="readback")
    workbench.proxy.inject(WithoutChecksums(), times=None)
    for body, key in ((SMALL, KEY), (LARGE, f"{KEY}-2")):
        verified = verify(bench.archive, bench.settings, store(bench.archive, body, key))
        assert (verified.verification.method, verified.verification.checksum) == ("readback", None)
        assert [event.bytes_out for event in bench.requests(key, "GetObject")] == [len(body)]
        bench.proxy.inject(flip(), "GetObject", key_contains=key)
        with pytest.raises(ContentError, match="other bytes"):
            verify(bench.archive, bench.settings, verified.stored)


def flip() -> Hook:
    """Let the first byte of an object be another."""

    def other(_request: S3Request, response: S3Response) -> S3Response:
        body = bytearray(b"".join(response.blocks))
        body[0] ^= 1
        return response.with_body(bytes(body))

    return Hook(after=other)


KEY_ARN = "arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab"
SSE = "x-amz-server-side-encryption"


@pytest.mark.parametrize(
    ("settings", "ignored", "named"),
    [
        ({"ARCHIVE_SSE": "aws:kms", "ARCHIVE_KMS_KEY_ID": KEY_ARN}, {SSE, f"{SSE}-aws-kms-key-id"}, "ARCHIVE_SSE"),
        ({"ARCHIVE_STORAGE_CLASS": "STANDARD_IA"}, {"x-amz-storage-class"}, "ARCHIVE_STORAGE_CLASS"),
        (
            {"ARCHIVE_OBJECT_LOCK_MODE": "GOVERNANCE", "ARCHIVE_RETENTION_DAYS": "1"},
            {"x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date"},
            "ARCHIVE_OBJECT_LOCK_MODE",
        ),
    ],
    ids=["encryption", "storage class", "lock"],
)
def test_a_store_that_does_not_keep_it_as_asked_is_refused(
    workbench: Workbench, settings: dict[str, str], ignored: set[str], named: str
) -> None:
    """A store that ignores what was asked of it is a fault of the configuration, named by the setting."""
    bench = workbench.under(**settings)
    bench.proxy.inject(IgnoredHeaders(ignored), times=None)
    with pytest.raises(ConfigurationError, match=named):
        verify(bench.archive, bench.settings, store(bench.archive, SMALL))


KEY_ID = KEY_ARN.rpartition("/")[2]


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("alias/ours", True),
        ("arn:aws:kms:us-east-1:000000000000:alias/ours", True),
        (KEY_ARN, True),
        (KEY_ARN.replace("0000", "1111"), False),
        (KEY_ID, True),
        (KEY_ID.replace("1234", "4321"), False),
        (KEY_ID[1:], False),
    ],
)
def test_a_key_is_compared_with_what_s3_reports(workbench: Workbench, key: str, kept: bool) -> None:
    """S3 reports the ARN of a key: another ARN or id is refused, and an alias can't be compared with it."""
    bench = workbench.under(ARCHIVE_SSE="aws:kms", ARCHIVE_KMS_KEY_ID=key)
    stored = store(bench.archive, SMALL)

    def as_aws(_request: S3Request, response: S3Response) -> S3Response:
        return S3Response(response.status, {**response.headers, f"{SSE}-aws-kms-key-id": KEY_ARN})

    bench.proxy.inject(Hook(after=as_aws), "HeadObject", key_contains=KEY)
    if kept:
        assert verify(bench.archive, bench.settings, stored).storage.kms_key_id == KEY_ARN
    else:
        with pytest.raises(ConfigurationError, match="ARCHIVE_KMS_KEY_ID"):
            verify(bench.archive, bench.settings, stored)


def test_a_date_that_was_cut_is_refused(make_workbench: Callable[..., Workbench]) -> None:
    """A store that keeps what it locks a second shorter than it was asked to is a fault of the configuration."""
    bench = make_workbench(object_lock=True).under(ARCHIVE_OBJECT_LOCK_MODE="GOVERNANCE", ARCHIVE_RETENTION_DAYS="1")
    stored = store(bench.archive, SMALL)
    until = parse_iso(verify(bench.archive, bench.settings, stored).storage.retain_until or "")

    def earlier(_request: S3Request, response: S3Response) -> S3Response:
        date = (until - timedelta(seconds=1)).isoformat()
        return S3Response(response.status, {**response.headers, "x-amz-object-lock-retain-until-date": date})

    bench.proxy.inject(Hook(after=earlier), "HeadObject", key_contains=KEY)
    with pytest.raises(ConfigurationError, match="ARCHIVE_RETENTION_DAYS"):
        verify(bench.archive, bench.settings, stored)


def test_settings_that_changed_between_attempts_are_named(workbench: Workbench) -> None:
    """What an earlier attempt has stored under other settings is not taken as if it were kept as asked now."""
    store(workbench.archive, SMALL)
    bench = workbench.under(ARCHIVE_SSE="aws:kms", ARCHIVE_KMS_KEY_ID=KEY_ARN)
    with pytest.raises(ConfigurationError) as caught:
        verify(bench.archive, bench.settings, store(bench.archive, SMALL))
    assert str(caught.value) == (
        "stored_otherwise: an earlier attempt has stored the object otherwise than ARCHIVE_SSE, ARCHIVE_KMS_KEY_ID "
        "says now; set it back until the receipt is written"
    )


def test_a_class_that_a_lifecycle_rule_has_changed_is_adopted(workbench: Workbench) -> None:
    """What an earlier attempt has stored may be in another class by now; what is new may not."""
    new = store(workbench.archive, SMALL)

    def colder(_request: S3Request, response: S3Response) -> S3Response:
        return S3Response(response.status, {**response.headers, "x-amz-storage-class": "GLACIER"})

    workbench.proxy.inject(Hook(after=colder), "HeadObject", key_contains=KEY, times=None)
    with pytest.raises(ConfigurationError, match="ARCHIVE_STORAGE_CLASS"):
        verify(workbench.archive, workbench.settings, new)
    adopted = store(workbench.archive, SMALL)
    assert verify(workbench.archive, workbench.settings, adopted).storage.storage_class == "GLACIER"


# A receipt


@pytest.fixture
def locked(make_workbench: Callable[..., Workbench]) -> Workbench:
    """Return the parts of a worker that locks and encrypts what it stores."""
    return make_workbench(object_lock=True).under(
        ARCHIVE_SSE="aws:kms",
        ARCHIVE_KMS_KEY_ID=KEY_ARN,
        ARCHIVE_OBJECT_LOCK_MODE="GOVERNANCE",
        ARCHIVE_RETENTION_DAYS="10",
    )


def test_a_receipt_is_verified_from_the_bucket_alone(locked: Workbench) -> None:
    """The receipt that S3 holds is the one that was returned, and S3 confirms all that it states."""
    recording = locked.record()
    receipt = locked.archived(recording)
    verified = locked.verified(recording)
    assert verified.receipt == receipt
    assert verified.filing == locked.filing(recording)
    assert [verified.version_id] == locked.versions(verified.filing.receipt)
    assert verified.legal_hold is False
    assert (receipt.storage.kms_key_id, receipt.storage.object_lock_mode) == (KEY_ARN, "GOVERNANCE")


def test_a_recording_of_parts_verifies(workbench: Workbench) -> None:
    """The checksum of checksums is compared as S3 writes it; the digest of the whole can't be seen in it."""
    recording = workbench.record(size_bytes=PART_BYTES + 44)
    receipt = workbench.archived(recording)
    assert (receipt.verification.checksum or "").endswith("-2")
    assert workbench.verified(recording).receipt == receipt


TAMPERED: dict[str, Any] = {
    "recording_sid": "RE" + "0" * 32,
    "account_sid": "AC" + "0" * 32,
    "media.bucket": "another-bucket",
    "media.key": KEY,
    "media.version_id": "another-version",
    "media.format": "mp3",
    "media.bytes": 1,
    "media.sha256": "0" * 64,
    "storage.sse": "AES256",
    "storage.kms_key_id": None,
    "storage.object_lock_mode": "COMPLIANCE",
    "storage.retain_until": "2999-01-01T00:00:00.000Z",
    "verification.method": "readback",  # the bytes are read, and are those of the receipt
    "verification.checksum": "A" * 43 + "=",
}
HARMLESS = {"verification.method"}
# What S3 can't contradict: it is about the call, the download, or the time. No deletion depends on it, except on
# `archived_at`, by which it becomes due.
BESIDE_THE_POINT = {
    "archived_at",
    "archiver_version",
    "call_sid",
    "callback",
    "conference_sid",
    "encryption",
    "media.attempts",
    "media.channels",
    "media.content_type",
    "media.duration_seconds",
    "media.part_bytes",
    "media.requested_channels",
    "media.sample_rate",
    "quarantine",
    "schema",  # any other is not a receipt
    "source",
    "storage.retention",
    "storage.storage_class",  # lifecycle rules change it
    "verification.verified_at",
}


def test_every_field_of_a_receipt_is_thought_of(locked: Workbench) -> None:
    """A field that is new has to be put into one of the lists above."""
    recording = locked.record()
    locked.archived(recording)
    receipt = locked.bucket.document("receipts", recording) or {}
    grouped = ("media", "storage", "verification")
    fields = {name for name in receipt if name not in grouped}
    fields |= {f"{group}.{name}" for group in grouped for name in receipt[group]}
    assert fields == set(TAMPERED) | BESIDE_THE_POINT


@pytest.mark.parametrize("field", sorted(TAMPERED))
def test_a_receipt_that_was_tampered_with_is_refused(locked: Workbench, field: str) -> None:
    """A receipt whose field was changed proves nothing; reading the bytes instead of asking for a checksum does."""
    recording = locked.record()
    locked.archived(recording)
    locked.tamper(locked.filing(recording).receipt, field, TAMPERED[field])
    if field in HARMLESS:
        locked.verified(recording)
        return
    with pytest.raises(ContentError):
        locked.verified(recording)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"schema":"recording-receipt/2"}', b"\xff"])
def test_what_is_no_receipt_is_refused(workbench: Workbench, body: bytes) -> None:
    """Another document under the receipt's key is a fault of the content."""
    recording = workbench.record()
    workbench.overwrite(workbench.filing(recording).receipt, body)
    with pytest.raises(ContentError, match="receipt_unreadable"):
        workbench.filed(recording)


def overwritten(bench: Workbench, recording: SimRecording, key: str) -> None:
    bench.overwrite(key, bench.simulator.media_bytes(recording.sid, 2))


def overwritten_with_other_bytes(bench: Workbench, recording: SimRecording, key: str) -> None:
    bench.overwrite(key, b"x" * len(bench.simulator.media_bytes(recording.sid, 2)))


def cut(bench: Workbench, recording: SimRecording, key: str) -> None:
    bench.overwrite(key, bench.simulator.media_bytes(recording.sid, 2)[:-1])


def hidden(bench: Workbench, _recording: SimRecording, key: str) -> None:
    bench.archive.remove(key)


def removed(bench: Workbench, _recording: SimRecording, key: str) -> None:
    for version in bench.versions(key):
        bench.bucket.client.delete_object(Bucket=bench.bucket.name, Key=key, VersionId=version)


CHANGES = [overwritten, overwritten_with_other_bytes, cut, hidden, removed]


@pytest.mark.parametrize("versioning", [True, False], ids=["versions", "no versions"])
@pytest.mark.parametrize("change", CHANGES, ids=[change.__name__ for change in CHANGES])
@pytest.mark.parametrize("method", ["checksum", "readback"])
def test_an_object_that_was_changed_since_is_refused(
    make_workbench: Callable[..., Workbench],
    method: str,
    change: Callable[[Workbench, SimRecording, str], None],
    versioning: bool,
) -> None:
    """Whatever was done to the object, its receipt proves nothing any more, also where old versions are left.

    Without versions the same bytes put again are the same object to a reader; but S3's own checksum is gone then.
    """
    bench = make_workbench(versioning=versioning).under(ARCHIVE_VERIFY=method)
    recording = bench.record()
    receipt = bench.archived(recording)
    change(bench, recording, receipt.media.key)
    if change is overwritten and method == "readback" and not versioning:
        bench.verified(recording)
        return
    with pytest.raises((ContentError, ConfigurationError)):
        bench.verified(recording)


def put_retention(bench: Workbench, key: str, until: datetime, mode: str = "GOVERNANCE") -> None:
    retention: Any = {"Mode": mode, "RetainUntilDate": until}
    bench.bucket.client.put_object_retention(
        Bucket=bench.bucket.name, Key=key, Retention=retention, BypassGovernanceRetention=True
    )


@pytest.mark.parametrize(
    ("seconds", "mode", "kept"),
    [(-1, "GOVERNANCE", False), (-1, "COMPLIANCE", False), (0, "COMPLIANCE", True), (3600, "GOVERNANCE", True)],
)
def test_retention_may_become_longer_or_stronger_only(locked: Workbench, seconds: int, mode: str, kept: bool) -> None:
    """A second less is refused; a later date or COMPLIANCE is as good as what the receipt states."""
    recording = locked.record()
    receipt = locked.archived(recording)
    until = parse_iso(receipt.storage.retain_until or "")
    put_retention(locked, receipt.media.key, until + timedelta(seconds=seconds), mode)
    if kept:
        assert locked.verified(recording).receipt == receipt
    else:
        with pytest.raises(ContentError, match="archive_kept_otherwise"):
            locked.verified(recording)


def test_a_weaker_mode_is_refused(locked: Workbench) -> None:
    """What was written under COMPLIANCE and is reported under GOVERNANCE is not kept as the receipt states."""
    bench = locked.under(ARCHIVE_OBJECT_LOCK_MODE="COMPLIANCE")
    recording = bench.record()
    bench.archived(recording)

    def weaker(_request: S3Request, response: S3Response) -> S3Response:
        return S3Response(response.status, {**response.headers, "x-amz-object-lock-mode": "GOVERNANCE"})

    bench.proxy.inject(Hook(after=weaker), "HeadObject", key_contains=recording.sid)
    with pytest.raises(ContentError, match="archive_kept_otherwise"):
        bench.verified(recording)


@pytest.mark.parametrize("change", ["overwritten", "removed"])
@pytest.mark.parametrize("versioning", [True, False], ids=["versions", "no versions"])
def test_what_changes_while_it_is_read_is_refused(
    make_workbench: Callable[..., Workbench], versioning: bool, change: str
) -> None:
    """Reading takes its time: an object that was overwritten or removed meanwhile proves nothing."""
    bench = make_workbench(versioning=versioning).under(ARCHIVE_VERIFY="readback")
    recording = bench.record()
    key = bench.archived(recording).media.key

    def meanwhile(_request: S3Request, _response: S3Response) -> None:
        if change == "removed":
            removed(bench, recording, key)
            bench.archive.remove(key)
        else:
            bench.overwrite(key, b"x" * len(bench.simulator.media_bytes(recording.sid, 2)))

    bench.proxy.inject(Hook(after=meanwhile), "GetObject", key_contains=key)
    with pytest.raises(ContentError, match="archive_overwritten" if change == "overwritten" else "archive_missing"):
        bench.verified(recording)


def test_a_receipt_that_changes_while_the_object_is_read_is_refused(workbench: Workbench) -> None:
    """What a receipt says now is compared, and not what it said before the reading."""
    bench = workbench.under(ARCHIVE_VERIFY="readback")
    recording = bench.record()
    key = bench.archived(recording).media.key

    def meanwhile(_request: S3Request, _response: S3Response) -> None:
        bench.tamper(bench.filing(recording).receipt, "media.sha256", "0" * 64)

    bench.proxy.inject(Hook(after=meanwhile), "GetObject", key_contains=key)
    with pytest.raises(ContentError, match="receipt_changed"):
        bench.verified(recording)


def test_a_hold_that_comes_while_it_is_read_is_seen(locked: Workbench) -> None:
    """With `readback` too, what forbids the deletion is looked at last."""
    bench = locked.under(ARCHIVE_VERIFY="readback")
    recording = bench.record()
    key = bench.archived(recording).media.key

    def hold(_request: S3Request, _response: S3Response) -> None:
        bench.bucket.client.put_object_legal_hold(Bucket=bench.bucket.name, Key=key, LegalHold={"Status": "ON"})

    bench.proxy.inject(Hook(after=hold), "GetObject", key_contains=key)
    assert bench.verified(recording).legal_hold is True


@pytest.mark.parametrize("status", ["ON", "OFF"])
def test_a_legal_hold_is_told(locked: Workbench, status: Any) -> None:
    """The verified receipt says whether S3 holds the media."""
    recording = locked.record()
    key = locked.archived(recording).media.key
    locked.bucket.client.put_object_legal_hold(Bucket=locked.bucket.name, Key=key, LegalHold={"Status": status})
    assert locked.verified(recording).legal_hold is (status == "ON")


def test_a_bucket_that_became_versioned_keeps_its_receipts(make_workbench: Callable[..., Workbench]) -> None:
    """What was written before versions were switched on is then of the version `null`, and still proven."""
    bench = make_workbench(versioning=False)
    recording = bench.record()
    receipt = bench.archived(recording)
    assert receipt.media.version_id is None
    bench.bucket.client.put_bucket_versioning(Bucket=bench.bucket.name, VersioningConfiguration={"Status": "Enabled"})
    assert bench.verified(recording).receipt == receipt
