"""The heartbeats of processes, and the command that reads them."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from workers import heartbeat
from workers.cli import main

HEAVY = {"boto3", "botocore", "celery", "cryptography", "flask", "kombu", "pydantic", "redis", "requests", "rich"}
Health = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let heartbeats be in a directory of this test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def health(capsys: pytest.CaptureFixture[str]) -> Health:
    """Return what runs `archiver health` with some arguments and returns the exit code and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["health", *arguments])
        return int(ended.value.code or 0), capsys.readouterr().out

    return run


def test_a_process_that_does_its_work_is_well(health: Health) -> None:
    """A fresh heartbeat without a complaint is green, and says whose it is."""
    heartbeat.write("worker", None)
    code, printed = health("worker")
    assert code == 0
    assert printed.startswith(f"worker {os.getpid()}: well")


def test_a_complaint_is_red(health: Health) -> None:
    """What keeps the process from its work is said in words."""
    heartbeat.write("worker", "messages wait and none is taken")
    code, printed = health("worker")
    assert (code, "messages wait and none is taken" in printed) == (1, True)


def test_a_process_that_stands_still_is_red(health: Health) -> None:
    """A heartbeat that is no longer renewed is red, whatever it says."""
    heartbeat.write("worker", None, now=monotonic() - heartbeat.STALE_AFTER_S - 1)
    code, printed = health("worker")
    assert (code, "it says nothing any more" in printed) == (1, True)


def test_no_process_is_red(health: Health) -> None:
    """Where no worker has ever run, or another kind of process does, there is no health."""
    heartbeat.write("beat", None)
    assert health("worker") == (1, "no worker runs here\n")


def test_the_dead_are_not_asked(directory: Path, health: Health) -> None:
    """What a killed process left behind says nothing about the one that runs now."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = directory / f"recording-archiver-worker-{dead.pid}.heartbeat"
    left.write_text(json.dumps({"at": 0, "complaint": "it was stuck"}))
    assert health("worker")[0] == 1
    heartbeat.write("worker", None)
    assert health("worker")[0] == 0


def test_one_that_is_stuck_is_enough(directory: Path, health: Health) -> None:
    """Of several workers all must be well."""
    heartbeat.write("worker", None)
    other = directory / f"recording-archiver-worker-{os.getppid()}.heartbeat"
    other.write_text(json.dumps({"at": monotonic(), "complaint": "it is stuck"}))
    code, printed = health("worker", "--json")
    assert code == 1
    assert json.loads(printed)["is_well"] is False
    assert [each["is_well"] for each in json.loads(printed)["processes"]].count(True) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"at": "now", "complaint": null}', '{"complaint": null}'])
def test_what_cannot_be_read_is_red(directory: Path, health: Health, content: str) -> None:
    """A heartbeat that is none is a fault, not a crash."""
    (directory / f"recording-archiver-beat-{os.getpid()}.heartbeat").write_text(content)
    assert health("beat")[0] == 1


def test_foreign_names_are_left_alone(directory: Path, health: Health) -> None:
    """Files of others whose names look alike are no heartbeats."""
    (directory / "recording-archiver-worker-none.heartbeat").write_text("")
    assert health("worker") == (1, "no worker runs here\n")


def test_no_link_is_followed(directory: Path) -> None:
    """In a directory that others can write to, nobody makes a heartbeat overwrite another file."""
    precious = directory / "precious"
    precious.write_text("precious")
    (directory / f"recording-archiver-worker-{os.getpid()}.part").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"):
        heartbeat.write("worker", None)
    assert precious.read_text() == "precious"


def test_the_end_of_a_process_takes_its_heartbeat_away(directory: Path) -> None:
    """Removing it leaves nothing, and may be done twice."""
    heartbeat.write("worker", None)
    heartbeat.remove("worker")
    heartbeat.remove("worker")
    assert list(directory.iterdir()) == []


def test_asking_is_cheap() -> None:
    """A health check loads nothing of what the work needs."""
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from workers.cli import main; main(['health', 'worker'])"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    names = [line.rpartition("|")[2].strip() for line in loaded.splitlines()]
    assert "workers.heartbeat" in names
    modules = {name.partition(".")[0] for name in names}
    assert modules & HEAVY == set()
