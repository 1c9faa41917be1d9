"""Compare Twilio's list with what is done, and enqueue what is not.

Callbacks make it fast, the sweep makes it certain.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import structlog

from app.queue import ARCHIVE_QUEUE, ARCHIVE_TASK, Publisher
from app.receipt import day_prefix
from app.recording import UNFINISHED_STATUSES, Recording
from app.settings import WorkerSettings
from workers.archive import Archive
from workers.errors import ArchiverError
from workers.hints import Hints
from workers.twilio_api import TwilioApi

MAX_QUEUE_DEPTH: Final = 1000
_DAY_S: Final = 24 * 60 * 60
_MESSAGE_LIFE_S: Final = 15 * 60.0  # a message that waited longer is dropped: a later sweep finds the recording again

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sweep:
    """The sweep, with what it reads and where it enqueues."""

    settings: WorkerSettings
    twilio: TwilioApi
    archive: Archive
    publisher: Publisher
    hints: Hints

    def run(self) -> int:
        """Sweep every account within SWEEP_LOOKBACK; return how many recordings were enqueued.

        One account's failure does not keep the others from being swept. Stops when the queue is full: what is left
        is found by the next sweep.
        """
        with self.hints.sweep_lock() as free:
            if not free:
                log.info("sweep_skipped", reason="another sweep is running")
                return 0
            now = datetime.now(UTC)
            room, enqueued = MAX_QUEUE_DEPTH - self.hints.queue_depth(ARCHIVE_QUEUE), 0
            for account_sid in self.settings.accounts:
                try:
                    enqueued += self._sweep_account(account_sid, now, room - enqueued)
                except ArchiverError as error:
                    log.warning("sweep_failed", account_sid=account_sid, reason=error.reason, detail=error.detail)
            log.info("sweep_finished", enqueued=enqueued)
            if self.hints.is_due("stale-uploads", _DAY_S):
                self._abort_stale_uploads(now)
            return enqueued

    def _abort_stale_uploads(self, now: datetime) -> None:
        """Throw away what uploads of dead workers have left: their parts cost money and are visible to nobody."""
        try:
            aborted = self.archive.abort_stale_uploads(now - timedelta(seconds=_DAY_S))
        except ArchiverError as error:
            log.warning("stale_uploads_not_aborted", reason=error.reason, detail=error.detail)
        else:
            log.info("stale_uploads_aborted", count=aborted)

    def _sweep_account(self, account_sid: str, now: datetime, room: int) -> int:
        since = (now - self.settings.SWEEP_LOOKBACK).date()
        finished: dict[date, set[str]] = {}
        enqueued = 0
        for recording in self.twilio.recordings(account_sid, created_from=since):
            if enqueued >= room:
                log.warning("sweep_queue_full", account_sid=account_sid, depth=MAX_QUEUE_DEPTH)
                break
            if recording.status in UNFINISHED_STATUSES or self._is_fresh(recording, now):
                continue
            if recording.day not in finished:
                finished = {
                    recording.day: self._finished(account_sid, recording.day)
                }  # newest first: one day at a time
            if recording.sid in finished[recording.day]:
                continue
            self.publisher.publish(
                ARCHIVE_TASK, expires_s=_MESSAGE_LIFE_S, account_sid=account_sid, recording_sid=recording.sid
            )
            enqueued += 1
        return enqueued

    def _is_fresh(self, recording: Recording, now: datetime) -> bool:
        """Tell whether a callback's work may still be under way: within SWEEP_GRACE of the recording's end."""
        ended = recording.start_time + timedelta(seconds=recording.duration_s or 0)
        return now < max(ended, recording.date_created) + self.settings.SWEEP_GRACE

    def _finished(self, account_sid: str, day: date) -> set[str]:
        """Return the SIDs of a day for which nothing is left to do while they stay in Twilio's list.

        With deletion on, an archived recording that is still listed waits for its deletion; only an absence is final.
        """
        collections = ["absences"] if self.settings.TWILIO_DELETE is not None else ["absences", "receipts"]
        return {
            key.rpartition("/")[2].partition(".")[0]
            for collection in collections
            for key in self.archive.keys(day_prefix(self.settings.ARCHIVE_PREFIX, collection, account_sid, day))
        }
