"""What a planted bug is: a few exact replacements in the product's source, and what they make it do wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class DoesNotApplyError(Exception):
    """The text that a bug replaces is not there, or there more than once."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in one file."""

    path: str
    before: str
    after: str

    def applied(self, text: str) -> str:
        """Return the text with the replacement made. Raises `DoesNotApplyError`."""
        if text.count(self.before) != 1:
            raise DoesNotApplyError(f"{self.path} holds {text.count(self.before)} times: {self.before!r}")
        return text.replace(self.before, self.after)


@dataclass(frozen=True, slots=True)
class Bug:
    """`does` says what is wrong then; `tests` beside the model should notice it, too, and are named as for pytest."""

    name: str
    does: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]

    def plant(self, root: Path) -> None:
        """Apply it to a copy of the checkout. Raises `DoesNotApplyError` and changes nothing then."""
        texts: dict[str, str] = {}
        for edit in self.edits:
            text = texts.get(edit.path) or (root / edit.path).read_text(encoding="utf-8")
            texts[edit.path] = edit.applied(text)
        for path, text in texts.items():
            (root / path).write_text(text, encoding="utf-8")


def bug(name: str, does: str, *edits: tuple[str, str, str], tests: tuple[str, ...] = ()) -> Bug:
    """Write down a bug: each edit is a path, what is there, and what comes instead."""
    return Bug(name, does, tuple(Edit(*edit) for edit in edits), tests)
