"""The pages that an operator reads: their links lead somewhere, and their commands and settings exist."""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import click
import pytest

from app.settings import BeatSettings, FetchSettings, WebSettings
from tests.unit.test_monitoring import anchors
from workers.cli import archiver

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "deploy").rglob("*.md"))]
COMMAND = re.compile(r"`(?:heroku run -- )?archiver ([^`\n]+)`|^(?:heroku run -- )?archiver (.+)$", re.MULTILINE)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    """What a page refers to in this repository is there, the section included."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, section = link.partition("#")
        if not re.match(r"https?:", link):
            target = (page.parent / path) if path else page
            assert target.exists(), link
            assert not section or section in anchors(target), link


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words behind `archiver` wherever a page tells to type it."""
    for match in COMMAND.finditer(page.read_text()):
        words = (match[1] or match[2]).partition("  #")[0].split()
        if words[0] != "…":
            yield words


@pytest.mark.parametrize("page", [page for page in PAGES if list(commands(page))], ids=named)
def test_every_command_exists(page: Path) -> None:
    """Each command of the command line that a page names is one, and so is each of its options."""
    for words in commands(page):
        command: click.Command = archiver
        for word in words:
            if word.startswith("-"):
                assert word.partition("=")[0] in options(command), words
            elif isinstance(command, click.Group):
                found = command.get_command(click.Context(command), word)
                assert found is not None, words
                command = found


def options(command: click.Command) -> set[str]:
    """Return every name of every option of a command."""
    return {name for option in command.get_params(click.Context(command)) for name in option.opts}


def test_commands_are_found_in_the_pages() -> None:
    """The pages name most of the command line, in lines and in sentences."""
    used = {words[0] for page in PAGES for words in commands(page)}
    assert len(used & set(archiver.list_commands(click.Context(archiver)))) >= 10


def test_the_readme_lists_every_setting() -> None:
    """Its table has each setting of each process, and none that is gone; what an add-on sets is not set by hand."""
    section = (ROOT / "README.md").read_text().partition("\n## Settings\n")[2].partition("\n## ")[0]
    listed = {name for row in re.findall(r"(?m)^\| (`[^|]+) \|", section) for name in re.findall(r"`(\w+)`", row)}
    known = {name for cls in (WebSettings, FetchSettings, BeatSettings) for name in cls.model_fields}
    assert {name for name in listed if not name.startswith("AWS_")} == {
        name for name in known if not name.startswith("BUCKETEER_")
    }


def longest(years: int) -> int:
    """Return how many days so many years have at most."""
    starts = [date(2023, 1, 1) + timedelta(days=n) for n in range(4 * 365 + 1)]
    ends = [date(start.year + years, start.month, 1) + timedelta(days=start.day - 1) for start in starts]
    return max((end - start).days for start, end in zip(starts, ends, strict=True))


def test_a_retention_of_years_is_not_a_day_short() -> None:
    """What the pages, the template and the auditor's query say of years has the leap days in it."""
    security = (ROOT / "deploy/security.md").read_text()
    assert f"({longest(6)} for six years" in security
    assert f"`ARCHIVE_RETENTION_DAYS={longest(5)}`, or {longest(7)}" in security
    six_years = {
        "deploy/ecs/README.md": rf"RetentionDays={longest(6)}\b",
        "deploy/ecs/template.yaml": rf"RetentionDays:\n    Type: Number\n    Default: {longest(6)}\n",
        "deploy/athena/queries.sql": rf"INTERVAL '{longest(6)}' DAY",
    }
    for path, told in six_years.items():
        assert re.search(told, (ROOT / path).read_text()), path
