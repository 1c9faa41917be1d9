"""In which state of the audit a recording is: a pure function of what Twilio and S3 show."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from app.recording import UNFINISHED_STATUSES

# Twilio keeps showing what was deleted for 40 days (https://www.twilio.com/docs/voice/api/recording#delete).
TWILIO_MEMORY: Final = timedelta(days=40)
STUCK_AFTER: Final = timedelta(hours=1)
ENCRYPTION_FAILED: Final = frozenset({16104, 16105, 16106})


class State(StrEnum):
    """How a recording stands. The values are the contract of the reports."""

    OK = "ok"
    KEPT = "kept"
    IN_FLIGHT = "in_flight"
    MISSING = "missing"
    NO_AUDIO = "no_audio"
    FAILED_AT_SOURCE = "failed_at_source"
    STUCK_AT_SOURCE = "stuck_at_source"
    EXPIRED = "expired"
    DELETED_ELSEWHERE = "deleted_elsewhere"
    LOST = "lost"
    MISMATCH = "mismatch"
    EXTERNALLY_STORED = "externally_stored"
    QUARANTINED = "quarantined"
    AGED_OUT = "aged_out"


# What calls for a person, or at least for a look; the rest is as it should be.
DISCREPANCIES: Final = frozenset(
    {State.MISSING, State.STUCK_AT_SOURCE, State.LOST, State.MISMATCH, State.QUARANTINED, State.DELETED_ELSEWHERE}
)


@dataclass(slots=True)
class Source:
    """What Twilio's list, with what is soft-deleted, says of a recording.

    `changed` is the latest moment at which something is known to have happened to it.
    """

    status: str
    error_code: int | None
    stored_externally: bool
    changed: datetime


@dataclass(slots=True)
class Ledger:
    """What S3's listings say of a recording; `receipt` is when it was written, `retention_over` says that the
    receipt's date is past (only looked up where the media is gone)."""

    media: bool = False
    receipt: datetime | None = None
    request: bool = False
    deletion: bool = False
    absence: bool = False
    quarantine: bool = False
    retention_over: bool = False


def judge(source: Source | None, ledger: Ledger, now: datetime, grace: timedelta) -> tuple[State, str]:
    """Return a recording's state, and why in plain words where it is not as it should be.

    `source` is None where Twilio does not list it at all. `grace`: how long work may be under way.
    """
    if ledger.quarantine:
        return State.QUARANTINED, "its content failed; see the quarantine document"
    if ledger.receipt is not None and not ledger.media:
        if ledger.retention_over:
            return State.EXPIRED, "its retention ended and the media was removed"
        return State.MISMATCH, "there is a receipt, and the media it proves is not in the bucket"
    if source is None:
        return _without_source(ledger, now)
    if source.status == "deleted":
        return _deleted(source, ledger, now, grace)
    if ledger.deletion:
        return State.MISMATCH, "the archive says that the source is gone, and Twilio still has it"
    fresh = now < source.changed + grace
    if source.status == "completed":
        return _completed(source, ledger, fresh)
    if source.status in ("absent", "failed"):
        if ledger.receipt is not None:
            return State.MISMATCH, "archived, and Twilio says that there is no audio"
        failed = source.status == "failed" or source.error_code in ENCRYPTION_FAILED
        return (State.FAILED_AT_SOURCE if failed else State.NO_AUDIO), f"error code {source.error_code or 'none'}"
    if source.status in ("in-progress", "paused") or now < source.changed + STUCK_AFTER:
        return State.IN_FLIGHT, ""
    if source.status in UNFINISHED_STATUSES:
        return State.STUCK_AT_SOURCE, f"{source.status} at Twilio for over an hour"
    return State.STUCK_AT_SOURCE, "in a status that is not documented"


def _completed(source: Source, ledger: Ledger, fresh: bool) -> tuple[State, str]:
    if source.stored_externally and ledger.receipt is None:
        return State.EXTERNALLY_STORED, "Twilio wrote the media to the account's own storage"
    if ledger.receipt is not None:
        return State.KEPT, ""
    if fresh:
        return State.IN_FLIGHT, ""
    if ledger.media:
        return State.MISSING, "the media is in the bucket and not yet proven by a receipt"
    return State.MISSING, "completed at Twilio and not archived"


def _deleted(source: Source, ledger: Ledger, now: datetime, grace: timedelta) -> tuple[State, str]:
    if ledger.receipt is None:
        return State.LOST, "deleted at Twilio and never archived"
    if ledger.deletion:
        return State.OK, ""
    if ledger.request:
        if now < source.changed + grace:
            return State.IN_FLIGHT, ""
        return State.MISSING, "deleted as requested, and the deletion receipt is not written yet"
    return State.DELETED_ELSEWHERE, "archived, and deleted at Twilio by somebody else"


def _without_source(ledger: Ledger, now: datetime) -> tuple[State, str]:
    if ledger.receipt is not None:
        if ledger.deletion or now >= ledger.receipt + TWILIO_MEMORY:
            return State.AGED_OUT, ""
        return State.DELETED_ELSEWHERE, "archived, and Twilio no longer lists it"
    if ledger.absence:
        return State.NO_AUDIO, ""
    return State.MISMATCH, "something is filed that neither a receipt nor Twilio explains"
