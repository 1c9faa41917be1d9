"""Events that call for a person: all are known to the rules' counter and to the runbook."""

import re
from pathlib import Path

import pytest
import structlog

from app.alarms import Alarms
from app.board import ALARMS

ROOT = Path(__file__).resolve().parents[2]
CALL = re.compile(r'(?:log\.(?:error|exception|critical)|level)\(\s*"([a-z_]+)"')


class CountingBoard:
    """Takes what is counted."""

    def __init__(self) -> None:
        self.counted: list[str] = []

    def count(self, fact: str) -> None:
        self.counted.append(fact)


@pytest.fixture
def board() -> CountingBoard:
    return CountingBoard()


@pytest.fixture
def log(board: CountingBoard) -> structlog.stdlib.BoundLogger:
    """Return a log whose events pass the alarms, and get no further."""

    def drop(_logger: object, _method: str, _fields: object) -> object:
        raise structlog.DropEvent

    processors = [structlog.stdlib.add_log_level, Alarms(board), drop]
    made: structlog.stdlib.BoundLogger = structlog.wrap_logger(None, processors=processors)
    return made


def events() -> set[str]:
    """Return every event that the code logs with level error."""
    sources = [path.read_text() for folder in ("app", "workers") for path in (ROOT / folder).rglob("*.py")]
    return {event for source in sources for event in CALL.findall(source)}


def test_every_error_is_expected() -> None:
    """The counter shows each with 0 from the beginning, and none that nobody logs."""
    assert events() == set(ALARMS)


@pytest.mark.parametrize("event", ALARMS)
def test_every_error_is_in_the_runbook(event: str) -> None:
    """Whoever is called finds what it means."""
    rows = [line for line in (ROOT / "deploy/runbook.md").read_text().splitlines() if line.startswith("|")]
    assert any(f"`{event}`" in row.split("|")[1] for row in rows)


def test_errors_are_counted_by_their_events(log: structlog.stdlib.BoundLogger, board: CountingBoard) -> None:
    """Only what is of level error is, and its fields are not looked at."""
    log.error("recording_lost", recording_sid="RE" + "1" * 32)
    log.warning("attempt_failed")
    log.info("recording_archived")
    assert board.counted == ["alarm_recording_lost"]


def test_text_makes_no_label(log: structlog.stdlib.BoundLogger, board: CountingBoard) -> None:
    """An event that is no static name is counted under none."""
    log.error("call +493012345678 failed")
    assert board.counted == ["alarm_other"]
