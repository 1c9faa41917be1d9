"""What to do next for a recording: a pure function of what is seen at Twilio and in S3."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from app.receipt import Receipt, parse_iso
from app.recording import Recording


class Step(Enum):
    """The next thing to do; each value is a static name for logs."""

    ARCHIVE = "archive"
    DELETE = "delete"
    RECORD_ABSENCE = "record_absence"
    RESOLVE = "resolve"
    WAIT = "wait"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of one recording.

    `recording` is Twilio's word, also of a soft-deleted one; None is its 404. `callback_status` is only a hint, and
    None where the sweep found the recording. `delete_after` is the delay from archival; None means never.
    `was_seen`: Twilio has shown it complete before, and an attempt to archive it has begun.
    `in_quarantine`: the content failed before; `rests`: so often that it is left to a person and one try a day.
    """

    recording: Recording | None
    stored_externally: bool
    callback_status: str | None
    receipt: Receipt | None
    delete_after: timedelta | None
    now: datetime
    was_seen: bool = False
    in_quarantine: bool = False
    rests: bool = False


def next_step(observed: Observed) -> Step:
    """Decide what to do next. Twilio's REST answer is the truth; a callback alone decides nothing."""
    recording, receipt = observed.recording, observed.receipt
    if observed.rests:
        return Step.NOTHING
    if receipt is not None and observed.in_quarantine:
        return Step.RESOLVE  # archived since, by a twin or before a crash: if all agrees, nothing is wrong any more
    if recording is None:
        if receipt is not None:
            return Step.NOTHING  # archived, and beyond the days that Twilio shows what was deleted
        # An absence needs REST's word or its 404 beside the callback's, and that REST never said otherwise.
        says_absent = observed.callback_status in ("absent", "failed")
        return Step.RECORD_ABSENCE if says_absent and not observed.was_seen else Step.WAIT
    if recording.status in ("completed", "deleted") and receipt is not None:
        # Also when Twilio says deleted: the proof of the deletion may be missing still.
        return Step.DELETE if deletion_is_due(receipt, observed.delete_after, observed.now) else Step.NOTHING
    if recording.status == "completed":
        return Step.RECORD_ABSENCE if observed.stored_externally else Step.ARCHIVE
    if recording.status in ("absent", "failed"):
        return Step.RECORD_ABSENCE if receipt is None else Step.NOTHING
    if recording.status == "deleted":
        return Step.NOTHING  # deleted before it was archived: the audit reports it as lost
    return Step.WAIT  # unfinished, or a status that Twilio has not documented yet


def deletion_is_due(receipt: Receipt, delete_after: timedelta | None, now: datetime) -> bool:
    """Tell whether the settings allow to delete the source of an archived recording at `now`."""
    return delete_after is not None and now >= parse_iso(receipt.archived_at) + delete_after
