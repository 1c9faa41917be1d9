"""Gather everything that is known of one recording, from S3 and from Twilio, as one JSON document."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.receipt import Filing, iso
from workers.archive import Archive
from workers.errors import ArchiverError, ContentError, GoneError
from workers.twilio_api import TwilioApi
from workers.verification import FiledReceipt, read_receipt, verify_receipt

UNREADABLE = {"unreadable": True}


@dataclass(frozen=True, slots=True)
class Dossier:
    """What is known of a recording; `document` is the whole of it, as `archiver show --json` prints it."""

    document: Mapping[str, Any]

    @property
    def agrees(self) -> bool:
        """Whether every document can be read, and the media is as its receipt says."""
        media = self.document["media"]
        return UNREADABLE not in self.document.values() and not (media and media["verified"] is False)

    @property
    def is_whole(self) -> bool:
        """Whether both sides have answered."""
        return "error" not in self.document["twilio"]


def gather(archive: Archive, twilio: TwilioApi, filing: Filing) -> Dossier:
    """Look at everything that S3 holds of a recording and at Twilio's resource, and verify the media now.

    What Twilio says is left out, with the error in its place, where it can't be asked. Nothing is changed.
    """
    receipt, media = _receipt_and_media(archive, filing)
    return Dossier(
        {
            "recording_sid": filing.recording_sid,
            "account_sid": filing.account_sid,
            "day": str(filing.day) if filing.day else None,
            "receipt": receipt,
            "media": media,
            "deletion_request": _document(archive, filing.deletion_request),
            "deletion": _document(archive, filing.deletion),
            "absence": _document(archive, filing.absence),
            "quarantine": _document(archive, filing.quarantine),
            "transcriptions": _texts(archive, filing),
            "hold": _document(archive, filing.hold),
            "twilio": _source(twilio, filing),
        }
    )


def _receipt_and_media(archive: Archive, filing: Filing) -> tuple[Any, dict[str, Any] | None]:
    """Return the receipt as it is filed, and the media as S3 reports it now."""
    if filing.day is None:
        return None, None
    try:
        filed = read_receipt(archive, filing)
    except ContentError:
        return UNREADABLE, _without_receipt(archive, filing, verified=False)
    if filed is None:
        return None, _without_receipt(archive, filing, verified=None)
    document = json.loads(filed.receipt.to_json())
    return document, _with_receipt(archive, filed)


def _with_receipt(archive: Archive, filed: FiledReceipt) -> dict[str, Any]:
    media = filed.receipt.media
    seen = _seen(archive, filed.filing.media(media.format), media.version_id)
    try:
        verify_receipt(archive, filed)
    except ContentError as error:
        return seen | {"verified": False, "problem": str(error)}
    except ArchiverError as error:
        return seen | {"verified": None, "problem": str(error)}
    return seen | {"verified": True, "problem": None}


def _without_receipt(archive: Archive, filing: Filing, *, verified: bool | None) -> dict[str, Any] | None:
    for extension in ("wav", "mp3"):
        seen = _seen(archive, filing.media(extension), None)
        if seen["exists"]:
            return seen | {"verified": verified, "problem": "there is no receipt that it could be compared with"}
    return None


def _seen(archive: Archive, key: str, version_id: str | None) -> dict[str, Any]:
    """Return what S3 says of an object now."""
    head = archive.head(key, version_id)
    if head is None:
        return {"key": key, "version_id": version_id, "exists": False}
    until = head.get("ObjectLockRetainUntilDate")
    return {
        "key": key,
        "version_id": head.get("VersionId", version_id),
        "exists": True,
        "bytes": head["ContentLength"],
        "checksum_sha256": head.get("ChecksumSHA256"),
        "last_modified": iso(head["LastModified"]),
        "storage_class": head.get("StorageClass", "STANDARD"),
        "restore": head.get("Restore"),
        "sse": head.get("ServerSideEncryption"),
        "kms_key_id": head.get("SSEKMSKeyId"),
        "object_lock_mode": head.get("ObjectLockMode"),
        "retain_until": iso(until) if until else None,
        "legal_hold": head.get("ObjectLockLegalHoldStatus") == "ON",
    }


def _document(archive: Archive, key: str) -> Any:
    """Return a document with its key; None when there is none."""
    found = archive.read(key)
    if found is None:
        return None
    try:
        raw = json.loads(found.body)
    except (ValueError, RecursionError):
        return UNREADABLE
    return {"key": key, **raw} if isinstance(raw, dict) else UNREADABLE


def _texts(archive: Archive, filing: Filing) -> Any:
    """Return how many transcriptions and add-on results were kept, and where: not what was said."""
    kept = _document(archive, filing.transcriptions)
    if kept is None or kept == UNREADABLE:
        return kept
    counts = {
        name: len(kept[name]) for name in ("transcriptions", "add_on_results") if isinstance(kept.get(name), list)
    }
    return {"key": kept["key"], "kept_at": kept.get("kept_at"), **counts}


def _source(twilio: TwilioApi, filing: Filing) -> dict[str, Any]:
    try:
        recording = twilio.fetch(filing.account_sid, filing.recording_sid)
    except GoneError:
        return {"status": None, "resource": None}
    except ArchiverError as error:
        return {"error": str(error)}
    return {"status": recording.status, "resource": recording.raw}
