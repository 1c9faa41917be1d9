"""Bring what was recorded in the past into the archive, without getting in the way of what is recorded now.

The workers do it, from a queue of its own that they turn to when nothing else waits; this only feeds that queue, to a
small depth. So a backfill uses what the fleet has to spare, stops when its command does, and has no state: what is left
to do is what Twilio lists and S3 has no document of, seen anew at every start.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from itertools import chain, groupby
from time import monotonic, sleep
from typing import Final

import structlog

from app.queue import BACKFILL_QUEUE, BACKFILL_TASK, Publisher, QueueUnavailableError
from app.receipt import day_prefix
from app.recording import FINAL_CALLBACK_STATUSES, Recording
from app.settings import WorkerSettings
from workers.archive import Archive
from workers.errors import TemporaryError
from workers.hints import Hints
from workers.twilio_api import TwilioApi

MAX_DEPTH: Final = 100  # messages that wait; what a killed command leaves behind, and no more
_MESSAGE_LIFE_S: Final = 60 * 60.0
_POLL_S: Final = 0.2
_MAX_PAUSE_S: Final = 15.0

# What one recording takes, measured on the local stack; its deletion not counted.
TWILIO_REQUESTS_EACH: Final = 2
S3_REQUESTS_EACH: Final = 7
# A guess of what a thread of a worker does: the round trips of a recording, and bytes a second.
_SECONDS_EACH: Final = 1.5
_BYTES_PER_SECOND: Final = 2_000_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which recordings: of these accounts, between two UTC days (inclusive), or of these calls alone."""

    account_sids: tuple[str, ...]
    since: date | None
    until: date | None
    call_sids: tuple[str, ...] = ()


@dataclass(slots=True)
class Estimate:
    """What there is to do. `bytes` and `audio_s` are of the `recordings` with audio; `done` are archived already."""

    recordings: int = 0
    without_audio: int = 0
    done: int = 0
    quarantined: int = 0
    audio_s: int = 0
    bytes: int = 0

    @property
    def outstanding(self) -> int:
        """How many recordings are to be archived or documented."""
        return self.recordings + self.without_audio

    @property
    def twilio_requests(self) -> int:
        return TWILIO_REQUESTS_EACH * self.recordings + self.without_audio

    @property
    def s3_requests(self) -> int:
        return S3_REQUESTS_EACH * self.recordings + 3 * self.without_audio

    def seconds(self, threads: int) -> float:
        """Return about how long it takes with so many threads that have nothing else to do."""
        return (self.outstanding * _SECONDS_EACH + self.bytes / _BYTES_PER_SECOND) / threads


