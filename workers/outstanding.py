"""What is not finished of an account: Twilio's list, less what is known to be done; streamed, newest first.

What it costs is what is outstanding. With deletion on, Twilio's list holds only what is left to do and what has no
audio: a frequent look compares it with hints, and one at everything, once a day, with S3. Where archived recordings
stay at Twilio (`never`, a delay, or deletions that are paused), each day is compared with S3's listing of that day, and
days that are complete are left out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import groupby, islice
from typing import Final

from app.receipt import day_prefix
from app.recording import UNFINISHED_STATUSES, Recording
from workers.archive import Archive
from workers.complete_days import CompleteDays, Watch, is_looked_at_again, settled_until, spans, stays
from workers.hints import Hints
from workers.twilio_api import TwilioApi

_ONE_DAY: Final = timedelta(days=1)
_LONGEST: Final = timedelta(hours=24)  # no recording lasts longer, whatever its resource says
_BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class Rules:
    """What a look at an account goes by: its time, the settings, and whether it is at everything or a frequent one.

    `since` is the oldest day to look at, None without a bound. `delete_after` is the delay from archival, None for
    never or while deletions are paused.
    """

    now: datetime
    since: date | None
    grace: timedelta
    delete_after: timedelta | None
    everything: bool

    @property
    def archived_stay(self) -> bool:
        """Whether Twilio's list holds archived recordings that are not to be deleted yet."""
        return self.delete_after != timedelta(0)

    def is_fresh(self, recording: Recording) -> bool:
        """Tell whether a callback's work may still be under way: within the grace of the recording's end.

        Dates and durations that can't be are not waited for.
        """
        since_created = self.now - recording.date_created
        since_started = max(self.now - recording.start_time, since_created - _LONGEST)
        seconds = max(0.0, min(recording.duration_s or 0, _LONGEST.total_seconds()))
        return min(since_created, since_started - timedelta(seconds=seconds)) < self.grace


