"""What to do next for a recording: a pure function of what is seen at Twilio and in S3."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from app.receipt import Receipt, parse_iso
from app.recording import UNFINISHED_STATUSES, Recording


class Step(Enum):
    """The next thing to do; each value is a static name for logs."""

    ARCHIVE = "archive"
    DELETE = "delete"
    RECORD_ABSENCE = "record_absence"
    WAIT = "wait"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of one recording.

    `recording` is Twilio's word, also of a soft-deleted one; None is its 404. `callback_status` is only a hint, and
    None where the sweep found the recording. `delete_after` is the delay from archival; None means never.
    """

    recording: Recording | None
    stored_externally: bool
    callback_status: str | None
    receipt: Receipt | None
    delete_after: timedelta | None
    now: datetime


def next_step(observed: Observed) -> Step:
    """Decide what to do next. Twilio's REST answer is the truth; a callback alone decides nothing."""
    recording = observed.recording
    if recording is None:
        # An absence needs REST's word or its 404 beside the callback's.
        return Step.RECORD_ABSENCE if observed.callback_status in ("absent", "failed") else Step.WAIT
    if recording.status in UNFINISHED_STATUSES:
        return Step.WAIT
    if observed.receipt is not None:
        return Step.DELETE if deletion_is_due(observed.receipt, observed.delete_after, observed.now) else Step.NOTHING
    if recording.status == "completed":
        return Step.RECORD_ABSENCE if observed.stored_externally else Step.ARCHIVE
    if recording.status in ("absent", "failed"):
        return Step.RECORD_ABSENCE
    if recording.status == "deleted":
        return Step.NOTHING  # deleted before it was archived: the audit reports it as lost
    return Step.WAIT  # a status that Twilio has not documented yet


def deletion_is_due(receipt: Receipt, delete_after: timedelta | None, now: datetime) -> bool:
    """Tell whether the settings allow to delete the source of an archived recording at `now`."""
    return delete_after is not None and now >= parse_iso(receipt.archived_at) + delete_after
