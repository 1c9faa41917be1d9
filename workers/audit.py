"""Compare Twilio's list, with what is soft-deleted, with what is in S3: every recording ends in exactly one state.

One day of one account at a time, newest first: a page of Twilio's list, a page of an S3 listing and the SIDs of a day
are all that is in memory.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

import structlog

from app.queue import ARCHIVE_QUEUE, ARCHIVE_TASK, Publisher, QueueUnavailableError
from app.receipt import DELETIONS_PAUSED, Filing
from app.recording import is_sid
from app.settings import WorkerSettings
from workers.archive import Archive
from workers.errors import ArchiverError, ConfigurationError, ContentError, ForbiddenDeletionError, NotRestoredError
from workers.hints import Hints
from workers.holds import Hold
from workers.judgement import WITHOUT_AUDIO, Ledger, Rules, Source, State, Verdict, judge
from workers.ledgers import read_day, read_holds, read_undated
from workers.sweep import MAX_QUEUE_DEPTH
from workers.twilio_api import ListedRecording, TwilioApi
from workers.verification import read_receipt, verify_receipt

_ONE_DAY: Final = timedelta(days=1)
# A day is over when so many older recordings have come: around midnight the list need not be in strict order.
_DISORDER: Final = 1000
_MESSAGE_LIFE_S: Final = 15 * 60.0  # a message that waited longer is dropped: a sweep or audit finds it again

log = structlog.get_logger()


class Finding(NamedTuple):
    """The state of one recording and why. `read`: its bytes were read again and are those of the receipt.

    `day` is None for a recording that is only known from a document filed without a day.
    """

    account_sid: str
    recording_sid: str
    day: date | None
    verdict: Verdict
    read: bool = False


@dataclass(slots=True)
class DayAudit:
    """One day of one account.

    `expected` recordings should have audio in the archive, `archived` have media there, `verified` a receipt too;
    `gone` from Twilio are those of them that it no longer has, `read` were read and hashed again. With `unread`, this
    day of the account and those before it could not be read, and why.
    """

    account_sid: str
    day: date | None
    findings: list[Finding] = field(default_factory=list)
    expected: int = 0
    archived: int = 0
    verified: int = 0
    gone: int = 0
    read: int = 0
    foreign: int = 0
    unread: ArchiverError | None = None

    @property
    def states(self) -> Counter[State]:
        """How many recordings are in each state."""
        return Counter(finding.verdict.state for finding in self.findings)

    def add(self, finding: Finding, source: Source | None, ledger: Ledger) -> None:
        """Count one recording."""
        self.findings.append(finding)
        expected = finding.verdict.state not in WITHOUT_AUDIO
        self.expected += expected
        self.archived += ledger.media > 0
        self.verified += ledger.media > 0 and ledger.receipt is not None
        self.gone += expected and (source is None or source.status == "deleted")
        self.read += finding.read


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit, with the two sides that it reads. `read_share` (0 to 1) of the media is read and hashed again."""

    settings: WorkerSettings
    twilio: TwilioApi
    archive: Archive
    read_share: float = 0.0

    def run(self, since: date, until: date, account_sids: list[str] | None = None) -> Iterator[DayAudit]:
        """Yield every day of every account from `until` back to `since` (UTC days, inclusive).

        What is filed without a day comes last. An account that can't be read ends with a day that says so, and does
        not keep the others from being audited.
        """
        for account_sid in account_sids or self.settings.accounts:
            day: date | None = until
            try:
                for audited in self._account(account_sid, since, until):
                    yield audited
                    day = audited.day - _ONE_DAY if audited.day else None
            except ArchiverError as error:
                yield DayAudit(account_sid, day, unread=error)

    def _account(self, account_sid: str, since: date, until: date) -> Iterator[DayAudit]:
        paused = self.archive.head(self.archive.prefix + DELETIONS_PAUSED) is not None
        rules = Rules(datetime.now(UTC), self.settings.SWEEP_GRACE, self.settings.TWILIO_DELETE, paused)
        with_holds = read_holds(self.archive, account_sid)
        undated = read_undated(self.archive, account_sid)
        for day, listed in self._days(account_sid, since, until):
            sources = {recording.sid: recording.source for recording in listed}
            ledgers, foreign = read_day(self.archive, account_sid, day)
            for sid in with_holds & ledgers.keys():
                ledgers[sid].held = self._is_held(account_sid, sid)
            for sid in undated.keys() & (sources.keys() | ledgers.keys()):
                # A failure before the day was known; an absence that Twilio did not know then says nothing any more.
                ledger = ledgers.setdefault(sid, Ledger())
                ledger.quarantine |= undated.pop(sid).quarantine
            yield self._judge_all(account_sid, day, sources, ledgers, rules, foreign)
        if undated := _written_between(undated, since, until):
            yield self._judge_all(account_sid, None, {}, undated, rules)

    def _days(self, account_sid: str, since: date, until: date) -> Iterator[tuple[date, list[ListedRecording]]]:
        """Yield each day with what Twilio lists of it; also days of which it lists nothing any more."""
        by_day: dict[date, list[ListedRecording]] = {}
        day, older = until, 0
        for recording in self.twilio.listed(account_sid, since, until):
            if recording.day > day:
                raise ContentError("list_out_of_order", "Twilio's list is not newest first")
            by_day.setdefault(recording.day, []).append(recording)
            older += recording.day < day
            while older > _DISORDER:
                yield day, by_day.pop(day, [])
                day -= _ONE_DAY
                older -= len(by_day.get(day, ()))
        while day >= since:
            yield day, by_day.pop(day, [])
            day -= _ONE_DAY

    def _judge_all(
        self,
        account_sid: str,
        day: date | None,
        sources: dict[str, Source],
        ledgers: dict[str, Ledger],
        rules: Rules,
        foreign: int = 0,
    ) -> DayAudit:
        audited = DayAudit(account_sid, day, foreign=foreign)
        nothing = Ledger()
        for sid in sorted(sources.keys() | ledgers.keys()):
            ledger, source = ledgers.get(sid, nothing), sources.get(sid)
            if ledger.receipt and not ledger.media:
                ledger.retention_over = self._retention_is_over(account_sid, sid, day, rules.began)
            verdict, read = judge(source, ledger, rules), False
            if ledger.receipt and ledger.media and self.is_sampled(sid, rules.began):
                read, fault = self._read_again(account_sid, sid, day)
                verdict = Verdict(State.MISMATCH, fault, wrong=True) if fault else verdict
            audited.add(Finding(account_sid, sid, day, verdict, read), source, ledger)
        return audited

    def _is_held(self, account_sid: str, sid: str) -> bool:
        document = self.archive.read(Filing(self.archive.prefix, account_sid, sid, None).hold)
        try:
            return document is not None and Hold.from_json(document.body).placed is not None
        except ValueError:
            return False

    def _retention_is_over(self, account_sid: str, sid: str, day: date | None, now: datetime) -> bool:
        try:
            filed = read_receipt(self.archive, Filing(self.archive.prefix, account_sid, sid, day))
        except ContentError:
            return False
        return filed is not None and filed.receipt.storage.is_over(now)

    def is_sampled(self, sid: str, now: datetime) -> bool:
        """Choose by SID and date: every day another share, and after 1 / `read_share` days all have been read."""
        if self.read_share <= 0:
            return False
        place = int.from_bytes(hashlib.sha256(sid.encode()).digest()[:8], "big") / 2**64
        start = (now.date().toordinal() * self.read_share) % 1
        return (place - start) % 1 < self.read_share

    def _read_again(self, account_sid: str, sid: str, day: date | None) -> tuple[bool, str]:
        """Compare the media's bytes with its receipt; return whether they were read, and what is wrong if anything."""
        try:
            filed = read_receipt(self.archive, Filing(self.archive.prefix, account_sid, sid, day))
            if filed is None:
                return False, "its receipt vanished during the audit"
            verify_receipt(self.archive, filed)
            media = filed.receipt.media
            if self.archive.digest(media.key, media.version_id) != media.sha256:
                return True, "the bytes in the bucket are not those of the receipt"
        except NotRestoredError:
            return False, ""  # S3's own description agrees, and an archive tier is not read before it is restored
        except (ContentError, ForbiddenDeletionError) as error:
            return False, error.detail or error.reason
        except ConfigurationError as error:
            if error.reason != "store_without_checksums":
                raise
            return False, "S3 holds no checksum of the media, and the receipt states one"
        return True, ""


