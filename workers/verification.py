"""Compare what S3 says it holds with what Twilio served and with what a receipt states.

The types carry the order of the steps: only `verify` makes a `VerifiedObject`, only `verify_receipt` makes a
`VerifiedReceipt`, and only a `VerifiedReceipt` allows a deletion.
"""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.receipt import Filing, Receipt, Storage, Verification, iso, parse_iso
from app.settings import WorkerSettings
from workers.archive import Archive, StoredObject
from workers.errors import ConfigurationError, ContentError, ForbiddenDeletionError, TemporaryError


@dataclass(frozen=True, slots=True)
class VerifiedObject:
    """An object that S3 itself has confirmed to hold exactly the bytes that Twilio served."""

    stored: StoredObject
    version_id: str | None
    storage: Storage
    verification: Verification


@dataclass(frozen=True, slots=True)
class FiledReceipt:
    """A receipt as S3 holds it; what it states has not been compared with anything yet."""

    filing: Filing
    receipt: Receipt
    version_id: str | None


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
    _check_storage(settings, stored, storage)
    verification = Verification(method, checksum, iso(datetime.now(UTC)))
    return VerifiedObject(stored, head.get("VersionId"), storage, verification)


def read_receipt(archive: Archive, filing: Filing) -> FiledReceipt | None:
    """Read a recording's receipt; None when there is none. Raises `ContentError` for a document that is not one."""
    document = archive.read(filing.receipt)
    if document is None:
        return None
    try:
        return FiledReceipt(filing, Receipt.from_json(document.body), document.version_id)
    except ValueError as error:
        raise ContentError("receipt_unreadable", "the document under the receipt's key is not a receipt") from error


def verify_receipt(archive: Archive, filed: FiledReceipt) -> VerifiedReceipt:
    """Compare a receipt with what S3 holds now. The only maker of a `VerifiedReceipt`.

    Raises `ContentError` when receipt, key and object disagree in anything: version, size, checksum or bytes,
    encryption, lock mode, or a retention that has become shorter; `ForbiddenDeletionError` where the object is gone
    because its retention has ended.
    """
    filing, receipt = filed.filing, filed.receipt
    media = receipt.media
    expected = (filing.account_sid, filing.recording_sid, archive.bucket, filing.media(media.format))
    if (receipt.account_sid, receipt.recording_sid, media.bucket, media.key) != expected:
        raise ContentError("receipt_of_another_recording", "the receipt names another recording, bucket or key")
    head = archive.head(media.key)
    if head is None and receipt.storage.is_over(datetime.now(UTC)):
        raise ForbiddenDeletionError(
            "archive_expired", "the media was removed after its time; Twilio has the last copy"
        )
    if head is None:
        raise ContentError("archive_missing", "the receipt's object is not in the bucket")
    # The latest version and not that one: lifecycle rules remove the old versions of what was overwritten.
    if head.get("VersionId", "null") != (media.version_id or "null"):
        raise ContentError("archive_overwritten", "the object's latest version is not the one of the receipt")
    verification = receipt.verification
    checksum = _compare(archive, verification.method, media.key, head, media.bytes, media.sha256, verification.checksum)
    if verification.method == "readback":
        head = _still(archive, media.key, head)  # reading takes its time
        if read_receipt(archive, filing) != filed:
            raise ContentError("receipt_changed", "the receipt was changed while the object was read")
    if checksum and "-" not in checksum and b64decode(checksum).hex() != media.sha256:  # of the whole, not of parts
        raise ContentError("receipt_contradicts_itself", "the receipt's two digests of the media differ")
    if not _kept_as(receipt.storage, head):
        raise ContentError("archive_kept_otherwise", "encryption or retention are not as the receipt records")
    return VerifiedReceipt(filing, receipt, filed.version_id, head.get("ObjectLockLegalHoldStatus") == "ON")


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


def _still(archive: Archive, key: str, head: Mapping[str, Any]) -> Mapping[str, Any]:
    """Describe an object anew. Raises `ContentError` when it is not the same any more."""
    now = archive.head(key)
    if now is None:
        raise ContentError("archive_missing", "the object was removed while it was read")
    if any(now.get(name) != head.get(name) for name in ("ETag", "VersionId", "LastModified")):
        raise ContentError("archive_overwritten", "the object was overwritten while it was read")
    return now


def _kept_as(stated: Storage, head: Mapping[str, Any]) -> bool:
    """Tell whether S3 keeps an object as a receipt states; a longer retention or a stronger mode is as good."""
    now = _storage(head, stated.retention)
    if (now.sse, now.kms_key_id) != (stated.sse, stated.kms_key_id):
        return False
    if stated.retain_until is None:
        return True
    kept = head.get("ObjectLockRetainUntilDate")
    modes = {stated.object_lock_mode, "COMPLIANCE"}
    return kept is not None and kept >= parse_iso(stated.retain_until) and now.object_lock_mode in modes


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


def _check_storage(settings: WorkerSettings, stored: StoredObject, storage: Storage) -> None:
    """Compare how S3 keeps an object with the settings. Raises `ConfigurationError`."""
    # A lifecycle rule may have moved what an earlier attempt has written.
    storage_class = settings.ARCHIVE_STORAGE_CLASS if stored.is_new else None
    mode = settings.ARCHIVE_OBJECT_LOCK_MODE if storage.retention == "applied" else None
    asked = (
        ("ARCHIVE_SSE", settings.ARCHIVE_SSE, storage.sse),
        ("ARCHIVE_STORAGE_CLASS", storage_class, storage.storage_class),
        ("ARCHIVE_OBJECT_LOCK_MODE", mode, storage.object_lock_mode),
    )
    wrong = [name for name, wanted, got in asked if wanted is not None and wanted != got]
    if not _is_key(settings.ARCHIVE_KMS_KEY_ID, storage.kms_key_id):
        wrong.append("ARCHIVE_KMS_KEY_ID")
    until = stored.retain_until
    if until and (not storage.retain_until or parse_iso(storage.retain_until) < until.replace(microsecond=0)):
        wrong.append("ARCHIVE_RETENTION_DAYS")
    if wrong and stored.is_new:
        raise ConfigurationError("stored_otherwise", f"S3 did not keep the object as {', '.join(wrong)} says")
    if wrong:
        raise ConfigurationError(
            "stored_otherwise",
            f"an earlier attempt has stored the object otherwise than {', '.join(wrong)} says now; "
            "set it back until the receipt is written",
        )


def _is_key(wanted: str | None, reported: str | None) -> bool:
    """Tell whether a key may be the one that S3 reports, always by its ARN; of an alias nothing can be told."""
    if not wanted or "alias/" in wanted:
        return True
    return reported is not None and wanted in (reported, reported.rpartition(":key/")[2])
