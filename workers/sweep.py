"""Find at Twilio what is not finished, and enqueue it.

Callbacks make it fast, the sweep makes it certain. A frequent pass looks back a little; once a day another one looks
at everything that Twilio still lists. Neither fills the queue beyond a fixed depth: what is left has its turn in a
later pass, and nothing, however much of it fails again and again, keeps anything else from having its turn.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from app.board import DELETIONS, FULL_SWEEP, SWEEP
from app.queue import ARCHIVE_QUEUE, ARCHIVE_TASK, Publisher
from app.receipt import DELETIONS_PAUSED
from app.recording import Recording
from app.settings import WorkerSettings
from workers.archive import Archive
from workers.errors import ArchiverError
from workers.hints import Hints
from workers.outstanding import Outstanding, Rules
from workers.twilio_api import TwilioApi

MAX_QUEUE_DEPTH: Final = 1000
CHORE: Final = "sweep"  # under which a frequent pass that came to its end is remembered, for a day
DAY_S: Final = 24 * 60 * 60
_RETRY_S: Final = 60 * 60  # when an account's list can't be read to its end, that is tried again an hour later
_MESSAGE_LIFE_S: Final = 15 * 60.0  # a message that waited longer is dropped: a later sweep finds the recording again

log = structlog.get_logger()

OnFailure = Callable[[str, ArchiverError], object]


def _said_already(_account_sid: str, _error: ArchiverError) -> None:
    """Leave a failure at its line in the log."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """The sweep, with what it reads and where it enqueues."""

    settings: WorkerSettings
    twilio: TwilioApi
    archive: Archive
    publisher: Publisher
    hints: Hints

    def run(self, *, everything: bool | None = None, on_failure: OnFailure = _said_already) -> int:
        """Sweep every account and return how many recordings were enqueued.

        `everything`: without a date bound and without relying on hints; by default also, for the accounts for which
        that was not done within a day. One account's failure does not keep the others from being swept;
        `on_failure` is told of it. Raises `QueueUnavailableError`.
        """
        due = [sid for sid in self.settings.accounts if everything or (everything is None and self._is_due(sid))]
        enqueued = 0
        if everything is not True:
            # Half of what the queue takes is left to the old, if they have their day.
            share = 0.5 if due else 1.0
            enqueued += self._sweep(list(self.settings.accounts), on_failure, everything=False, share=share)
        if due:
            enqueued += self._sweep(due, on_failure, everything=True)
            self._keep_house()
        return enqueued

    def outstanding(self, on_failure: OnFailure = _said_already) -> int:
        """Count what a frequent pass would enqueue if the queue had room for all, and change nothing."""
        rules, count = self._rules(everything=False), 0
        for account_sid in self.settings.accounts:
            account = Outstanding(self.twilio, self.archive, self.hints, account_sid, rules)
            try:
                count += sum(1 for _ in account.recordings())
            except ArchiverError as error:
                on_failure(account_sid, error)
        return count

    def _sweep(
        self, account_sids: Sequence[str], on_failure: OnFailure, *, everything: bool, share: float = 1.0
    ) -> int:
        """Enqueue what is outstanding in some accounts; each may use an even part of what is left of the queue."""
        with self.hints.lease("sweep-everything" if everything else "sweep") as free:
            if not free:
                log.info("sweep_skipped", reason="another sweep is running", everything=everything)
                return 0
            rules = self._rules(everything)
            room, enqueued = int(share * (MAX_QUEUE_DEPTH - self.hints.queue_depth(ARCHIVE_QUEUE))), 0
            failed = 0
            if not everything:  # whatever Redis says, most of the room is for what Twilio lists
                enqueued += self._finish_deletions(room // 4)
            # In no order: a short queue must not be for the same accounts every time.
            for left, account_sid in reversed(list(enumerate(_shuffled(account_sids), start=1))):
                part = max(0, -(-(room - enqueued) // left))
                try:
                    for recording in self._turn(account_sid, rules, part):
                        self._enqueue(recording.account_sid, recording.sid)
                        enqueued += 1
                except ArchiverError as error:
                    failed += 1
                    on_failure(account_sid, error)
                    log.warning("sweep_failed", account_sid=account_sid, reason=error.reason, detail=error.detail)
                    if everything:
                        self.hints.remember_done(_chore(account_sid), _RETRY_S)
            if not everything:
                self.hints.remember_done(CHORE, DAY_S)
            log.info("sweep_finished", enqueued=enqueued, failed=failed, everything=everything)
            if not failed:
                self.hints.board.post(FULL_SWEEP if everything else SWEEP, enqueued=enqueued)
            return enqueued

    def _finish_deletions(self, room: int) -> int:
        """Enqueue the deletions that somebody has begun and not ended: Twilio may not list their recordings any more.

        Their messages come back, too, but after an hour; and should Redis forget this, the daily audit finds them.
        """
        begun = self.hints.unfinished_deletions(self.settings.SWEEP_GRACE.total_seconds(), room)
        ours = [
            (account_sid, recording_sid)
            for account_sid, recording_sid in begun
            if account_sid in self.settings.accounts
        ]
        for account_sid, recording_sid in ours:
            self._enqueue(account_sid, recording_sid)
        return len(ours)

    def _turn(self, account_sid: str, rules: Rules, room: int) -> Iterator[Recording]:
        """Yield up to `room` recordings of an account, those whose turn it is.

        When not all have room, the next pass goes on where this one ended; a frequent one gives half of its room to
        the newest before.
        """
        work = _chore(account_sid) if rules.everything else f"{CHORE}:{account_sid}"
        position = self.hints.position(work)
        if position and position > rules.now:
            position = None  # no sweep has come there
        newest = room if position is None else 0 if rules.everything else (room + 1) // 2
        account, taken = Outstanding(self.twilio, self.archive, self.hints, account_sid, rules), 0
        for recording in account.recordings(until=position.date() if position and rules.everything else None):
            if position and taken >= newest and recording.date_created > position:
                continue  # had its turn
            if taken >= room:
                log.warning("sweep_queue_full", account_sid=account_sid, depth=MAX_QUEUE_DEPTH)
                self.hints.remember_position(work, recording.date_created)
                return
            yield recording
            taken += 1
        self.hints.remember_position(work, None)
        if rules.everything:
            self.hints.remember_done(work, DAY_S)

    def _enqueue(self, account_sid: str, recording_sid: str) -> None:
        self.publisher.publish(
            ARCHIVE_TASK, expires_s=_MESSAGE_LIFE_S, account_sid=account_sid, recording_sid=recording_sid
        )

    def _rules(self, everything: bool) -> Rules:
        settings, now = self.settings, datetime.now(UTC)
        return Rules(
            now=now,
            since=None if everything else (now - settings.SWEEP_LOOKBACK).date(),
            grace=settings.SWEEP_GRACE,
            delete_after=None if self._deletions_are_paused() else settings.TWILIO_DELETE,
            everything=everything,
        )

    def _deletions_are_paused(self) -> bool:
        """Ask for the stop switch: while it is set, what is archived stays in Twilio's list."""
        if self.settings.TWILIO_DELETE is None:
            return False
        try:
            paused = self.archive.head(self.archive.prefix + DELETIONS_PAUSED) is not None
        except ArchiverError as error:
            log.warning("stop_switch_not_read", reason=error.reason, detail=error.detail)
            return False
        self.hints.board.post(DELETIONS, paused=paused)
        return paused

    def _is_due(self, account_sid: str) -> bool:
        return not self.hints.was_done(_chore(account_sid), DAY_S)

    def _keep_house(self) -> None:
        """Once a day, throw away what dead workers have left, and look for accounts that nobody archives."""
        if self.hints.was_done("housekeeping", DAY_S):
            return
        self._abort_stale_uploads(datetime.now(UTC))
        self._find_strangers()
        self.hints.remember_done("housekeeping", DAY_S)

    def _abort_stale_uploads(self, now: datetime) -> None:
        """Throw away what uploads of dead workers have left: their parts cost money and are visible to nobody."""
        try:
            aborted = self.archive.abort_stale_uploads(now - timedelta(seconds=DAY_S))
        except ArchiverError as error:
            log.warning("stale_uploads_not_aborted", reason=error.reason, detail=error.detail)
        else:
            log.info("stale_uploads_aborted", count=aborted)

    def _find_strangers(self) -> None:
        """Call for a person when Twilio knows active subaccounts that are not configured: nobody archives those."""
        for sid in strangers(self.settings, self.twilio):
            log.error("account_not_configured", stranger_sid=sid, mend="add it to TWILIO_ACCOUNTS")


def strangers(settings: WorkerSettings, twilio: TwilioApi) -> list[str]:
    """Return the active accounts that the configured credentials can see and that are not configured."""
    seen: set[str] = set()
    for account_sid in settings.accounts:
        try:
            seen.update(twilio.subaccounts(account_sid))
        except ArchiverError as error:
            log.info("subaccounts_not_listed", account_sid=account_sid, reason=error.reason)
    return sorted(seen - set(settings.accounts))


def _chore(account_sid: str) -> str:
    """Return under which name a look at everything of an account is remembered."""
    return f"sweep-everything:{account_sid}"


def _shuffled(account_sids: Sequence[str]) -> list[str]:
    return random.sample(account_sids, len(account_sids))  # not a secret, only an order
