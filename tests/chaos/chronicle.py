"""What was done to a run, as lines of JSON in the one order of all requests, and for whoever watches."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from time import monotonic

Say = Callable[[str], object]


class Chronicle:
    """Writes down each event at once. Thread-safe."""

    def __init__(self, file: Path, numbers: Iterator[int], say: Say) -> None:
        """Number the events by `numbers`, which the simulator and the S3 proxy share."""
        self._file = file.open("a")
        self._numbers = numbers
        self._say = say
        self._lock = Lock()
        self._began = monotonic()
        self.counts: Counter[str] = Counter()

    @property
    def seconds(self) -> float:
        """How long ago the run began."""
        return monotonic() - self._began

    def note(self, event: str, **details: object) -> None:
        """Write an event down, count it and show it."""
        with self._lock:
            self.counts[event] += 1
            line = {"order": next(self._numbers), "at": datetime.now(UTC).isoformat(), "event": event, **details}
            self._file.write(f"{json.dumps(line)}\n")
            self._file.flush()
        shown = " ".join(str(value) for value in details.values())
        self._say(f"{self.seconds:6.1f} s  {event}{f': {shown}' if shown else ''}")

    def close(self) -> None:
        self._file.close()
