"""`archiver deletions` against the real S3 server."""

import pytest

from tests.integration.command_line import CommandLine
from tests.integration.workbench import Workbench
from workers.deletion import pause_deletions
from workers.errors import ForbiddenDeletionError

KEY = "control/deletions-paused.json"
RUNNING = {"paused": False, "reason": None, "paused_at": None, "recording_sid": None}


@pytest.fixture
def bench(workbench: Workbench, archiver: CommandLine) -> Workbench:
    archiver.use(workbench)
    return workbench


def test_nothing_is_deleted_while_paused(bench: Workbench, archiver: CommandLine) -> None:
    """Between pause and resume a deletion is forbidden, and then it is carried out."""
    recording = bench.record()
    bench.archived(recording)
    assert archiver("deletions", "pause", "--reason", "moving").code == 0
    with pytest.raises(ForbiddenDeletionError, match="deletions_paused"):
        bench.delete(recording)
    ran = archiver("deletions", "resume")
    assert (ran.code, ran.out) == (0, "deletions are not paused\n")
    bench.delete(recording)
    assert bench.deletes(recording) == [204]


def test_the_status_says_why_and_since_when(bench: Workbench, archiver: CommandLine) -> None:
    """Before, while and after: in words and as JSON."""
    assert archiver("deletions", "status", "--json").json == RUNNING
    assert archiver("deletions", "status").out == "deletions are not paused\n"
    paused = archiver("deletions", "pause", "--reason", "moving", "--json").json
    assert (paused["paused"], paused["reason"], paused["recording_sid"]) == (True, "moving", None)
    assert archiver("deletions", "status", "--json").json == paused
    assert archiver("deletions", "status").out == f"deletions are paused since {paused['paused_at']}: moving\n"
    assert archiver("deletions", "resume", "--json").json == RUNNING


def test_the_first_pause_stands(bench: Workbench, archiver: CommandLine) -> None:
    """A second one does not hide the first reason."""
    archiver("deletions", "pause", "--reason", "first")
    ran = archiver("deletions", "pause", "--reason", "second")
    assert (ran.code, ran.out.endswith(": first\n")) == (0, True)
    assert len(bench.versions(KEY)) == 1


def test_a_pause_by_a_recording_names_it(bench: Workbench, archiver: CommandLine) -> None:
    """What a mismatch has stopped says which recording it was, and resuming says how to look at it."""
    recording_sid = "RE" + "3" * 32
    pause_deletions(bench.archive, "archive_differs", recording_sid)
    assert f" by {recording_sid}: archive_differs\n" in archiver("deletions", "status").out
    ran = archiver("deletions", "resume")
    assert (ran.code, ran.out) == (0, "deletions are not paused\n")
    assert ran.err.endswith(f"archiver show {recording_sid}\n")


def test_a_switch_that_cannot_be_read(bench: Workbench, archiver: CommandLine) -> None:
    """It stops deletions all the same, is said to, and can be removed."""
    bench.overwrite(KEY, b"junk")
    assert archiver("deletions", "status").out == "deletions are paused since -: -\n"
    assert archiver("deletions", "resume").code == 0
    assert bench.bucket.body(KEY) is None


def test_resuming_what_runs(bench: Workbench, archiver: CommandLine) -> None:
    """It is harmless."""
    ran = archiver("deletions", "resume")
    assert (ran.code, ran.out, ran.err) == (0, "deletions are not paused\n", "")


def test_a_dry_run_changes_nothing(bench: Workbench, archiver: CommandLine) -> None:
    """Neither a pause nor its end is written."""
    assert archiver("deletions", "pause", "--reason", "moving", "--dry-run").err == "deletions would be paused\n"
    assert bench.bucket.body(KEY) is None
    archiver("deletions", "pause", "--reason", "moving")
    assert archiver("deletions", "resume", "--dry-run").err.startswith("this would end: paused since ")
    assert bench.bucket.body(KEY) is not None


def test_a_reason_is_asked_for(bench: Workbench, archiver: CommandLine) -> None:
    """Nobody stops deletions without saying why."""
    assert archiver("deletions", "pause").code == 2
    assert bench.requests() == []