def _written_between(undated: dict[str, Ledger], since: date, until: date) -> dict[str, Ledger]:
    return {
        sid: ledger
        for sid, ledger in undated.items()
        if ledger.touched is not None and since <= ledger.touched.date() <= until and is_sid(sid, "RE")
    }


class Enqueuer:
    """Enqueues what an audit found unfinished as a sweep would: up to a fixed queue depth, with expiring messages."""

    def __init__(self, publisher: Publisher, hints: Hints) -> None:
        self._publisher = publisher
        self._room = MAX_QUEUE_DEPTH - hints.queue_depth(ARCHIVE_QUEUE)
        self.enqueued = 0

    def enqueue(self, audited: DayAudit) -> None:
        """Enqueue a day's unfinished recordings; what the queue does not take is left to the sweep."""
        for finding in audited.findings:
            if not finding.verdict.unfinished:
                continue
            if self.enqueued >= self._room:
                return
            try:
                self._publisher.publish(
                    ARCHIVE_TASK,
                    expires_s=_MESSAGE_LIFE_S,
                    account_sid=finding.account_sid,
                    recording_sid=finding.recording_sid,
                )
            except QueueUnavailableError as error:
                log.warning("unfinished_not_enqueued", detail=str(error))
                self._room = 0
                return
            self.enqueued += 1
