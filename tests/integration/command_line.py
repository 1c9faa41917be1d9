"""Run `archiver` in this process, or on a terminal of its own, as an operator would."""

import io
import json
import logging
import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import structlog

from tests.integration.workbench import Workbench
from tests.output import OUTPUT
from workers.cli import main

ENTRY = str(Path(sys.executable).with_name("archiver"))


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it said."""

    code: int
    data: bytes
    err: str

    @property
    def out(self) -> str:
        return self.data.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class CommandLine:
    """The command line of a workbench, with its settings in the environment."""

    monkeypatch: pytest.MonkeyPatch

    def set(self, **settings: str | None) -> None:
        """Set variables of the environment; None removes one."""
        for name, value in settings.items():
            if value is None:
                self.monkeypatch.delenv(name, raising=False)
            else:
                self.monkeypatch.setenv(name, value)

    def use(self, bench: Workbench) -> None:
        """Use a workbench's account, bucket and settings."""
        account, *others = bench.simulator.accounts.values()
        more = [{"account_sid": other.sid, "auth_tokens": other.auth_tokens} for other in others]
        self.set(
            TWILIO_ACCOUNT_SID=account.sid,
            TWILIO_AUTH_TOKEN=",".join(account.auth_tokens),
            TWILIO_ACCOUNTS=json.dumps(more),
            TWILIO_API_BASE_URL=bench.simulator.url,
            ARCHIVE_BUCKET=bench.bucket.name,
            **bench.changes,
        )

    def __call__(self, *arguments: str) -> Ran:
        """Run a command; nothing is a terminal."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err), _own_logs(), pytest.raises(SystemExit) as ended:
            main(list(arguments))
        ran = Ran(int(ended.value.code or 0), _bytes(out), _bytes(err).decode())
        OUTPUT.learn(os.environ)
        OUTPUT.keep("command", ran.data + ran.err.encode())
        return ran


def _bytes(stream: io.TextIOWrapper) -> bytes:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue()


@contextmanager
def _own_logs() -> Iterator[None]:
    """Undo what a command does to the logs of its process."""
    root = logging.getLogger()
    handlers, level, config = root.handlers[:], root.level, structlog.get_config()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**config)
        for module in list(sys.modules.values()):
            # structlog keeps what a logger was configured with at its first word; capture_logs could not hear it.
            if isinstance(log := getattr(module, "log", None), type(structlog.get_logger())):
                vars(log).pop("bind", None)


def on_terminal(*arguments: str, typed: str = "", awaiting: str = "", columns: int = 84) -> tuple[int, str]:
    """Run `archiver` on a terminal, type a line when it shows `awaiting`; return its exit code and all it showed."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, columns))
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}  # of another one
    environ["TERM"] = "xterm-256color"
    with subprocess.Popen([ENTRY, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environ) as process:
        os.close(theirs)
        shown, deadline = b"", monotonic() + 30
        try:
            while monotonic() < deadline:
                if not select.select([ours], [], [], 0.1)[0]:
                    continue
                try:
                    block = os.read(ours, 65536)
                except OSError:  # how Linux says that the other side has gone
                    break
                if not block:
                    break
                shown += block
                if typed and awaiting.encode() in shown:
                    os.write(ours, typed.encode() + b"\n")
                    typed = ""
            process.wait(timeout=10)
        finally:
            process.kill()
            os.close(ours)
    OUTPUT.keep("terminal", shown)
    return process.returncode, shown.decode().replace("\r\n", "\n")
