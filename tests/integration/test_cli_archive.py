"""`archiver archive`: one recording now, or what would be done with it."""

import pytest

from deploy.local.twilio import Account, Simulator
from tests.integration.command_line import CommandLine
from tests.integration.workbench import Workbench

OTHER = "AC" + "c3" * 16


@pytest.fixture
def bench(workbench: Workbench, archiver: CommandLine, simulator: Simulator) -> Workbench:
    """Return both sides with two accounts, and nothing deleted."""
    simulator.store.accounts[OTHER] = Account(sid=OTHER, auth_tokens=["other-token"])
    archiver.use(workbench)
    archiver.set(TWILIO_DELETE="never")
    return workbench


def test_what_would_be_done_is_said_and_not_done(bench: Workbench, archiver: CommandLine) -> None:
    """A dry run names the step and leaves both sides as they are; then it is taken."""
    recording = bench.record()
    ran = archiver("archive", recording.sid, "--dry-run")
    assert (ran.code, ran.out) == (0, f"{recording.sid}: would be archived\n")
    assert bench.bucket.keys(recording) == []
    ran = archiver("archive", recording.sid, "--json")
    expected = {"account_sid": recording.account_sid, "recording_sid": recording.sid, "step": "archive"}
    assert (ran.code, ran.json) == (0, {"dry_run": False, "recordings": [expected]})
    assert archiver("archive", recording.sid, "--dry-run").out == f"{recording.sid}: nothing to do\n"


def test_what_is_gone_and_proven_is_not_called_due(bench: Workbench, archiver: CommandLine) -> None:
    """A deletion is due until it has its proof, and nothing is to be done any more once it has."""
    recording = bench.record()
    bench.archived(recording)
    archiver.set(TWILIO_DELETE="verified")
    for options in (["--dry-run"], []):
        assert archiver("archive", recording.sid, *options).out.endswith("its deletion is due\n")
    bench.delete(recording)
    for options in (["--dry-run"], []):
        assert archiver("archive", recording.sid, *options).out == f"{recording.sid}: nothing to do\n"


def test_every_account_and_a_whole_call_are_found(bench: Workbench, archiver: CommandLine) -> None:
    """Nobody has to know whose a recording is, and a call stands for all of its recordings."""
    theirs, ours = bench.simulator.record(OTHER, "call", 2.0), bench.record()
    ran = archiver("archive", theirs.sid, "--call", str(ours.call_sid))
    assert ran.code == 0
    assert sorted(ran.out.splitlines()) == sorted([f"{theirs.sid}: archived", f"{ours.sid}: archived"])


def test_what_nobody_knows_is_said(bench: Workbench, archiver: CommandLine) -> None:
    """One line, and no step."""
    ran = archiver("archive", "RE" + "0" * 32)
    assert (ran.code, ran.out) == (1, "")
    assert "not_found" in ran.err.splitlines()[-1]
