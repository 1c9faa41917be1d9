"""What a check says: its name, how it ended, what was found, and the mend."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check ended; only `RED` is a reason not to go into production."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"
    SKIPPED = "skipped"  # could not be tried, or was not asked for: nothing is claimed


@dataclass(frozen=True, slots=True)
class Result:
    """One line of `archiver check`. Holds names, hosts, SIDs and codes, never a secret."""

    name: str
    state: State
    found: str
    mend: str = ""


def green(name: str, found: str) -> Result:
    """Say what was tried and held."""
    return Result(name, State.GREEN, found)


def amber(name: str, found: str, mend: str) -> Result:
    """Say what works and should nevertheless be mended."""
    return Result(name, State.AMBER, found, mend)


def red(name: str, found: str, mend: str) -> Result:
    """Say what does not work."""
    return Result(name, State.RED, found, mend)


def skipped(name: str, found: str) -> Result:
    """Say what was not tried, and why."""
    return Result(name, State.SKIPPED, found)
