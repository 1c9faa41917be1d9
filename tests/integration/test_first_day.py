"""The first day, as the README tells it: its commands, run as they stand there, against the demo that it names."""

import os
import re
import signal
import subprocess
import sys
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3

from deploy.local.processes import wait_until
from deploy.local.servers import ROOT

STARTED = re.compile(r"^  (\. .*/first-day)$", re.MULTILINE)


def told() -> list[str]:
    """Return the commands of README's first day, without their comments."""
    readme = (ROOT / "README.md").read_text()
    section = readme.partition("## A first day, tried here\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]


@dataclass(frozen=True)
class Terminal:
    """A second terminal: a shell that has taken over what the demo prints, in a directory of one's own."""

    entered: str
    directory: Path

    def type(self, line: str) -> str:
        """Run a line as a user would, and return what it prints; it must succeed."""
        ran = self._run(line, stderr=subprocess.STDOUT)
        if "check again" in ran.stdout:  # which a busy machine may be told: something did not answer within seconds
            ran = self._run(line, stderr=subprocess.STDOUT)
        assert ran.returncode == 0, f"{line}: exit code {ran.returncode}\n{ran.stdout}"
        return ran.stdout

    def value(self, name: str) -> str:
        """Return a variable of the shell."""
        return self._run(f'printf %s "${name}"', stderr=subprocess.PIPE).stdout

    def _run(self, line: str, stderr: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", f"{self.entered}\n{line}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=self.directory,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """Start the demo as the README says, and return a terminal beside it."""
    command, out = told()[0], tmp_path / "demo.txt"
    with out.open("wb") as file:
        demo = subprocess.Popen(
            [sys.executable, *command.split()], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:

        def entered() -> str | None:
            assert demo.poll() is None, out.read_text()
            found = STARTED.search(out.read_text())
            return found[1] if found else None

        line = wait_until(entered, timeout_s=90, what="the demo")
        assert line is not None
        yield Terminal(line, tmp_path)
    finally:
        demo.send_signal(signal.SIGINT)
        assert demo.wait(timeout=30) == 0, out.read_text()


@pytest.mark.timeout(300)
def test_the_first_day_goes_as_the_readme_says(terminal: Terminal) -> None:
    """Every command succeeds; the past is archived, comes back as audio, and is deleted only when that is asked for."""
    assert terminal.value("HOME") == os.environ["HOME"]  # what is taken over is not what belongs to the shell
    said: dict[str, str] = {}
    *commands, last = told()[1:]
    for line in commands:
        said[line] = terminal.type(line)
        if "fetch" in line:
            assert _listed(terminal) == 28  # nothing is deleted yet
    wait_until(lambda: _listed(terminal) == 4, timeout_s=60, what="only what has no audio being left at Twilio")
    ended = terminal.type(last)

    assert not re.search(r"^red ", said["archiver check"], re.MULTILINE)
    assert "24 recordings" in said["archiver backfill --since 30d --dry-run"]
    assert "finished: 28" in said["archiver backfill --since 30d"]
    assert re.search(r"^kept +24 ", said["archiver audit --since 30d --report audit.html"], re.MULTILINE)
    assert "28 recordings are accounted for" in (terminal.directory / "audit.html").read_text()
    assert terminal.value("RECORDING") in said['archiver show "$RECORDING"']
    with wave.open(str(terminal.directory / "call.wav")) as audio:
        assert (audio.getnchannels(), audio.getframerate(), audio.getnframes()) == (2, 8000, 12 * 8000)
    assert re.search(r"^ok +24 ", ended, re.MULTILINE)
    assert "all 28 recordings are accounted for" in ended


def _listed(terminal: Terminal) -> int:
    """Return how many recordings Twilio lists."""
    account_sid = terminal.value("TWILIO_ACCOUNT_SID")
    answer = urllib3.request(
        "GET",
        f"{terminal.value('TWILIO_API_BASE_URL')}/2010-04-01/Accounts/{account_sid}/Recordings.json?PageSize=100",
        headers=urllib3.make_headers(
            basic_auth=f"{account_sid}:{terminal.value('TWILIO_AUTH_TOKEN').partition(',')[0]}"
        ),
    )
    return len(answer.json()["recordings"])
