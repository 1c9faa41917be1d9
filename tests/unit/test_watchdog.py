"""When the watchdog complains, and when it ends the process."""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from workers import heartbeat
from workers.watchdog import EXIT_WEDGED, Limits, Watchdog

LIMITS = Limits()


@dataclass
class Kennel:
    """A watchdog whose clock and process are this test's."""

    now: float = 1000.0
    complaint: str | None = None
    is_busy: bool = False
    ended: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dog = Watchdog(
            "worker",
            lambda: self.complaint,
            is_busy=lambda: self.is_busy,
            limits=LIMITS,
            clock=lambda: self.now,
            end=self.ended.append,
        )

    def watch(self, seconds: float) -> None:
        """Let time go by, with a look as often as the watchdog looks, until the process has ended."""
        until = self.now + seconds
        while self.now < until and not self.ended:
            self.now += LIMITS.every_s
            self.dog.look()

    def heartbeat(self) -> heartbeat.Heartbeat:
        (beat,) = heartbeat.living("worker", self.now)
        return beat


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let heartbeats be in a directory of this test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_process_that_does_its_work_is_left_alone() -> None:
    """However long it runs, its heartbeat is fresh and it is not ended."""
    kennel = Kennel()
    kennel.watch(3600)
    assert kennel.heartbeat() == heartbeat.Heartbeat(os.getpid(), 0.0, None)
    assert kennel.ended == []


def test_what_passes_is_not_complained_of() -> None:
    """A reconnect, with Celery's longest pause, is no reason for anything."""
    kennel = Kennel(complaint="the event loop stands still")
    for _ in range(10):
        kennel.watch(LIMITS.complain_s)
        assert kennel.heartbeat().is_well
        kennel.complaint = None
        kennel.watch(LIMITS.every_s)
        kennel.complaint = "the event loop stands still"
    assert kennel.ended == []


def test_health_is_red_before_the_end() -> None:
    """Between the two limits the heartbeat says what is wrong, and the process still lives."""
    kennel = Kennel(complaint="messages wait and none is taken")
    kennel.watch(LIMITS.complain_s + LIMITS.every_s)
    assert kennel.heartbeat().complaint == "messages wait and none is taken"
    assert kennel.ended == []


def test_a_wedged_process_ends(directory: Path) -> None:
    """After the limit it is ended with a code that makes everybody restart it; the log says why."""
    kennel = Kennel(complaint="messages wait and none is taken")
    with capture_logs() as logs:
        kennel.watch(3600)
    assert kennel.ended == [EXIT_WEDGED]
    assert EXIT_WEDGED != 0
    assert kennel.now - 1000.0 <= LIMITS.stuck_s + LIMITS.every_s
    assert [(line["event"], line["log_level"], line["detail"]) for line in logs] == [
        ("process_wedged", "error", "messages wait and none is taken")
    ]
    assert list(directory.iterdir()) == []


def test_running_tasks_get_some_time() -> None:
    """While tasks run the end comes later, for it would interrupt them; but it comes."""
    kennel = Kennel(complaint="the event loop stands still", is_busy=True)
    kennel.watch(LIMITS.stuck_while_busy_s)
    assert kennel.ended == []
    kennel.watch(LIMITS.every_s)
    assert kennel.ended == [EXIT_WEDGED]


def test_the_end_comes_within_two_minutes() -> None:
    """What is promised: noticed and ended, with time left for a new process to start."""
    assert LIMITS.stuck_while_busy_s + LIMITS.every_s < 100


def test_a_read_only_file_system_stops_nothing(directory: Path) -> None:
    """Without a place for a heartbeat the log says so once, and the process is watched as before."""
    directory.rmdir()
    kennel = Kennel()
    with capture_logs() as logs:
        kennel.watch(60)
        kennel.complaint = "messages wait and none is taken"
        kennel.watch(3600)
    assert [line["event"] for line in logs] == ["heartbeat_not_written", "process_wedged"]
    assert kennel.ended == [EXIT_WEDGED]
