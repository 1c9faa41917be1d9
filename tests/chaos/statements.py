"""What the documents of a recording must say, by what the source is and how S3 keeps it: not by the product's code.

Each yields what a document states wrongly. Times are left out: they are those of whichever machine wrote it.
"""

from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tests.chaos.evidence import Truth, Version

Document = Mapping[str, Any]

# What Twilio's own resource says otherwise once it is deleted.
_CHANGES = {"status", "date_updated"}
_LAYOUTS = [2, 1]  # in channels, as they are asked for
_DETAILS = {"public_key_sid": "encryption_public_key_sid", "encrypted_cek": "encryption_cek", "iv": "encryption_iv"}


def of_receipt(said: Document, truth: Truth, media: Version, refusals: int) -> Iterator[str]:
    """Yield what a receipt states otherwise than Twilio, or than S3 of the media that it is about.

    `refusals` says how often Twilio answered 400 to a request for the media: after one for two channels and one for a
    single channel, neither is asked for.
    """
    resource = truth.resource
    is_encrypted = resource["encryption_details"] is not None
    yield from _wrong(
        said,
        {
            "schema": "recording-receipt/1",
            "recording_sid": truth.recording_sid,
            "account_sid": truth.account_sid,
            "call_sid": resource["call_sid"],
            "conference_sid": resource["conference_sid"],
            "encryption": _encryption(resource) if is_encrypted else None,
        },
    )
    lasting = {name: value for name, value in resource.items() if name not in _CHANGES}
    yield from _wrong(said, lasting | {"status": "completed"}, "source")
    extension = media.key.rpartition(".")[2]
    kept = media.kept or {}
    about = {
        "bucket": kept.get("bucket"),
        "key": media.key,
        "version_id": media.version_id,
        "bytes": media.bytes,
        "sha256": media.sha256,
        "format": extension,
        "channels": None if is_encrypted else resource["channels"],
        "requested_channels": None if refusals >= len(_LAYOUTS) and _tried(said) == _LAYOUTS else resource["channels"],
    }
    yield from _wrong(said, about, "media")
    yield from _wrong(
        said,
        {name: kept.get(name) for name in ("sse", "kms_key_id", "storage_class", "object_lock_mode", "retain_until")},
        "storage",
    )
    checksum = kept.get("checksum")
    yield from _wrong(said, {"method": "checksum", "checksum": checksum}, "verification")
    if "-" not in str(checksum) and checksum != b64encode(bytes.fromhex(media.sha256 or "")).decode():
        yield "S3's checksum is not that of the bytes"


def of_request(said: Document, truth: Truth, receipt: Version) -> Iterator[str]:
    """Yield what was written down wrongly before a DELETE."""
    proven = receipt.document or {}
    yield from _wrong(said, _about(truth, receipt))
    checks = {
        "legal_hold": False,
        "quarantined": False,
        "deletions_paused": False,
        "checksum": (proven.get("verification") or {}).get("checksum"),
        "media": proven.get("media"),
        "storage": proven.get("storage"),
    }
    yield from _wrong(said, checks, "checks")


def of_deletion(said: Document, truth: Truth, receipt: Version, answers: Collection[int | None]) -> Iterator[str]:
    """Yield what is wrong with the proof of a deletion; `answers` are Twilio's to the DELETEs."""
    yield from _wrong(said, {"schema": "recording-deletion/1"} | _about(truth, receipt))
    yield from _wrong(said, {"sid": truth.recording_sid, "status": "deleted"}, "confirmation")
    if _dig(said, "answer", "status") not in answers:
        yield "answer.status"


def of_absence(said: Document, truth: Truth) -> Iterator[str]:
    """Yield what is wrong with what says why there is no audio."""
    resource = truth.resource
    yield from _wrong(
        said,
        {
            "recording_sid": truth.recording_sid,
            "account_sid": truth.account_sid,
            "error_code": resource["error_code"],
        },
    )
    reasons = {"stored_externally"} if resource["status"] in ("completed", "deleted") else {"absent", "failed"}
    if said.get("reason") not in reasons:
        yield "reason"


def _about(truth: Truth, receipt: Version) -> dict[str, Any]:
    return {
        "recording_sid": truth.recording_sid,
        "account_sid": truth.account_sid,
        "receipt": {"key": receipt.key, "version_id": receipt.version_id},
    }


def _tried(receipt: Document) -> list[Any]:
    """Return the numbers of channels that a receipt says Twilio answered with 400."""
    attempts = _dig(receipt, "media", "attempts") or []
    return [_dig(each, "requested_channels") for each in attempts if _dig(each, "status") == 400]


def _encryption(resource: Document) -> dict[str, Any]:
    details = resource["encryption_details"]
    return {"type": details["type"]} | {name: details[given] for name, given in _DETAILS.items()}


def _wrong(said: Document, expected: Mapping[str, Any], *within: str) -> Iterator[str]:
    """Yield the names under which a document, or what is within it, says something else than expected."""
    for name, value in expected.items():
        if _dig(said, *within, name) != value:
            yield ".".join((*within, name))


def _dig(document: Document, *names: str) -> Any:
    value: Any = document
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
