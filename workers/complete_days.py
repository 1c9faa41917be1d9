"""Days of which nothing is left to do, remembered in the bucket, so that sweeps look at them rarely.

Where archived recordings stay at Twilio, its list grows for ever. A day counts as complete only 48 hours after it
ended, when everything that Twilio lists of it is archived or documented; from then on it is looked at once in thirty
days, in case somebody has changed either side.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from app.receipt import COMPLETE_DAYS
from workers.archive import Archive

_ONE_DAY: Final = timedelta(days=1)
_SETTLES_AFTER: Final = timedelta(hours=48)
_LOOK_AGAIN_DAYS: Final = 30

Span = tuple[date | None, date | None]


@dataclass(frozen=True, slots=True)
class CompleteDays:
    """The complete days of one account, as they are remembered in the bucket."""

    archive: Archive
    account_sid: str

    def remembered(self) -> set[date]:
        """Return them all."""
        days = (key.removeprefix(self._prefix) for key, _ in self.archive.listing(self._prefix))
        return {day for text in days if (day := _day(text)) is not None}

    def remember(self, day: date) -> None:
        """Remember that a day is complete; harmless to repeat."""
        self.archive.write_empty(f"{self._prefix}{day}")

    def forget(self, day: date) -> None:
        """Look at a day again from now on."""
        self.archive.remove(f"{self._prefix}{day}")

    @property
    def _prefix(self) -> str:
        return f"{self.archive.prefix}{COMPLETE_DAYS}account={self.account_sid}/"


@dataclass(slots=True)
class Watch:
    """Tells which days are complete while a list is read, stretch by stretch and newest first.

    A day is over when something older than the day before it has come: around midnight the list need not be in strict
    order. Days of which nothing is listed are complete, too, but not where the whole list is empty so far: that is what
    a wrong region looks like.
    """

    _next: date = date.min
    _oldest_listed: date | None = None
    _unfinished: set[date] = field(default_factory=set)
    _complete: set[date] = field(default_factory=set)

    def begin(self, newest: date) -> None:
        """Begin with a stretch of the list; `newest` is its newest day that may be complete."""
        self._next = newest

    def see_unfinished(self, day: date) -> bool:
        """Note that something of a day is left to do, or may be; tell whether the day was taken for complete."""
        self._unfinished.add(day)
        was_complete = day in self._complete
        self._complete.discard(day)
        return was_complete

    def over(self, listed: date) -> Iterator[tuple[date, bool]]:
        """Yield the days that are over when something of the day `listed` comes, and whether each is complete."""
        self._oldest_listed = listed if self._oldest_listed is None else min(listed, self._oldest_listed)
        yield from self._down_to(listed + 2 * _ONE_DAY)

    def ended(self, oldest: date | None) -> Iterator[tuple[date, bool]]:
        """Yield what is left of a stretch that has come to its end at `oldest`; None where it has no bound."""
        if self._oldest_listed is not None:
            yield from self._down_to(oldest or self._oldest_listed)

    def _down_to(self, oldest: date) -> Iterator[tuple[date, bool]]:
        while self._next >= oldest:
            day, self._next = self._next, self._next - _ONE_DAY
            if day not in self._unfinished:
                self._complete.add(day)
            yield day, day in self._complete


def settled_until(now: datetime) -> date:
    """Return the newest day that may count as complete."""
    return (now - _SETTLES_AFTER).date() - _ONE_DAY


def is_looked_at_again(day: date, today: date) -> bool:
    """Tell whether it is the turn of a complete day: every one has its own day of thirty."""
    return (today - day).days % _LOOK_AGAIN_DAYS == 0


def stays(day: date, delete_after: timedelta | None, now: datetime) -> bool:
    """Tell whether nothing of a day is to be deleted at Twilio yet, however soon it was archived."""
    return delete_after is None or now - datetime.combine(day, time(), UTC) < delete_after


def spans(complete: set[date], since: date | None, until: date | None) -> Iterator[Span]:
    """Yield the stretches of days from `until` back to `since` that hold no complete one, newest first; both inclusive.

    None is an end that is open.
    """
    newest = until
    for day in sorted(complete, reverse=True):
        if newest is not None and day > newest:
            continue
        if since is not None and day < since:
            break
        if newest is None or day < newest:
            yield day + _ONE_DAY, newest
        newest = day - _ONE_DAY
    if since is None or newest is None or since <= newest:
        yield since, newest


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day > date.min else None
