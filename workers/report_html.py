"""The audit as one HTML page that can be printed on A4: no script, nothing from the network."""

from collections.abc import Iterable, Sequence
from datetime import date
from html import escape
from importlib.resources import files
from string import Template
from typing import Final, TextIO

from app.receipt import archiver_version
from app.recording import is_sid
from workers.audit import DayAudit
from workers.judgement import State
from workers.reports import COLUMNS, MEANINGS, DayRow, Report, sums

_HEADS: Final = {"gone": "Gone from Twilio", "quarantined": "In quarantine", "read": "Read again"}


class HtmlFile:
    """The page, written when the audit has ended."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def add(self, audited: DayAudit) -> None:
        """Write nothing yet: the page begins with the sums."""

    def finish(self, report: Report) -> None:
        """Write the page."""
        template = Template(files("workers").joinpath("audit_report.html").read_text(encoding="utf-8"))
        with_accounts = len(report.scope.account_sids) > 1
        page = template.substitute(
            since=report.scope.since,
            until=report.scope.until,
            finished=f"{report.finished:%Y-%m-%d %H:%M} UTC" if report.finished else "never",
            verdict=_verdict(report),
            checked=_checked(report),
            totals=_rows(_totals(report)),
            days=_days(report, with_accounts),
            exceptions=_exceptions(report, with_accounts),
            notices=_notices(report),
        )
        self._out.write(page)


def _verdict(report: Report) -> str:
    lines = []
    if report.unread:
        accounts = sorted({each.account_sid for each in report.unread})
        of = len(report.scope.account_sids)
        lines.append(("bad", f"Incomplete: {len(accounts)} of {of} accounts could not be read to the end."))
    if lost := report.total(State.LOST):
        lines.append(("bad", f"{lost:,} {_recordings(lost)} lost: deleted at Twilio and not archived."))
    if others := report.discrepancies - lost:
        lines.append(("warn", f"{others:,} {'other ' if lost else ''}{_recordings(others)} to look at."))
    if report.strangers:
        count = len(report.strangers)
        which = "1 active account at Twilio is" if count == 1 else f"{count:,} active accounts at Twilio are"
        lines.append(("warn", f"{which} not configured: nobody archives what is recorded there."))
    if not lines:
        lines.append(("good", f"All {report.total('recordings'):,} recordings are accounted for."))
    return "".join(f'<p class="verdict {kind}">{escape(text)}</p>' for kind, text in lines)


def _checked(report: Report) -> str:
    scope = report.scope
    share = f"{scope.read_share:.0%} of the media, {report.total('read'):,} recordings" if scope.read_share else "none"
    facts = [
        ("Accounts", ", ".join(scope.account_sids)),
        ("Archive", f"s3://{scope.bucket}/{scope.prefix}"),
        (
            "Compared",
            "Twilio's list with what is soft-deleted; media and documents in S3",
        ),
        ("Read again", share),
        ("Deletion at Twilio", scope.twilio_delete),
        ("Began", f"{report.began:%Y-%m-%d %H:%M:%S} UTC"),
        ("Finished", f"{report.finished:%Y-%m-%d %H:%M:%S} UTC" if report.finished else "never"),
        ("By", f"Recording Archiver {archiver_version()}"),
    ]
    facts += [
        ("Not read", f"{each.account_sid} from {each.day or 'its documents without a day'} back: {each.unread}")
        for each in report.unread
    ]
    facts += [("Not configured", sid) for sid in report.strangers]
    if foreign := report.total("foreign_keys"):
        facts.append(("Foreign objects", f"{foreign:,} objects under the archive's prefixes belong to no recording"))
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)


def _totals(report: Report) -> Iterable[Sequence[object]]:
    for state in State:
        if count := report.total(state):
            yield state, count, MEANINGS[state]
    yield "all", report.total("recordings"), ""


def _days(report: Report, with_accounts: bool) -> str:
    if not with_accounts:
        return _days_table(report.days, report.days)
    tables = [f"<h3>Account {sid}</h3>{_days_table(rows, rows)}" for sid, rows in report.by_account()]
    return f"{''.join(tables)}<h3>All accounts</h3>{_days_table([], report.days)}"


def _days_table(shown: Iterable[DayRow], added: Iterable[DayRow]) -> str:
    rows: list[list[object]] = [[row.day or "undated", *(getattr(row, name) for name in COLUMNS)] for row in shown]
    names = "".join(f'<th class="n">{_HEADS.get(name, name.capitalize())}</th>' for name in COLUMNS)
    body = _rows([*rows, ["all", *sums(added)]])
    return f"<table><thead><tr><th>Day</th>{names}</tr></thead><tbody>{body}</tbody></table>"


def _exceptions(report: Report, with_accounts: bool) -> str:
    if not report.discrepancies:
        return "<p>None.</p>"
    rows: list[Sequence[object]] = []
    for each in report.worst_first():
        sids = f"{each.recording_sid}\n{each.account_sid}" if with_accounts else each.recording_sid
        rows.append([each.verdict.state, each.day or "undated", sids, each.verdict.why])
    head = _head("State", "Day", "Recording, account" if with_accounts else "Recording", "Why")
    more = report.discrepancies - len(rows)
    rest = f"<p>And {more:,} more, which the CSV and JSON reports list.</p>" if more else ""
    return f"<table>{head}<tbody>{_rows(rows, last_is_sum=False)}</tbody></table>{rest}"


def _notices(report: Report) -> str:
    if not report.notices:
        return ""
    rows = [[state, count, why] for (state, why), count in sorted(report.notices.items())]
    head = '<thead><tr><th>State</th><th class="n">Recordings</th><th>Why</th></tr></thead>'
    body = _rows(rows, last_is_sum=False)
    return f"<h2>Other notes, which ask for nothing</h2><table>{head}<tbody>{body}</tbody></table>"


def _head(*names: str) -> str:
    return f"<thead><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr></thead>"


def _rows(rows: Iterable[Sequence[object]], *, last_is_sum: bool = True) -> str:
    rows = list(rows)
    lines = []
    for number, row in enumerate(rows, start=1):
        kind = ' class="sum"' if last_is_sum and number == len(rows) else ""
        lines.append(f"<tr{kind}>{''.join(_cell(value) for value in row)}</tr>")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, State):
        return f'<td class="state">{value}</td>'
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    if isinstance(value, date):
        return f'<td class="state">{value}</td>'
    text = escape(str(value))
    of_sids = all(is_sid(line, "AC") or is_sid(line, "RE") for line in text.split("\n"))
    return f'<td class="sid">{text}</td>' if of_sids else f"<td>{text}</td>"


def _recordings(count: int) -> str:
    return "recording" if count == 1 else "recordings"
