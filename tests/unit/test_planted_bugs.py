"""The planted bugs still fit the source that they are planted in."""

from pathlib import Path

import pytest

from tests.planted.bug import Bug, DoesNotApplyError, bug
from tests.planted.bugs import BUGS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("planted", BUGS, ids=lambda planted: planted.name)
def test_every_bug_still_applies(planted: Bug) -> None:
    """Each text that a bug replaces is in the source exactly once, and what comes of it is Python."""
    texts: dict[str, str] = {}
    for edit in planted.edits:
        texts[edit.path] = edit.applied(texts.get(edit.path) or (ROOT / edit.path).read_text(encoding="utf-8"))
    for path, text in texts.items():
        compile(text, path, "exec")


def test_there_are_enough_of_them() -> None:
    """There are at least thirty, and each has its name."""
    assert len({planted.name for planted in BUGS}) == len(BUGS) >= 30


def test_a_bug_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    """A bug of which one edit no longer applies leaves every file as it is."""
    (tmp_path / "one.py").write_text("good\n")
    (tmp_path / "two.py").write_text("other\n")
    with pytest.raises(DoesNotApplyError):
        bug("x", "y", ("one.py", "good", "bad"), ("two.py", "gone", "bad")).plant(tmp_path)
    assert (tmp_path / "one.py").read_text() == "good\n"
