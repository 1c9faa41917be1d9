"""Legal holds: S3 keeps the media of a recording until somebody lifts the hold, whatever its retention says.

Why it was placed and lifted is kept in the bucket, in a document that is only ever added to. It is written before S3
is asked to hold and after S3 was asked to let go, so that there is no hold without a reason.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html#object-lock-legal-holds.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

from app.receipt import HOLD_SCHEMA, HOLDS, Filing, archiver_version, from_json, iso, to_json
from workers.archive import Archive, Document
from workers.errors import ArchiverError, ConfigurationError, ContentError, TemporaryError
from workers.verification import FiledReceipt

PLACED: Final = "placed"
LIFTED: Final = "lifted"


@dataclass(frozen=True, slots=True)
class HoldEvent:
    """A hold that was `placed` or `lifted`: why, and when (ISO 8601 UTC)."""

    action: str
    reason: str
    at: str
    archiver_version: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The holds of one recording's media, oldest first; the last event says how things should be."""

    recording_sid: str
    account_sid: str
    key: str
    version_id: str | None
    events: tuple[HoldEvent, ...]
    schema: str = HOLD_SCHEMA

    @classmethod
    def from_json(cls, document: bytes) -> "Hold":
        """Read a document of holds. Raises `ValueError`."""
        raw = from_json(document, HOLD_SCHEMA)
        try:
            events = tuple(HoldEvent(**event) for event in raw["events"])
            return cls(**{name: raw[name] for name in cls.__dataclass_fields__} | {"events": events})
        except (KeyError, TypeError) as error:
            raise ValueError("not a complete document of holds") from error

    @property
    def placed(self) -> HoldEvent | None:
        """The event by which the media is held; None when nothing asks to hold it."""
        return self.events[-1] if self.events and self.events[-1].action == PLACED else None


def require_object_lock(archive: Archive) -> None:
    """Raise `ConfigurationError` when the bucket can't hold anything."""
    if not archive.has_object_lock():
        raise ConfigurationError(
            "no_object_lock",
            "the bucket has no Object Lock, so S3 holds nothing; enable it (versioning first): aws s3api "
            f"put-object-lock-configuration --bucket {archive.bucket} "
            "--object-lock-configuration ObjectLockEnabled=Enabled",
        )


def place_hold(archive: Archive, filed: FiledReceipt, reason: str) -> Hold:
    """Put the media of an archived recording under a legal hold; one that is held already keeps its reason."""
    document, hold = _read(archive, filed)
    if hold.placed is None:
        hold = _add(archive, filed, document, hold, PLACED, reason)
    archive.set_legal_hold(hold.key, hold.version_id, on=True)
    if not is_held(archive, hold):
        raise ConfigurationError(
            "hold_unconfirmed", "S3 took the legal hold and does not show it; grant s3:GetObjectLegalHold"
        )
    return hold


def lift_hold(archive: Archive, filed: FiledReceipt, reason: str) -> Hold:
    """Lift the legal hold of a recording's media. Raises `ArchiverError` when it is not held."""
    document, hold = _read(archive, filed)
    if hold.placed is None and not is_held(archive, hold):
        raise ArchiverError("not_held", "the recording is not under a legal hold")
    archive.set_legal_hold(hold.key, hold.version_id, on=False)
    return _add(archive, filed, document, hold, LIFTED, reason)


def is_held(archive: Archive, hold: Hold) -> bool:
    """Ask S3 whether it holds the media now."""
    head = archive.head(hold.key, hold.version_id)
    return head is not None and head.get("ObjectLockLegalHoldStatus") == "ON"


def is_hold_asked_for(archive: Archive, filing: Filing) -> bool:
    """Tell whether the document of holds asks to hold a recording's media; one that nobody can read does."""
    document = archive.read(filing.hold)
    try:
        return document is not None and _parse(document).placed is not None
    except ContentError:
        return True


def holds(archive: Archive) -> Iterator[Hold]:
    """Yield every recording's holds, also lifted ones. Raises `ContentError` for what is no such document."""
    for key, _ in archive.listing(archive.prefix + HOLDS):
        document = archive.read(key)
        if document is not None:
            yield _parse(document)


def _read(archive: Archive, filed: FiledReceipt) -> tuple[Document | None, Hold]:
    document = archive.read(filed.filing.hold)
    if document is not None:
        return document, _parse(document)
    media = filed.receipt.media
    return None, Hold(filed.filing.recording_sid, filed.filing.account_sid, media.key, media.version_id, ())


def _parse(document: Document) -> Hold:
    try:
        return Hold.from_json(document.body)
    except ValueError as error:
        raise ContentError("hold_unreadable", f"{document.key} is not a document of holds") from error


def _add(
    archive: Archive, filed: FiledReceipt, document: Document | None, hold: Hold, action: str, reason: str
) -> Hold:
    event = HoldEvent(action, reason, iso(datetime.now(UTC)), archiver_version())
    changed = Hold(hold.recording_sid, hold.account_sid, hold.key, hold.version_id, (*hold.events, event))
    body = to_json(asdict(changed))
    if document is None:
        written = archive.write_once(filed.filing.hold, body).body == body
    else:
        written = archive.replace(document, body)
    if not written:
        raise TemporaryError("hold_contended", "somebody else is changing the same hold; try again")
    return changed
