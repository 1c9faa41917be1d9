"""Start programs, wait for them and stop them, children and scratch files included."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from deploy.local import watchdog

T = TypeVar("T")

# The shell reports its process group before it becomes the program, so that none can slip the watchdog.
_REGISTER = 'echo "add $$" >&0 && exec "$@" </dev/null'
_POLL_S = 0.02


class StartError(Exception):
    """A program did not become ready; the message ends with the last lines it printed."""


def wait_until(predicate: Callable[[], T], *, timeout_s: float, what: str, interval_s: float = _POLL_S) -> T:
    """Poll `predicate` until it returns something true, and return that.

    Raises `TimeoutError`, naming `what`, when nothing true came within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not (result := predicate()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(interval_s)
    return result


@contextlib.contextmanager
def scratch_directory(name: str) -> Iterator[Path]:
    """Yield a fresh directory; it is removed at the end, and by the watchdog if there is no end."""
    watchdog.pipe()  # starting the watchdog takes a while: too long for nobody to know of the directory
    path = Path(tempfile.mkdtemp(prefix=f"recording-archiver-{name}-"))
    try:
        watchdog.tell(f"mkdir {path}")
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        watchdog.tell(f"rmdir {path}")


@contextlib.contextmanager
def reserve_port() -> Iterator[int]:
    """Yield a free port of 127.0.0.1 that stays ours for as long as the block lasts, restarts included.

    On Linux a socket that is bound but does not listen keeps the kernel from handing the port to anybody
    else, while a server that sets SO_REUSEADDR (all of ours) may still bind it. Elsewhere that is refused,
    so there the port is free at first and the server's own bind decides.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        if sys.platform != "linux":
            holder.close()
        yield port


def group_runs(group: int) -> bool:
    """Tell whether a process group has members; orphans that have ended and wait for init don't count."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    if not Path("/proc/self/stat").exists():
        return True
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended just now
            state, _parent, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False


class Process:
    """One program and everything it starts, in a process group of their own.

    `env` is the whole environment, nothing is inherited. What it prints is appended to `log`. Every signal
    goes to the group, as when a container stops. Methods may be called from any thread.
    """

    # Each is shown every process that was asked to end and is gone, while its files are still there.
    witnesses: ClassVar[list[Callable[["Process"], None]]] = []

    def __init__(self, name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> None:
        self.name = name
        self.argv = list(argv)
        self.log = log
        self.env = dict(env)
        self._cwd = cwd
        self._popen: subprocess.Popen[bytes] | None = None
        self._group: int | None = None  # None once nothing is left of it: its number may then be anybody's
        self._wanted = False
        self._lock = threading.RLock()

    @property
    def pid(self) -> int:
        """The id of the program and of its group. Raises `RuntimeError` before the first start."""
        if self._popen is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return None if self._popen is None else self._popen.poll()

    def start(self) -> None:
        """Start the program; returns before it is ready. Raises `RuntimeError` when it is running."""
        with self._lock:
            if self.alive:
                raise RuntimeError(f"{self.name} is running already")
            with self.log.open("ab") as log:
                self._popen = subprocess.Popen(
                    ["/bin/sh", "-c", _REGISTER, "sh", *self.argv],
                    stdin=watchdog.pipe(),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self.env,
                    cwd=self._cwd,
                    start_new_session=True,
                )
            self._group = self._popen.pid
            self._wanted = True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group; no error when nothing is left of it."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._group is not None:
                os.killpg(self._group, number)

    def pause(self) -> None:
        """Freeze the group: its sockets stay open and nobody answers."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the group with SIGKILL, like a crash, and wait until it is gone."""
        with self._lock:
            if self._popen is None or self._group is None:
                return
            self.signal(signal.SIGKILL)
            self._popen.wait()
            self._wait_for_group(timeout_s=2)
            watchdog.tell(f"del {self._group}")
            self._group = None

    def terminate(self, timeout_s: float = 10) -> int | None:
        """Ask the group to end, kill what is left after `timeout_s`, and return the program's exit code."""
        with self._lock:
            self._wanted = False
            self.signal(signal.SIGTERM)
            self.resume()
            self._wait_for_group(timeout_s)
            self.kill()
            for witness in self.witnesses:
                witness(self)
            return self.returncode

    def restart(self) -> None:
        """Kill what is left of it and start it again, in the same place and with the same log."""
        with self._lock:
            self.kill()
            self.start()

    def respawn(self) -> bool:
        """Restart it if it ended without `terminate`; True when it did. Leaves alone what others are busy with."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self.alive or not self._wanted:
                return False
            self.restart()
            return True
        finally:
            self._lock.release()

    def wait_ready(self, predicate: Callable[[], object], *, timeout_s: float) -> None:
        """Poll `predicate` until it is true.

        Raises `StartError`, with the end of the log, when the program ends or `timeout_s` passes first.
        """

        def ready_or_dead() -> bool:
            return bool(predicate()) or not self.alive

        try:
            wait_until(ready_or_dead, timeout_s=timeout_s, what=f"{self.name} ready")
        except TimeoutError as error:
            raise StartError(f"{error}\n{self.tail()}") from error
        if not self.alive:
            raise StartError(f"{self.name} ended with exit code {self.returncode}\n{self.tail()}")

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of the log, each marked with the program's name."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(f"{self.name} | {line}" for line in text.splitlines()[-lines:])

    def _wait_for_group(self, timeout_s: float) -> None:
        """Wait until no process of the group is left, or `timeout_s` has passed."""

        def gone() -> bool:
            return not self.alive and (self._group is None or not group_runs(self._group))

        with contextlib.suppress(TimeoutError):
            wait_until(gone, timeout_s=timeout_s, what=self.name, interval_s=0.005)
