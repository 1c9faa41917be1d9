"""The product lives through seeded histories and every single fault without violating an invariant."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.model.__main__ import main
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


def test_what_another_product_has_done_does_not_count(tmp_path: Path) -> None:
    """Whoever changes product or model begins anew, also with the notes of an earlier run."""
    notes, did = tmp_path / "done", []

    def live(number: int, *, fail_fast: bool) -> Summary:
        did.append(number)
        return Summary(Counter({"histories": number}))

    jobs: list[Job] = [(live, (number,)) for number in (1, 2)]
    *_, _ = work_off(jobs, 1, kept=notes)
    source = json.loads(notes.read_text().splitlines()[-1])["source"]
    notes.write_text(notes.read_text().replace(source, "0" * len(source), 1))
    *_, summary = work_off(jobs, 1, kept=notes)
    assert did == [1, 2, 1]
    assert summary.figures["histories"] == 3


def test_what_ended_with_a_failure_is_not_done(tmp_path: Path) -> None:
    """A run that ends at its first failure leaves the rest of that work to the next run."""
    notes = tmp_path / "done"

    def live(*, fail_fast: bool) -> Summary:
        return Summary(Counter({"histories": 7, "failures": 1}), ["VIOLATION"])

    jobs: list[Job] = [(live, ())]
    *_, _ = work_off(jobs, 1, fail_fast=True, kept=notes)
    assert not notes.exists()
    *_, _ = work_off(jobs, 1, kept=notes)
    assert notes.exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--histories", "0"), "--histories"),
        (("--histories", "10", "--jobs", "0"), "--jobs"),
        (("--machine", "-1"), "--machine"),
        (("--histories", "10", "--keep", "/nowhere/at/all"), "--keep"),
        (("--machine", "10", "--keep", "done"), "--keep"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of nothing is none without a violation, and what would fail after hours fails at once."""
    with pytest.raises(SystemExit) as refused:
        main(list(arguments))
    assert refused.value.code == 2
    assert named in capsys.readouterr().err.splitlines()[-1]
