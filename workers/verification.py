"""Compare what S3 says it holds with what Twilio served and with what a receipt states.

The types carry the order of the steps: only `verify` makes a `VerifiedObject`, only this module makes a
`VerifiedReceipt`, and only a `VerifiedReceipt` allows a deletion.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.receipt import Filing, Receipt, Storage, Verification, iso, parse_iso
from app.settings import WorkerSettings
from workers.archive import Archive, StoredObject
from workers.errors import ConfigurationError, ContentError, TemporaryError


@dataclass(frozen=True, slots=True)
class VerifiedObject:
    """An object that S3 itself has confirmed to hold exactly the bytes that Twilio served."""

    stored: StoredObject
    version_id: str | None
    storage: Storage
    verification: Verification


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """A receipt as S3 holds it, whose media S3 has just confirmed. `legal_hold`: S3 forbids to remove the media."""

    filing: Filing
    receipt: Receipt
    version_id: str | None
    legal_hold: bool


def verify(archive: Archive, settings: WorkerSettings, stored: StoredObject) -> VerifiedObject:
    """Ask S3 what it holds under the key and compare: size, checksum (or the bytes), encryption, class, lock.

    Raises `ContentError` when another object is there, `ConfigurationError` when S3 keeps no checksum or did not
    keep the object as the settings say.
    """
    head = archive.head(stored.key, stored.version_id)
    if head is None:
        raise TemporaryError("stored_object_missing", "S3 does not show the object that it has just taken")
    method = settings.ARCHIVE_VERIFY
    checksum = _compare(archive, method, stored.key, head, stored.media.bytes, stored.media.sha256, stored.checksum)
    storage = _storage(head, stored.retention)
    _check_storage(settings, storage)
    verification = Verification(method, checksum, iso(datetime.now(UTC)))
    return VerifiedObject(stored, head.get("VersionId"), storage, verification)


def verify_receipt(archive: Archive, filing: Filing) -> VerifiedReceipt | None:
    """Read a receipt from S3 and compare it with what S3 holds now; None when there is no receipt.

    Raises `ContentError` when receipt, key and object disagree in anything: size, checksum or bytes, encryption,
    storage class, lock mode, or a retention that has become shorter.
    """
    document = archive.read(filing.receipt)
    if document is None:
        return None
    try:
        receipt = Receipt.from_json(document.body)
        retain_until = parse_iso(receipt.storage.retain_until) if receipt.storage.retain_until else None
    except ValueError as error:
        raise ContentError("receipt_unreadable", "the document under the receipt's key is not a receipt") from error
    media = receipt.media
    filed = (filing.account_sid, filing.recording_sid, archive.bucket, filing.media(media.format))
    if (receipt.account_sid, receipt.recording_sid, media.bucket, media.key) != filed:
        raise ContentError("receipt_of_another_recording", "the receipt names another recording, bucket or key")
    head = archive.head(media.key, media.version_id)
    if head is None:
        raise ContentError("archive_missing", "the receipt's object is not in the bucket")
    verification = receipt.verification
    _compare(archive, verification.method, media.key, head, media.bytes, media.sha256, verification.checksum)
    now = _storage(head, receipt.storage.retention)
    kept = head.get("ObjectLockRetainUntilDate")
    unchanged = (now.sse, now.kms_key_id, now.object_lock_mode) == (
        receipt.storage.sse,
        receipt.storage.kms_key_id,
        receipt.storage.object_lock_mode,
    )
    if not unchanged or (retain_until is not None and (kept is None or kept < retain_until)):
        raise ContentError("archive_kept_otherwise", "encryption or retention are not as the receipt records")
    return VerifiedReceipt(filing, receipt, document.version_id, head.get("ObjectLockLegalHoldStatus") == "ON")


def _compare(
    archive: Archive, method: str, key: str, head: Mapping[str, Any], size: int, sha256: str, checksum: str | None
) -> str | None:
    """Return S3's own checksum (None with `readback`) if S3 holds `size` bytes with these digests."""
    if head["ContentLength"] != size:
        raise ContentError("archive_differs", "the object under the archive key has another size")
    if method == "readback":
        if archive.digest(key, head.get("VersionId")) != sha256:
            raise ContentError("archive_differs", "the object under the archive key has other bytes")
        return None
    reported = head.get("ChecksumSHA256")
    if reported is None:
        raise ConfigurationError(
            "store_without_checksums", "S3 reports no SHA-256 of the object; set ARCHIVE_VERIFY=readback"
        )
    if reported != checksum:
        raise ContentError("archive_differs", "the object under the archive key has another checksum")
    return str(reported)


def _storage(head: Mapping[str, Any], retention: str) -> Storage:
    until = head.get("ObjectLockRetainUntilDate")
    return Storage(
        sse=head.get("ServerSideEncryption"),
        kms_key_id=head.get("SSEKMSKeyId"),
        storage_class=head.get("StorageClass", "STANDARD"),
        object_lock_mode=head.get("ObjectLockMode"),
        retain_until=iso(until) if until else None,
        retention=retention,
    )


def _check_storage(settings: WorkerSettings, storage: Storage) -> None:
    mode = settings.ARCHIVE_OBJECT_LOCK_MODE if storage.retention == "applied" else None
    asked = (
        ("ARCHIVE_SSE", settings.ARCHIVE_SSE, storage.sse),
        ("ARCHIVE_STORAGE_CLASS", settings.ARCHIVE_STORAGE_CLASS, storage.storage_class),
        ("ARCHIVE_OBJECT_LOCK_MODE", mode, storage.object_lock_mode),
    )
    wrong = [name for name, wanted, got in asked if wanted is not None and wanted != got]
    if wrong:
        raise ConfigurationError("stored_otherwise", f"S3 did not keep the object as {', '.join(wrong)} says")
