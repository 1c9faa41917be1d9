"""The audit on a terminal: numbers by day, how many recordings are in each state, and what to look at."""

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workers.audit import Finding
from workers.commands.common import plain, table
from workers.judgement import State
from workers.reports import COLUMNS, MEANINGS, DayRow, Report, sums

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
    for account_sid, rows in report.by_account():
        if with_accounts:
            console.print(Text(f"account {account_sid}", style="dim"))
        busy = [row for row in rows if row.states]
        console.print(_days(busy))
        if idle := len(rows) - len(busy):
            console.print(Text(f"{idle:,} other days without a recording", style="dim"))
    if with_accounts:
        console.print(Text("\nall accounts", style="dim"), _days([], report.days), sep="\n")

    states = table(["state", ">recordings", "meaning"])
    for state in State:
        if count := report.total(state):
            states.add_row(_state(state), _number(count), plain(MEANINGS[state]))
    if report.totals:
        console.print("", states, sep="\n")

    shown = report.worst_first()[:_SHOWN]
    for (state, why, account_sid), findings in _grouped(shown).items():
        whose = f" (account {account_sid})" if with_accounts else ""
        console.print("", Text.assemble(_state(state), f": {why}{whose}"), sep="\n", soft_wrap=True)
        for each in findings:
            console.print(Text(f"  {each.day or 'undated'!s:10}  {each.recording_sid}"), soft_wrap=True)
    if more := report.discrepancies - len(shown):
        console.print(f"and {more:,} more; --report FILE.csv lists them all")

    for line, style in _verdict(report):
        console.print(Text(line, style=style), soft_wrap=True)


def _days(shown: Sequence[DayRow], added: Sequence[DayRow] | None = None) -> Table:
    """Show days, and the sum of those in `added` (else of themselves)."""
    made = table(["day", *(f">{name}" for name in COLUMNS)])
    for row in shown:
        made.add_row(plain(row.day or "undated"), *(_number(getattr(row, name)) for name in COLUMNS))
    made.add_row(
        Text(f"{'all':10}", style="bold"), *(_number(each, "bold") for each in sums(shown if added is None else added))
    )
    return made


def _grouped(findings: Iterable[Finding]) -> dict[tuple[State, str, str], list[Finding]]:
    """Put together what there is the same to say of."""
    groups: dict[tuple[State, str, str], list[Finding]] = {}
    for each in findings:
        groups.setdefault((each.verdict.state, each.verdict.why, each.account_sid), []).append(each)
    return groups


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
