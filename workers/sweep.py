"""Compare Twilio's list with what is done, and enqueue what is not.

Callbacks make it fast, the sweep makes it certain. A frequent sweep looks back a little; once a day one looks at
everything that Twilio still lists. What it costs is what is outstanding: with deletion on, Twilio's list holds only
what is left to do and what has no audio, so it is compared with hints, and with S3 only once a day. Where archived
recordings stay at Twilio (`never`, or a delay), each day is compared with S3's listing of that day.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
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

    def run(self, *, everything: bool | None = None) -> int:
        """Sweep every account and return how many recordings were enqueued.

        `everything`: without a date bound; by default when the last such sweep is a day ago. One account's failure
        does not keep the others from being swept. Stops when the queue is full: what is left is found by the next
        sweep.
        """
        with self.hints.lease("sweep") as free:
            if not free:
                log.info("sweep_skipped", reason="another sweep is running")
                return 0
            if everything is None:
                everything = self.hints.is_due("sweep-everything", _DAY_S)
            now = datetime.now(UTC)
            room, enqueued = MAX_QUEUE_DEPTH - self.hints.queue_depth(ARCHIVE_QUEUE), 0
            for account_sid in self.settings.accounts:
                try:
                    for recording in self.outstanding(account_sid, now, everything):
                        if enqueued >= room:
                            log.warning("sweep_queue_full", account_sid=account_sid, depth=MAX_QUEUE_DEPTH)
                            break
                        self._enqueue(recording)
                        enqueued += 1
                except ArchiverError as error:
                    log.warning("sweep_failed", account_sid=account_sid, reason=error.reason, detail=error.detail)
            log.info("sweep_finished", enqueued=enqueued, everything=everything)
            if everything:
                self._abort_stale_uploads(now)
                self._find_strangers()
            return enqueued

    def _enqueue(self, recording: Recording) -> None:
        self.publisher.publish(
            ARCHIVE_TASK, expires_s=_MESSAGE_LIFE_S, account_sid=recording.account_sid, recording_sid=recording.sid
        )

    def outstanding(self, account_sid: str, now: datetime, everything: bool) -> Iterator[Recording]:
        """Yield what is not finished, newest first; one day's SIDs are in memory at a time."""
        delete_after = self.settings.TWILIO_DELETE
        since = None if everything else (now - self.settings.SWEEP_LOOKBACK).date()
        listed = (
            recording
            for recording in self.twilio.recordings(account_sid, created_from=since)
            if recording.status not in UNFINISHED_STATUSES and not self._is_fresh(recording, now)
        )
        for day, recordings in groupby(listed, key=lambda recording: recording.day):
            if delete_after == timedelta(0) and not everything:
                yield from self._unless_hinted(recordings)
                continue
            finished = self._finished(account_sid, day, now)
            yield from (recording for recording in recordings if recording.sid not in finished)

    def _unless_hinted(self, recordings: Iterable[Recording]) -> Iterator[Recording]:
        """Leave out the absent whose documents are written: they stay in Twilio's list for ever."""
        absent = []
        for recording in recordings:
            if recording.status == "completed":
                yield recording
            else:
                absent.append(recording)
        known = self.hints.documented([recording.sid for recording in absent])
        yield from (recording for recording in absent if recording.sid not in known)

    def _finished(self, account_sid: str, day: date, now: datetime) -> set[str]:
        """Return the SIDs of a day for which nothing is left to do, though they stay in Twilio's list.

        An absence is final. An archived recording is while its deletion is not due, by the receipt's age in S3.
        """
        prefix, delete_after = self.settings.ARCHIVE_PREFIX, self.settings.TWILIO_DELETE
        finished = {_sid(key) for key, _ in self.archive.listing(day_prefix(prefix, "absences", account_sid, day))}
        if delete_after != timedelta(0):
            for key, written in self.archive.listing(day_prefix(prefix, "receipts", account_sid, day)):
                if delete_after is None or now < written + delete_after:
                    finished.add(_sid(key))
        return finished

    def _is_fresh(self, recording: Recording, now: datetime) -> bool:
        """Tell whether a callback's work may still be under way: within SWEEP_GRACE of the recording's end."""
        ended = recording.start_time + timedelta(seconds=recording.duration_s or 0)
        return now < max(ended, recording.date_created) + self.settings.SWEEP_GRACE

    def _abort_stale_uploads(self, now: datetime) -> None:
        """Throw away what uploads of dead workers have left: their parts cost money and are visible to nobody."""
        try:
            aborted = self.archive.abort_stale_uploads(now - timedelta(seconds=_DAY_S))
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


def _sid(key: str) -> str:
    return key.rpartition("/")[2].partition(".")[0]
