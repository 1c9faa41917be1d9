"""The product lives through seeded histories and every single fault without violating an invariant."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.model.clock import virtual_time
from tests.model.history import run
from tests.model.runner import Job, Summary, histories, matrix, work_off

HISTORIES = 3_000
ROOT = Path(__file__).parents[2]


def worked_off(jobs: list[Job]) -> Summary:
    *_, summary = work_off(jobs, os.cpu_count() or 1)
    return summary


@pytest.mark.timeout(900)
def test_no_history_violates_an_invariant() -> None:
    """Thousands of histories end with every recording where it belongs, and no invariant is violated on the way."""
    summary = worked_off(histories(0, HISTORIES))
    assert not summary.failures, summary.failures[0]
    assert summary.figures["histories"] == HISTORIES
    assert summary.figures["crashes"] > HISTORIES / 10


@pytest.mark.timeout(900)
def test_every_single_fault_ends_well() -> None:
    """Whatever strikes whichever call of a recording's life, once, it ends well, and mostly without a sweep."""
    summary = worked_off(matrix())
    assert not summary.failures, summary.failures[0]
    assert summary.figures["faults"] > 5_000


def test_a_seed_is_a_history() -> None:
    """The same seed gives the same history, call by call, also in another process."""
    with virtual_time() as shown:
        ours = str(run(shown, 42))
    theirs = subprocess.run(
        [sys.executable, "-m", "tests.model", "--seed", "42"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert theirs.stdout.strip() == ours.strip()
    assert len(ours.splitlines()) > 20


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    """A long run that was ended goes on where it was, also when the last line of its notes was cut."""
    notes, did = tmp_path / "done", []

    def live(number: int, *, fail_fast: bool) -> Summary:
        did.append(number)
        return Summary(Counter({"histories": number}))

    jobs: list[Job] = [(live, (number,)) for number in (1, 2, 3)]
    *_, first = work_off(jobs[:2], 1, kept=notes)
    notes.write_text(f"{notes.read_text()}\n{{'work")
    *_, second = work_off(jobs, 1, kept=notes)
    assert did == [1, 2, 3]
    assert (first.figures["histories"], second.figures["histories"]) == (3, 6)
