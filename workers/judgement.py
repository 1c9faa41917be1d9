"""In which state of the audit a recording is: a pure function of what Twilio and S3 show."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from app.receipt import ERROR_EXPLANATIONS
from app.recording import UNFINISHED_STATUSES

# Twilio keeps showing what was deleted for 40 days (https://www.twilio.com/docs/voice/api/recording#delete).
TWILIO_MEMORY: Final = timedelta(days=40)
STUCK_AFTER: Final = timedelta(hours=1)
OVERDUE_AFTER: Final = timedelta(days=1)  # a sweep without a date bound comes once a day
# There was audio, and Twilio lost it: encryption or the account's external storage failed.
FAILED_AT_SOURCE_CODES: Final = frozenset({16104, 16105, 16106, 16111, 16112})


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


WITHOUT_AUDIO: Final = frozenset({State.NO_AUDIO, State.FAILED_AT_SOURCE, State.EXTERNALLY_STORED})


class Verdict(NamedTuple):
    """A recording's state, and why in plain words where there is something to say.

    `wrong`: a discrepancy, which calls for a look. `unfinished`: work of ours is left, which a worker would do.
    """

    state: State
    why: str = ""
    wrong: bool = False
    unfinished: bool = False


_OK: Final = Verdict(State.OK)


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
    """What S3's listings say of a recording.

    `media` counts its objects; `receipt` and `deletion` are when those documents were written, `touched` when
    the last of them was. `retention_over` says that the receipt's date is past (only looked up where the media is
    gone), `held` that it is under a legal hold.
    """

    media: int = 0
    receipt: datetime | None = None
    request: bool = False
    deletion: datetime | None = None
    absence: bool = False
    quarantine: bool = False
    touched: datetime | None = None
    retention_over: bool = False
    held: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings ask, and when the audit began (before it read anything).

    `grace`: how long work may be under way. `delete_after`: the delay from archival, None for never.
    """

    began: datetime
    grace: timedelta
    delete_after: timedelta | None
    deletions_paused: bool = False


def judge(source: Source | None, ledger: Ledger, rules: Rules) -> Verdict:
    """Return the one state of a recording. `source` is None where Twilio does not list it at all.

    Twilio's list must be read before S3's listings, so that S3 shows whatever led to what Twilio said.
    """
    if ledger.receipt is not None:
        return _archived(source, ledger, ledger.receipt, rules)
    if source is None:
        return _unexplained(ledger, rules)
    if source.status == "deleted":
        return _deleted_without_receipt(source, ledger)
    return _not_archived(source, ledger, rules)


def _archived(source: Source | None, ledger: Ledger, archived_at: datetime, rules: Rules) -> Verdict:
    if ledger.quarantine:
        return _quarantined(ledger)
    if ledger.media == 0:
        if ledger.retention_over:
            return Verdict(State.EXPIRED, "its retention ended and the media was removed")
        return _mismatch("there is a receipt, and the media that it proves is not in the bucket")
    if ledger.media > 1:
        return _mismatch("there is more than one media object")
    if ledger.absence:
        return _mismatch("there are both a receipt and the proof of an absence")
    if source is None:
        return _gone_from_the_list(ledger, archived_at, rules)
    if source.status == "deleted":
        if ledger.deletion:
            return _OK
        if ledger.request:
            why = (
                "" if _is_fresh(source, rules) else "deleted as requested; the deletion receipt is still to be written"
            )
            return Verdict(State.OK, why, unfinished=bool(why))
        return Verdict(State.DELETED_ELSEWHERE, "archived, and deleted at Twilio by somebody else", wrong=True)
    if source.status == "completed":
        if ledger.deletion is None:
            return _kept(ledger, archived_at, rules)
        if ledger.deletion >= rules.began - rules.grace:
            return Verdict(State.IN_FLIGHT)  # deleted while the audit ran, or not yet shown in Twilio's list
        return _mismatch("a deletion receipt says that the source is gone, and Twilio still has it")
    if source.status in ("absent", "failed"):
        return _mismatch("archived, and Twilio says that there is no audio")
    return _unfinished_at_source(source, rules)


def _kept(ledger: Ledger, archived_at: datetime, rules: Rules) -> Verdict:
    if rules.delete_after is None or rules.began < archived_at + rules.delete_after:
        return Verdict(State.KEPT)
    if rules.deletions_paused:
        return Verdict(State.KEPT, "its deletion is due, and deletions are paused")
    if ledger.held:
        return Verdict(State.KEPT, "its deletion is due, and a legal hold keeps it")
    if rules.began < archived_at + rules.delete_after + OVERDUE_AFTER:
        return Verdict(State.KEPT, unfinished=True)
    return Verdict(State.KEPT, "its deletion has been due for over a day", wrong=True, unfinished=True)


