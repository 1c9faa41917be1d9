"""A share of all crashes, another one each day: killed in the middle of its work, a process loses nothing."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.local.servers import ROOT
from tests.crash.matrix import Matrix

CRASHES = 12


@pytest.mark.timeout(900)
def test_nothing_is_lost_by_a_crash(tmp_path: Path) -> None:
    """Whoever is killed between two requests leaves each recording to be archived once, and none deleted early.

    `tests/crash/run` tries all crashes.
    """
    with Matrix(tmp_path, print) as matrix:
        known = matrix.cases()
        days = len(known) // CRASHES
        outcome = matrix.run(known[datetime.now(UTC).toordinal() % days :: days], hurry=True)
    assert outcome.cases >= CRASHES
    assert not outcome.not_reached
    assert outcome.verdict.findings == ()


@pytest.mark.parametrize("every", ["0", "-2"])
def test_a_share_of_nothing_is_refused(every: str) -> None:
    """Before anything is started, with the name of the option."""
    command = [sys.executable, str(ROOT / "tests" / "crash" / "run"), "--every", every]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--every" in refused.stderr.splitlines()[-1]