@dataclass(frozen=True, slots=True)
class Day:
    """A day of an account: what is outstanding, how many are done, and how many are left to a person."""

    outstanding: list[Recording]
    done: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a backfill ended."""

    finished: int
    quarantined: int
    unfinished: int


Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Backfill:
    """The backfill, with what it reads and where it enqueues.

    `patience_s`: how long nothing may be finished before it gives up on what is left.
    """

    settings: WorkerSettings
    twilio: TwilioApi
    archive: Archive
    publisher: Publisher
    hints: Hints
    patience_s: float = 300.0

    def estimate(self, wanted: Wanted, began: datetime) -> Estimate:
        """Look at what is outstanding, and change nothing."""
        estimate = Estimate()
        for day in self._days(wanted, began):
            estimate.done += day.done
            estimate.quarantined += day.quarantined
            for recording in day.outstanding:
                if recording.status != "completed" or self.twilio.is_stored_externally(recording):
                    estimate.without_audio += 1
                    continue
                estimate.recordings += 1
                estimate.audio_s += recording.duration_s or 0
                estimate.bytes += self._bytes(recording)
        return estimate

    def run(self, wanted: Wanted, began: datetime, total: int, progress: Progress) -> Outcome:
        """Feed the queue until nothing is outstanding; tell `progress` how many of `total` are finished.

        Whatever is fed a second time is harmless: a worker leaves alone what is archived or being archived.
        Raises `TemporaryError` when nobody takes from the queue, or the queue takes nothing.
        """
        best, since, pause_s = total, monotonic(), 1.0
        while True:
            outstanding, quarantined = self._feed(wanted, began, partial(_at_least, progress, total - best))
            if outstanding < best:
                best, since, pause_s = outstanding, monotonic(), 1.0
            progress(total - best)
            if outstanding == 0 or monotonic() - since > self.patience_s:
                return Outcome(max(0, total - outstanding), quarantined, outstanding)
            sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def _feed(self, wanted: Wanted, began: datetime, progress: Progress) -> tuple[int, int]:
        """Enqueue all that is outstanding and wait until the queue is empty; return how many, and in quarantine."""
        fed = room = quarantined = 0
        for day in self._days(wanted, began):
            quarantined += day.quarantined
            for recording in day.outstanding:
                while room == 0:
                    depth = self._wait_until_below(MAX_DEPTH)
                    room = MAX_DEPTH - depth
                    progress(fed - depth)
                self._enqueue(recording)
                fed, room = fed + 1, room - 1
        while fed and (depth := self._wait_until_below(self.hints.queue_depth(BACKFILL_QUEUE))):
            progress(fed - depth)
        return fed, quarantined

    def _enqueue(self, recording: Recording) -> None:
        try:
            self.publisher.publish(
                BACKFILL_TASK,
                expires_s=_MESSAGE_LIFE_S,
                account_sid=recording.account_sid,
                recording_sid=recording.sid,
            )
        except QueueUnavailableError as error:
            raise TemporaryError("queue_unavailable", f"{error}; start the same backfill again") from None

    def _wait_until_below(self, depth: int) -> int:
        """Wait until fewer messages than `depth` wait; return how many."""
        deadline = monotonic() + self.patience_s
        while (waiting := self.hints.queue_depth(BACKFILL_QUEUE)) >= depth > 0:
            if monotonic() > deadline:
                raise TemporaryError(
                    "backfill_stalled", "nobody takes from the queue; see whether a worker runs, and start again"
                )
            sleep(_POLL_S)
        return waiting

    def _days(self, wanted: Wanted, began: datetime) -> Iterator[Day]:
        """Yield every day that Twilio lists something of; what ended after the beginning is left to the sweep."""
        for account_sid in wanted.account_sids:
            listed = (
                recording
                for recording in self._listed(account_sid, wanted)
                if recording.status in FINAL_CALLBACK_STATUSES
                and recording.date_created < began - self.settings.SWEEP_GRACE
            )
            for day, recordings in groupby(listed, key=lambda recording: recording.day):
                yield self._day(account_sid, day, list(recordings))

    def _listed(self, account_sid: str, wanted: Wanted) -> Iterator[Recording]:
        if not wanted.call_sids:
            return self.twilio.recordings(account_sid, wanted.since, wanted.until)
        of_calls = (self.twilio.recordings_of(account_sid, "call", sid) for sid in wanted.call_sids)
        return chain.from_iterable(of_calls)

    def _day(self, account_sid: str, day: date, recordings: list[Recording]) -> Day:
        documented: dict[str, set[str]] = {}
        for collection in ("receipts", "absences", "quarantine"):
            prefix = day_prefix(self.archive.prefix, collection, account_sid, day)
            documented[collection] = {key[len(prefix) :].partition(".")[0] for key, _ in self.archive.listing(prefix)}
        done = documented["receipts"] | documented["absences"]
        in_quarantine = documented["quarantine"] - done
        return Day(
            outstanding=[each for each in recordings if each.sid not in done | in_quarantine],
            done=sum(each.sid in done for each in recordings),
            quarantined=sum(each.sid in in_quarantine for each in recordings),
        )

    def _bytes(self, recording: Recording) -> int:
        """Return the size of the media in bytes: WAV is 16 kB a second and channel, MP3 4 kB (TWILIO: 128, 32 kbps)."""
        seconds = recording.duration_s or 0
        if self.settings.ARCHIVE_FORMAT == "mp3" and recording.encryption is None:
            return 4_000 * seconds
        return 16_000 * seconds * (recording.channels or 1)


def _at_least(progress: Progress, least: int, finished: int) -> None:
    progress(max(least, finished))