@dataclass(frozen=True, slots=True)
class Outstanding:
    """What is not finished of one account, with the two sides that say so."""

    twilio: TwilioApi
    archive: Archive
    hints: Hints
    account_sid: str
    rules: Rules

    def recordings(self, until: date | None = None) -> Iterator[Recording]:
        """Yield what is to be done, of the day `until` and before; one day's SIDs are in memory at a time."""
        if not self.rules.archived_stay:
            yield from self._rested(self._gone_when_done(until))
            return
        complete = self._complete()
        left_out = {day for day in complete if not self._is_looked_at(day)}
        watch = Watch()
        for oldest, newest in spans(left_out, self.rules.since, until):
            watch.begin(min(settled_until(self.rules.now), newest or date.max))
            yield from self._rested(self._kept_when_done(oldest, newest, watch, complete))

    def _gone_when_done(self, until: date | None) -> Iterator[Recording]:
        """Yield the outstanding where only what is absent stays in Twilio's list when it is done."""
        listed = self.twilio.recordings(self.account_sid, self.rules.since, until)
        ended = (each for each in listed if not self._is_unfinished(each))
        filings = _Filings(self.archive, self.account_sid)
        for day, recordings in groupby(ended, key=lambda recording: recording.day):
            if self.rules.everything:
                filed = filings.of(day)
                yield from (each for each in recordings if not self._is_documented(each, filed))
            else:
                yield from self._undocumented(recordings)

    def _undocumented(self, recordings: Iterable[Recording]) -> Iterator[Recording]:
        """Leave out those without audio of which hints say that their documents are written."""
        for batch in _batches(recordings):
            without_audio = [each.sid for each in batch if self._has_no_audio(each)]
            known = self.hints.documented(without_audio)
            yield from (each for each in batch if each.sid not in known)

    def _kept_when_done(
        self, oldest: date | None, newest: date | None, watch: Watch, complete: set[date]
    ) -> Iterator[Recording]:
        """Yield the outstanding of a stretch of days, and remember which days are complete."""
        days, filings = CompleteDays(self.archive, self.account_sid), _Filings(self.archive, self.account_sid)
        listed = self.twilio.recordings(self.account_sid, oldest, newest)
        for day, recordings in groupby(listed, key=lambda recording: recording.day):
            self._remember(watch.over(day), complete)
            filed = filings.of(day)
            for recording in recordings:
                unfinished = self._is_unfinished(recording)
                if not unfinished and self._is_done(recording, filed):
                    continue
                if watch.see_unfinished(day):
                    days.forget(day)
                if not unfinished:
                    yield recording
        self._remember(watch.ended(oldest), complete)

    def _is_done(self, recording: Recording, filed: "_Filed") -> bool:
        """Tell whether nothing is left to do for now: no audio and documented, or archived and its deletion not due."""
        if self._is_documented(recording, filed):
            return True
        written, delete_after = filed.receipts.get(recording.sid), self.rules.delete_after
        return written is not None and (delete_after is None or self.rules.now - written < delete_after)

    def _is_documented(self, recording: Recording, filed: "_Filed") -> bool:
        return self._has_no_audio(recording) and recording.sid in filed.absences

    def _is_unfinished(self, recording: Recording) -> bool:
        return recording.status in UNFINISHED_STATUSES or self.rules.is_fresh(recording)

    def _has_no_audio(self, recording: Recording) -> bool:
        """Tell whether a document is all that is to be made: Twilio has no audio, or stored it elsewhere."""
        return recording.status != "completed" or self.twilio.is_stored_externally(recording)

    def _rested(self, recordings: Iterable[Recording]) -> Iterator[Recording]:
        """Leave out what hints say can't be done at the moment; a look at everything does not rely on hints."""
        if self.rules.everything:
            yield from recordings
            return
        for batch in _batches(recordings):
            resting = self.hints.resting([each.sid for each in batch])
            yield from (each for each in batch if each.sid not in resting)

    # Complete days

    def _complete(self) -> set[date]:
        """Return the days that are remembered as complete and still count as such."""
        settled = settled_until(self.rules.now)
        if self.rules.since is not None and self.rules.since > settled:
            return set()
        days = CompleteDays(self.archive, self.account_sid).remembered()
        return {day for day in days if day <= settled and stays(day, self.rules.delete_after, self.rules.now)}

    def _is_looked_at(self, day: date) -> bool:
        return self.rules.everything and is_looked_at_again(day, self.rules.now.date())

    def _remember(self, days: Iterable[tuple[date, bool]], complete: set[date]) -> None:
        remembered = CompleteDays(self.archive, self.account_sid)
        for day, is_complete in days:
            if is_complete and day not in complete and stays(day, self.rules.delete_after, self.rules.now):
                remembered.remember(day)
            elif not is_complete and day in complete:
                remembered.forget(day)


class _Filings:
    """What S3's listings say of the days of an account; those of two days are kept, in between which a list may go."""

    def __init__(self, archive: Archive, account_sid: str) -> None:
        self._archive = archive
        self._account_sid = account_sid
        self._latest: dict[date, _Filed] = {}

    def of(self, day: date) -> "_Filed":
        if day not in self._latest:
            self._latest = dict([*self._latest.items()][-1:]) | {day: _Filed(self._archive, self._account_sid, day)}
        return self._latest[day]


class _Filed:
    """What S3's listings of a day say, each read when it is first asked for."""

    def __init__(self, archive: Archive, account_sid: str, day: date) -> None:
        self._archive = archive
        self._account_sid = account_sid
        self._day = day

    @cached_property
    def absences(self) -> set[str]:
        return set(self._settled("absences"))

    @cached_property
    def receipts(self) -> dict[str, datetime]:
        """When the receipt of each archived recording was written."""
        return self._settled("receipts")

    @cached_property
    def _quarantined(self) -> set[str]:
        return set(self._read("quarantine"))

    def _settled(self, collection: str) -> dict[str, datetime]:
        """Leave out what is in quarantine, too: S3 may have refused to remove that, and it forbids the deletion."""
        written = self._read(collection)
        return {sid: at for sid, at in written.items() if sid not in self._quarantined} if written else written

    def _read(self, collection: str) -> dict[str, datetime]:
        prefix = day_prefix(self._archive.prefix, collection, self._account_sid, self._day)
        return {key[len(prefix) :].partition(".")[0]: written for key, written in self._archive.listing(prefix)}


def _batches(recordings: Iterable[Recording]) -> Iterator[list[Recording]]:
    rest = iter(recordings)
    while batch := list(islice(rest, _BATCH)):
        yield batch
