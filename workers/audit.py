"""Compare Twilio's list, with what is soft-deleted, with what is in S3: every recording ends in exactly one state.

One day of one account at a time, newest first: a page of Twilio's list, a page of each S3 listing and the SIDs of a day
are all that is in memory.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import structlog

from app.queue import ARCHIVE_TASK, Publisher, QueueUnavailableError
from app.receipt import Filing, day_prefix, parse_iso
from app.settings import WorkerSettings
from workers.archive import Archive
from workers.errors import ContentError
from workers.judgement import Ledger, State, judge
from workers.twilio_api import ListedRecording, TwilioApi
from workers.verification import read_receipt, verify_receipt

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one recording, and why where it is not as it should be. `read`: its bytes were read again."""

    account_sid: str
    recording_sid: str
    day: date
    state: State
    why: str
    read: bool = False


@dataclass(slots=True)
class DayAudit:
    """One day of one account. `archived` counts media in the bucket, `proven` those with a receipt."""

    account_sid: str
    day: date
    findings: list[Finding] = field(default_factory=list)
    expected: int = 0
    archived: int = 0
    proven: int = 0
    gone: int = 0
    read: int = 0

    @property
    def states(self) -> Counter[State]:
        """How many recordings are in each state."""
        return Counter(finding.state for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit, with the two sides that it reads. `read_share` (0 to 1) of the media is read and hashed again."""

    settings: WorkerSettings
    twilio: TwilioApi
    archive: Archive
    read_share: float = 0.0

    def run(self, since: date, until: date) -> Iterator[DayAudit]:
        """Yield every day of every account from `until` back to `since` (UTC days, inclusive).

        Raises `ArchiverError` when a side can't be read: an audit that saw only a part must not look complete.
        """
        now = datetime.now(UTC)
        for account_sid in self.settings.accounts:
            for day, listed in self._days(account_sid, since, until):
                yield self._audit_day(account_sid, day, listed, now)

    def _days(self, account_sid: str, since: date, until: date) -> Iterator[tuple[date, list[ListedRecording]]]:
        """Yield each day with what Twilio lists of it; also days of which it lists nothing any more."""
        day: date = until
        of_day: list[ListedRecording] = []
        for recording in self.twilio.listed(account_sid, since, until):
            while recording.day < day:
                yield day, of_day
                day, of_day = day - timedelta(days=1), []
            of_day.append(recording)
        while day >= since:
            yield day, of_day
            day, of_day = day - timedelta(days=1), []

    def _audit_day(self, account_sid: str, day: date, listed: list[ListedRecording], now: datetime) -> DayAudit:
        ledgers = self._ledgers(account_sid, day)
        sources = {recording.sid: recording.source for recording in listed}
        audited = DayAudit(account_sid, day)
        grace = max(self.settings.SWEEP_GRACE, timedelta(minutes=15))
        for sid in sources.keys() | ledgers.keys():
            ledger, source = ledgers.get(sid) or Ledger(), sources.get(sid)
            if ledger.receipt is not None and not ledger.media:
                ledger.retention_over = self._retention_is_over(account_sid, sid, day, now)
            state, why = judge(source, ledger, now, grace)
            read = False
            if ledger.receipt is not None and ledger.media and self._is_sampled(sid, now):
                read, fault = True, self._read_again(account_sid, sid, day)
                state, why = (State.MISMATCH, fault) if fault else (state, why)
            audited.findings.append(Finding(account_sid, sid, day, state, why, read))
            audited.expected += state not in (State.NO_AUDIO, State.FAILED_AT_SOURCE, State.EXTERNALLY_STORED)
            audited.archived += ledger.media
            audited.proven += ledger.receipt is not None
            audited.gone += ledger.deletion
            audited.read += read
        audited.findings.sort(key=lambda finding: finding.recording_sid)
        return audited

    def _ledgers(self, account_sid: str, day: date) -> dict[str, Ledger]:
        """Read the day's listings of S3: five prefixes, 1,000 keys a request."""
        ledgers: dict[str, Ledger] = {}
        for collection in ("recordings", "receipts", "deletions", "absences", "quarantine"):
            prefix = day_prefix(self.settings.ARCHIVE_PREFIX, collection, account_sid, day)
            for key, written in self.archive.listing(prefix):
                sid, _, rest = key[len(prefix) :].partition(".")
                ledger = ledgers.get(sid)
                if ledger is None:
                    ledger = ledgers[sid] = Ledger()
                if collection == "recordings":
                    ledger.media = True
                elif collection == "receipts":
                    ledger.receipt = written
                elif collection == "deletions":
                    ledger.request, ledger.deletion = (
                        ledger.request or rest != "json",
                        ledger.deletion or rest == "json",
                    )
                elif collection == "absences":
                    ledger.absence = True
                else:
                    ledger.quarantine = True
        return ledgers

    def _retention_is_over(self, account_sid: str, sid: str, day: date, now: datetime) -> bool:
        try:
            filed = read_receipt(self.archive, Filing(self.settings.ARCHIVE_PREFIX, account_sid, sid, day))
        except ContentError:
            return False
        until = filed.receipt.storage.retain_until if filed else None
        return until is not None and parse_iso(until) <= now

    def _is_sampled(self, sid: str, now: datetime) -> bool:
        """Choose by SID and date: every day another share, and after 1 / `read_share` days all have been read."""
        if self.read_share <= 0:
            return False
        place = int.from_bytes(hashlib.sha256(sid.encode()).digest()[:8], "big") / 2**64
        start = (now.date().toordinal() * self.read_share) % 1
        return (place - start) % 1 < self.read_share

    def _read_again(self, account_sid: str, sid: str, day: date) -> str:
        """Read the media again and compare it with its receipt; return what is wrong, or an empty string."""
        filing = Filing(self.settings.ARCHIVE_PREFIX, account_sid, sid, day)
        try:
            filed = read_receipt(self.archive, filing)
            if filed is None:
                return "its receipt vanished during the audit"
            verify_receipt(self.archive, filed)
            if (
                self.archive.digest(filed.receipt.media.key, filed.receipt.media.version_id)
                != filed.receipt.media.sha256
            ):
                return "the bytes in the bucket are not those of the receipt"
        except ContentError as error:
            return error.detail or error.reason
        return ""


def enqueue_missing(audited: DayAudit, publisher: Publisher) -> int:
    """Enqueue what an audit found missing or unfinished, as a sweep would; return how many."""
    enqueued = 0
    for finding in audited.findings:
        if finding.state is not State.MISSING:
            continue
        try:
            publisher.publish(ARCHIVE_TASK, account_sid=finding.account_sid, recording_sid=finding.recording_sid)
        except QueueUnavailableError as error:
            log.warning("missing_not_enqueued", detail=str(error))
            break
        enqueued += 1
    return enqueued


def alert_lost(audited: DayAudit) -> None:
    """Call for a person for every recording that was deleted at Twilio and never archived."""
    for finding in audited.findings:
        if finding.state is State.LOST:
            log.error("recording_lost", account_sid=finding.account_sid, recording_sid=finding.recording_sid)