def _gone_from_the_list(ledger: Ledger, archived_at: datetime, rules: Rules) -> Verdict:
    if ledger.touched and ledger.touched >= rules.began:
        return Verdict(State.IN_FLIGHT)  # it came after Twilio's list was read
    if ledger.deletion or ledger.request or rules.began >= archived_at + TWILIO_MEMORY:
        return Verdict(State.AGED_OUT)
    if _was_touched(ledger, rules):
        return Verdict(State.IN_FLIGHT)
    return Verdict(State.DELETED_ELSEWHERE, "archived, and Twilio no longer lists it", wrong=True)


def _unexplained(ledger: Ledger, rules: Rules) -> Verdict:
    """Judge what is in S3 without a receipt and not at Twilio."""
    if ledger.absence:
        return Verdict(State.NO_AUDIO, "documented without audio; Twilio no longer lists it")
    if _was_touched(ledger, rules):
        return Verdict(State.IN_FLIGHT)
    if ledger.quarantine:
        return _quarantined(ledger)
    if ledger.deletion or ledger.request:
        return _mismatch("its deletion is documented, and its receipt is not in the bucket")
    return _mismatch("there is media in the bucket that neither a receipt nor Twilio explains")


def _deleted_without_receipt(source: Source, ledger: Ledger) -> Verdict:
    if source.stored_externally:
        return _external()
    if ledger.absence:
        return Verdict(State.NO_AUDIO, _no_audio(source))
    if ledger.media and (ledger.deletion or ledger.request):
        return _mismatch("archived and deleted as documented, and its receipt is not in the bucket")
    if ledger.deletion or ledger.request:
        why = "deleted at Twilio as documented, and neither media nor receipt is in the bucket"
    elif ledger.media:
        why = "deleted at Twilio before its media in the bucket was verified"
    else:
        why = "deleted at Twilio before it was archived"
    return Verdict(State.LOST, why, wrong=True)


def _not_archived(source: Source, ledger: Ledger, rules: Rules) -> Verdict:
    if ledger.quarantine:
        return _quarantined(ledger)
    if source.status == "completed":
        if source.stored_externally:
            return _external(unfinished=not ledger.absence and not _is_fresh(source, rules))
        if _is_fresh(source, rules):
            return Verdict(State.IN_FLIGHT)
        why = "completed at Twilio and not archived"
        if ledger.media:
            why = "completed at Twilio; its media is in the bucket and not yet proven by a receipt"
        elif ledger.absence:
            why = "completed at Twilio, and documented as without audio"
        return Verdict(State.MISSING, why, wrong=True, unfinished=True)
    if source.status in ("absent", "failed"):
        if ledger.media:
            return _mismatch("there is media in the bucket, and Twilio says that there is no audio")
        failed = source.status == "failed" or source.error_code in FAILED_AT_SOURCE_CODES
        undocumented = not ledger.absence and not _is_fresh(source, rules)
        state = State.FAILED_AT_SOURCE if failed else State.NO_AUDIO
        return Verdict(state, _no_audio(source), unfinished=undocumented)
    return _unfinished_at_source(source, rules)


def _unfinished_at_source(source: Source, rules: Rules) -> Verdict:
    if source.status in ("in-progress", "paused") or rules.began < source.changed + STUCK_AFTER:
        return Verdict(State.IN_FLIGHT)
    if source.status in UNFINISHED_STATUSES:
        return Verdict(State.STUCK_AT_SOURCE, f"{source.status} at Twilio for over an hour", wrong=True)
    return Verdict(State.STUCK_AT_SOURCE, "in a status that Twilio does not document", wrong=True)


def _is_fresh(source: Source, rules: Rules) -> bool:
    return rules.began < source.changed + rules.grace


def _was_touched(ledger: Ledger, rules: Rules) -> bool:
    return ledger.touched is not None and ledger.touched >= rules.began - rules.grace


def _no_audio(source: Source) -> str:
    if not source.error_code:
        return "Twilio gave no reason"
    explanation = ERROR_EXPLANATIONS.get(source.error_code, "Twilio's error code says why")
    return f"{explanation} ({source.error_code})"


def _quarantined(ledger: Ledger) -> Verdict:
    why = "its content failed verification; its quarantine document says how"
    settled = ledger.receipt is not None or ledger.absence
    if settled:  # and S3 refused to remove the quarantine, or a worker died before: a worker checks it once more
        why = f"{'archived' if ledger.receipt else 'documented as without audio'}, and not yet released from quarantine"
    return Verdict(State.QUARANTINED, why, wrong=True, unfinished=settled)


def _external(*, unfinished: bool = False) -> Verdict:
    return Verdict(State.EXTERNALLY_STORED, "Twilio wrote it to the account's own storage", unfinished=unfinished)


def _mismatch(why: str) -> Verdict:
    return Verdict(State.MISMATCH, why, wrong=True)
