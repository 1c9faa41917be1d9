"""The scaling page says what the arithmetic says, and the arithmetic what was measured."""

import json
import subprocess
import sys
from itertools import pairwise

import pytest

from deploy.local.servers import ROOT

DEPLOY = ROOT / "deploy"


def scaling(*arguments: str) -> str:
    command = [sys.executable, str(DEPLOY / "scaling"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_page_has_the_tables_of_the_script() -> None:
    """What the page shows is what the command beside it prints, from the measured file as it is."""
    page = (DEPLOY / "scaling.md").read_text()
    assert scaling() in page
    measured = json.loads((DEPLOY / "scaling.json").read_text())
    assert f"{measured['date']} on {measured['machine']}" in page


def test_more_recordings_take_no_less() -> None:
    """Ten times the recordings take as many processes and as much of everything or more."""
    rows = [line.split("|")[2:-1] for line in scaling("1000", "10000", "100000").splitlines() if line.startswith("| 1")]
    assert len(rows) == 6

    def figures(row: list[str]) -> list[float]:
        return [float(cell.replace(",", "").split()[0]) for cell in row]

    for small, large in (pair for table in (rows[:3], rows[3:]) for pair in pairwise(table)):
        cents = 4 if len(small) == 6 else None  # each recording gets cheaper
        assert all(
            more >= less
            for place, (less, more) in enumerate(zip(figures(small), figures(large), strict=True))
            if place != cents
        )


@pytest.mark.parametrize("minutes", ["0.5", "60"])
def test_other_lengths_can_be_asked_for(minutes: str) -> None:
    """The length of a recording can be given."""
    assert f"One recording of {float(minutes):g} minutes" in scaling("--minutes", minutes, "1000")
