"""Clean up after a process however it ends, SIGKILL included.

The watchdog is a child that waits at the end of a pipe. Whoever starts a program sends its process group
(the program does so itself, before its first instruction), and the end of the pipe means that the owner is
gone: every group still listed is killed and every directory still listed is removed. A parent-death signal
would reach only the direct child, would fire when the starting *thread* ends, and exists on Linux only.

One line per message: ``add GROUP``, ``del GROUP``, ``mkdir PATH``, ``rmdir PATH``.
"""

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

_lock = threading.Lock()
_pipe: int | None = None


def pipe() -> int:
    """Return the descriptor that messages are written to; start the watchdog at the first call."""
    global _pipe
    with _lock:
        if _pipe is None:
            far_end, _pipe = os.pipe()
            watchdog = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=far_end,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the owner
            )
            os.close(far_end)
            atexit.register(_close, _pipe, watchdog)
        return _pipe


def tell(message: str) -> None:
    """Send one message; shorter than PIPE_BUF, so it arrives whole whoever else writes."""
    os.write(pipe(), f"{message}\n".encode())


def _close(write_end: int, watchdog: "subprocess.Popen[bytes]") -> None:
    os.close(write_end)
    watchdog.wait()


def _watch() -> None:
    groups: set[int] = set()
    directories: set[str] = set()
    for line in sys.stdin:
        verb, _, value = line.rstrip("\n").partition(" ")
        match verb:
            case "add":
                groups.add(int(value))
            case "del":
                groups.discard(int(value))
            case "mkdir":
                directories.add(value)
            case "rmdir":
                directories.discard(value)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for directory in directories:
        _remove(directory)


def _remove(directory: str) -> None:
    """Remove a directory that processes about to die may still be writing to."""
    deadline = time.monotonic() + 2
    while os.path.isdir(directory) and time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(0.01)


if __name__ == "__main__":
    _watch()
