"""The audit on a terminal: numbers by day, how many recordings are in each state, and what to look at."""

from typing import Final

from rich.console import Console
from rich.text import Text

from workers.commands.common import plain, table
from workers.judgement import State
from workers.reports import COLUMNS, MEANINGS, Report

_SHOWN: Final = 50
_STYLES: Final = {
    State.OK: "green",
    State.LOST: "bold red",
    State.MISMATCH: "red",
    State.QUARANTINED: "red",
    State.MISSING: "yellow",
    State.STUCK_AT_SOURCE: "yellow",
    State.DELETED_ELSEWHERE: "yellow",
}


def print_report(report: Report, console: Console) -> None:
    """Print a report as tables."""
    with_accounts = len(report.scope.account_sids) > 1
    account = ["account"] if with_accounts else []
    days = table(["day", *account, *(f">{name}" for name in COLUMNS)])
    for row in report.days:
        sid = [plain(row.account_sid)] if with_accounts else []
        days.add_row(plain(row.day or "without a day"), *sid, *(_number(getattr(row, name)) for name in COLUMNS))
    blank = [Text("")] if with_accounts else []
    days.add_row(Text("all", style="bold"), *blank, *(_number(report.total(name), "bold") for name in COLUMNS))
    console.print(days)

    states = table(["state", ">recordings", "meaning"])
    for state in State:
        if count := report.total(state):
            states.add_row(_state(state), _number(count), plain(MEANINGS[state]))
    if report.totals:
        console.print("", states, sep="\n")

    if shown := report.worst_first()[:_SHOWN]:
        exceptions = table(["state", "day", "recording", "why"])
        for each in shown:
            verdict = each.verdict
            exceptions.add_row(_state(verdict.state), plain(each.day), plain(each.recording_sid), plain(verdict.why))
        console.print("", exceptions, sep="\n")
        if more := report.discrepancies - len(shown):
            console.print(f"and {more:,} more; --report FILE.csv lists them all")

    for line, style in _verdict(report):
        console.print(Text(line, style=style), soft_wrap=True)


def _verdict(report: Report) -> list[tuple[str, str]]:
    lines = [("", "")]
    for each in report.unread:
        whence = each.day or "its documents without a day"
        lines.append((f"{each.account_sid} was not read from {whence} back: {each.unread}", "bold red"))
    lines += [
        (f"{sid} is active at Twilio and not configured: nobody archives it", "yellow") for sid in report.strangers
    ]
    if foreign := report.total("foreign_keys"):
        lines.append((f"{foreign:,} objects under the archive's prefixes belong to no recording", "yellow"))
    if report.discrepancies:
        lines.append((f"{report.discrepancies:,} of {report.total('recordings'):,} recordings to look at", "bold red"))
    elif report.complete:
        lines.append((f"all {report.total('recordings'):,} recordings are accounted for", "green"))
    return lines


def _state(state: State) -> Text:
    return Text(state, style=_STYLES.get(state, ""))


def _number(value: int, style: str = "") -> Text:
    return Text(f"{value:,}", style=style if value else "dim")
