"""The virtual clock: nothing waits, and every process sees the time that it is shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import time_machine

START = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


class Clock:
    """The true time, in seconds since 1970, and what the process that runs just now believes."""

    def __init__(self, shown: time_machine.Traveller, start: datetime = START) -> None:
        self.now = self._seen = start.timestamp()
        self._shown = shown
        shown.move_to(start)

    def moment(self) -> datetime:
        """Return the true time."""
        return datetime.fromtimestamp(self.now, UTC)

    def pass_(self, seconds: float) -> None:
        """Let time pass for everybody."""
        self.now += seconds

    def show(self, ahead_s: float) -> None:
        """Let everything that asks for the time, in the product and its libraries, see it so far ahead of the truth."""
        seen = self.now + ahead_s
        self._shown.shift(seen - self._seen)  # a good deal cheaper than to move there
        self._seen = seen


@contextmanager
def virtual_time() -> Iterator[time_machine.Traveller]:
    """Put the time of this process into our hands for the length of the block."""
    with time_machine.travel(START, tick=False) as shown:
        yield shown
