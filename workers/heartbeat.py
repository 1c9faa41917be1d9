"""Heartbeats: a small file that a process renews while it does its work, for `archiver health` beside it.

Nothing but the standard library, and little of that: a container asks every few seconds. The file is where temporary
files go, or in shared memory where nothing else can be written. Times are seconds of the machine's monotonic clock.
"""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

STALE_AFTER_S: Final = 60.0  # a process that is alive and can't even renew a file
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 (writable in a container whose file system is not)
_PREFIX: Final = "recording-archiver-"
_SUFFIX: Final = ".heartbeat"


class Heartbeat(NamedTuple):
    """What a living process last said of itself: how long ago, and what keeps it from its work (None: nothing)."""

    pid: int
    age_s: float
    complaint: str | None

    @property
    def is_well(self) -> bool:
        """Whether the process does its work, as far as it knows."""
        return self.complaint is None and self.age_s <= STALE_AFTER_S


def write(process: str, complaint: str | None, now: float | None = None) -> None:
    """Renew this process's heartbeat; `process` is its kind, such as `worker`. Raises `OSError`."""
    path = _path(process, os.getpid())
    unfinished = path.with_suffix(".part")
    # Others may write to that directory, too: never through a link of theirs.
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump({"at": monotonic() if now is None else now, "complaint": complaint}, file)
    unfinished.replace(path)


def remove(process: str) -> None:
    """Take this process's heartbeat away: it ends."""
    with suppress(OSError):
        _path(process, os.getpid()).unlink()


def living(process: str, now: float | None = None) -> list[Heartbeat]:
    """Return the heartbeats of all processes of a kind that live here, by their ids."""
    now = monotonic() if now is None else now
    beginning, found = f"{_PREFIX}{process}-", []
    for path in sorted(_directory().glob(f"{beginning}*{_SUFFIX}")):
        pid = path.name[len(beginning) : -len(_SUFFIX)]
        if pid.isascii() and pid.isdigit() and _lives(int(pid)):
            found.append(_read(path, int(pid), now))
    return found


def _read(path: Path, pid: int, now: float) -> Heartbeat:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        complaint = raw["complaint"]
        return Heartbeat(pid, max(0.0, now - float(raw["at"])), None if complaint is None else str(complaint))
    except (OSError, ValueError, TypeError, KeyError):
        return Heartbeat(pid, 0.0, "its heartbeat can't be read")


def _path(process: str, pid: int) -> Path:
    return _directory() / f"{_PREFIX}{process}-{pid}{_SUFFIX}"


def _directory() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # nothing that it knows is writable
        return _SHARED_MEMORY


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
