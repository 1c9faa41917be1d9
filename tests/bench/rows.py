"""What a benchmark found: one row for each comparison, shown as a table, as Markdown and as JSON."""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

Run = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One figure of ours beside another one, in the same `unit`, from the same run.

    `other` names what `theirs` is of: a rival, or a limit. `low` and `high` are the extremes of ours over the rounds.
    `bound` says what is asked for, in words, and `kept` whether it holds; both are empty where nothing is asked.
    """

    benchmark: str
    what: str
    unit: str
    ours: float
    low: float
    high: float
    other: str = ""
    theirs: float | None = None
    bound: str = ""
    kept: bool | None = None

    @classmethod
    def of(cls, benchmark: str, what: str, unit: str, measured: Sequence[float], **more: Any) -> Self:
        """Make a row of the rounds of one figure: their median and extremes."""
        return cls(benchmark, what, unit, statistics.median(measured), min(measured), max(measured), **more)

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return self.ours / self.theirs if self.theirs else None

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f} x"
        theirs = "" if self.theirs is None else f"{_number(self.theirs)} {self.other}"
        verdict = {True: "kept", False: "NOT KEPT", None: ""}[self.kept]
        spread = f"{_number(self.low)} to {_number(self.high)}"
        return (f"{self.what}, {self.unit}", _number(self.ours), spread, theirs, ratio, self.bound, verdict)


HEADINGS = ("figure", "ours", "spread", "beside", "ratio", "asked", "")


def alternating(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Run each program in turn, so many times, so that whatever else the machine does meets them all."""
    measured: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            measured[name].append(run())
    return measured


def as_table(rows: Iterable[Row]) -> str:
    """Show rows on a terminal, a heading above each benchmark."""
    lines: list[str] = []
    cells = [(row.benchmark, row.cells()) for row in rows]
    widths = [max(len(line[column]) for line in [HEADINGS, *(each for _, each in cells)]) for column in range(7)]
    shown = ""
    for benchmark, line in cells:
        if benchmark != shown:
            shown = benchmark
            lines += ["", f"{benchmark}:", _padded(HEADINGS, widths)]
        lines.append(_padded(line, widths))
    return "\n".join(lines).strip("\n")


def as_markdown(rows: Iterable[Row]) -> str:
    """Show the same as a table of Markdown."""
    lines = ["| benchmark | " + " | ".join(HEADINGS[:6]) + " |", "| --- |" + " --- |" * 6]
    escaped = [[cell.replace("|", "\\|") for cell in (row.benchmark, *row.cells()[:6])] for row in rows]
    lines += ["| " + " | ".join(cells) + " |" for cells in escaped]
    return "\n".join(lines)


def as_json(rows: Iterable[Row], machine: dict[str, Any]) -> str:
    """Return all figures with what they were measured on."""
    return json.dumps({"machine": machine, "rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}, indent=1)


def _padded(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
