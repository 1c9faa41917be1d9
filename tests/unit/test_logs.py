"""Structured logs, each configuration in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import logging, sys, structlog
from app.logs import configure_logs
configure_logs(sys.argv[1], sys.argv[2])
log = structlog.get_logger()
log.debug("said_quietly")
with structlog.contextvars.bound_contextvars(recording_sid="RE1"):
    log.info("recording_archived", bytes=5)
logging.getLogger("some.library").warning("library %s", "speaks")
logging.getLogger("urllib3.connectionpool").info("GET https://host/?secret=1")
logging.getLogger("celery.worker.strategy").error("Received a task with arguments")
"""


def lines(log_format: str, level: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, log_format, level],
        cwd=ROOT,
        env={},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_logs_have_static_events_with_data_as_fields() -> None:
    """Each line is a JSON object with event, level, UTC time and what is bound, our own and a library's alike."""
    ours, theirs = map(json.loads, lines("json", "info"))
    assert (ours["event"], ours["level"], ours["bytes"], ours["recording_sid"]) == (
        "recording_archived",
        "info",
        5,
        "RE1",
    )
    assert ours["at"].endswith("Z")
    assert (theirs["event"], theirs["level"]) == ("library speaks", "warning")


def test_console_logs_are_plain_without_a_terminal() -> None:
    """The console format writes no colour codes into a file."""
    output = lines("console", "info")
    assert len(output) == 2
    assert "\x1b" not in "".join(output)
    assert "recording_archived" in output[0]


@pytest.mark.parametrize(("level", "events"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)])
def test_level_filters_and_libraries_stay_quiet(level: str, events: int) -> None:
    """Nothing below the level is written, and libraries never write requests or the arguments of tasks."""
    assert len(lines("json", level)) == events
