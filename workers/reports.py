"""The audit's reports: what is said of all recordings together, and the files that say it of each.

Files are written as the audit goes, a day at a time; only sums, a row for each day and the first exceptions stay in
memory.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from io import StringIO
from itertools import groupby
from typing import Any, Final, Protocol, TextIO

from app.board import AUDIT, COMPLETE_AUDIT, Board, of_audit
from app.receipt import archiver_version, iso
from app.settings import WorkerSettings
from workers.audit import DayAudit, Finding
from workers.judgement import WITHOUT_AUDIO, State, Verdict

MAX_SHOWN: Final = 200  # exceptions of a state that people are shown one by one; CSV and JSON have them all
COLUMNS: Final = ("expected", "archived", "verified", "gone", "absent", "quarantined", "lost", "read")
CSV_FIELDS: Final = ("account_sid", "recording_sid", "day", "state", "discrepancy", "read", "why")

MEANINGS: Final[Mapping[State, str]] = {
    State.OK: "archived and gone from Twilio",
    State.KEPT: "archived; the Twilio copy is kept",
    State.IN_FLIGHT: "too young to judge, or being worked on",
    State.MISSING: "completed at Twilio and not archived yet",
    State.NO_AUDIO: "no audio at Twilio, for a reason that it gave",
    State.FAILED_AT_SOURCE: "the audio was lost at Twilio",
    State.STUCK_AT_SOURCE: "not finished at Twilio for over an hour",
    State.EXPIRED: "its retention ended and it was removed",
    State.DELETED_ELSEWHERE: "archived; the Twilio copy was deleted by somebody else",
    State.LOST: "deleted at Twilio and not archived",
    State.MISMATCH: "media, receipt and Twilio do not agree",
    State.EXTERNALLY_STORED: "Twilio wrote it to the account's own storage",
    State.QUARANTINED: "its content failed verification",
    State.AGED_OUT: "archived; beyond the days that Twilio shows what was deleted",
}


# How exceptions are shown: what is worst comes first, whatever there is more of.
BY_SEVERITY: Final = (
    State.LOST,
    State.MISMATCH,
    State.QUARANTINED,
    State.MISSING,
    State.STUCK_AT_SOURCE,
    State.DELETED_ELSEWHERE,
    State.KEPT,
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What was checked: UTC days (inclusive), accounts, and the share of the media that was read again (0 to 1)."""

    since: date
    until: date
    account_sids: tuple[str, ...]
    read_share: float
    bucket: str
    prefix: str
    twilio_delete: str


def scope_of(
    settings: WorkerSettings, since: date, until: date, account_sids: Iterable[str] = (), read_share: float = 0.0
) -> Scope:
    """Return what an audit checks: every configured account unless some are named."""
    delete_after = settings.TWILIO_DELETE
    rule = "never" if delete_after is None else f"{delete_after} after archival" if delete_after else "once verified"
    return Scope(
        since=since,
        until=until,
        account_sids=tuple(account_sids) or tuple(settings.accounts),
        read_share=read_share,
        bucket=settings.ARCHIVE_BUCKET,
        prefix=settings.ARCHIVE_PREFIX,
        twilio_delete=rule,
    )


@dataclass(frozen=True, slots=True)
class DayRow:
    """The numbers of one day of one account."""

    account_sid: str
    day: date | None
    expected: int
    archived: int
    verified: int
    gone: int
    absent: int
    quarantined: int
    lost: int
    read: int
    states: Mapping[State, int]


@dataclass(slots=True)
class Report:
    """The sums of an audit; `finished` is None until it has ended.

    `discrepancies` counts all, and `exceptions` are the first `MAX_SHOWN` of each state; `notices` count what is worth
    a word and asks for nothing. `deletions_pending` counts deletions that are due and that nothing forbids; `strangers`
    are active accounts at Twilio that are not configured.
    """

    scope: Scope
    began: datetime
    finished: datetime | None = None
    days: list[DayRow] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)
    exceptions: dict[State, list[Finding]] = field(default_factory=dict)
    discrepancies: int = 0
    notices: Counter[tuple[State, str]] = field(default_factory=Counter)
    unread: list[DayAudit] = field(default_factory=list)
    deletions_pending: int = 0
    strangers: list[str] = field(default_factory=list)

    def add(self, audited: DayAudit) -> None:
        """Count a day in."""
        if audited.unread is not None:
            self.unread.append(audited)
            return
        states = audited.states
        row = DayRow(
            account_sid=audited.account_sid,
            day=audited.day,
            expected=audited.expected,
            archived=audited.archived,
            verified=audited.verified,
            gone=audited.gone,
            absent=sum(states[state] for state in WITHOUT_AUDIO),
            quarantined=states[State.QUARANTINED],
            lost=states[State.LOST],
            read=audited.read,
            states=states,
        )
        self.days.append(row)
        self.totals.update({name: getattr(row, name) for name in COLUMNS if name not in ("quarantined", "lost")})
        self.totals.update({str(state): count for state, count in states.items()})
        self.totals["recordings"] += len(audited.findings)
        self.totals["foreign_keys"] += audited.foreign
        for finding in audited.findings:
            if finding.verdict.state is State.KEPT and finding.verdict.unfinished:
                self.deletions_pending += 1
            if finding.verdict.wrong:
                self.discrepancies += 1
                shown = self.exceptions.setdefault(finding.verdict.state, [])
                if len(shown) < MAX_SHOWN:
                    shown.append(finding)
            elif finding.verdict.why:
                self.notices[finding.verdict.state, finding.verdict.why] += 1

    @property
    def complete(self) -> bool:
        """Whether every account could be read."""
        return not self.unread

    def by_account(self) -> list[tuple[str, list[DayRow]]]:
        """Return the days of each account, as far as it could be read."""
        return [(sid, list(rows)) for sid, rows in groupby(self.days, key=lambda row: row.account_sid)]

    def worst_first(self) -> list[Finding]:
        """Return the exceptions that are shown, by severity."""
        return [finding for state in BY_SEVERITY for finding in self.exceptions.get(state, ())]

    def total(self, name: str) -> int:
        """Return a total: one of `COLUMNS`, a state, `recordings` or `foreign_keys`."""
        return self.totals[name]

    def all_totals(self) -> dict[str, int]:
        """Return every total by its name, the zeros too."""
        names = ["recordings", *COLUMNS, *(str(state) for state in State), "foreign_keys", "discrepancies"]
        return {name: self.totals[name] for name in names} | {"discrepancies": self.discrepancies}

    def checked(self) -> dict[str, Any]:
        """Return what was checked, when and by which version."""
        return {
            "began_at": iso(self.began),
            "finished_at": iso(self.finished) if self.finished else None,
            "archiver_version": archiver_version(),
            **asdict(self.scope),
            "complete": self.complete,
            "unread": [
                {"account_sid": each.account_sid, "from_day_back": each.day, "reason": str(each.unread)}
                for each in self.unread
            ],
            "unconfigured_accounts": self.strangers,
        }


def sums(rows: Iterable[DayRow]) -> list[int]:
    """Add some days up, for each of `COLUMNS`."""
    rows = list(rows)
    return [sum(getattr(row, name) for row in rows) for name in COLUMNS]


class ReportFile(Protocol):
    """A file that is written as the audit goes."""

    def add(self, audited: DayAudit) -> None:
        """Write a day's recordings."""

    def finish(self, report: Report) -> None:
        """Write what is known only at the end."""


class JsonFile:
    """One JSON object: `recordings` (one a line), `days`, `totals` and `checked`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._separator = '{"recordings":[\n'

    def add(self, audited: DayAudit) -> None:
        """Write a day's recordings."""
        begin = f'{{"account_sid":"{audited.account_sid}","recording_sid":"'
        for line in _lines(audited, begin, lambda fields: f'",{_dumps(fields)[1:]}'):
            self._out.write(self._separator + line)
            self._separator = ",\n"

    def finish(self, report: Report) -> None:
        """Write days, totals and what was checked."""
        self._out.write(self._separator if self._separator.startswith("{") else "\n")
        days = [asdict(row) | {"states": dict(row.states)} for row in report.days]
        rest = {"days": days, "totals": report.all_totals(), "checked": report.checked()}
        self._out.write(f"],{_dumps(rest)[1:]}\n")


class CsvFile:
    """One line for each recording, under `CSV_FIELDS`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        csv.writer(out, lineterminator="\r\n").writerow(CSV_FIELDS)

    def add(self, audited: DayAudit) -> None:
        """Write a day's recordings."""
        for line in _lines(audited, f"{audited.account_sid},", _csv_rest):
            self._out.write(line)

    def finish(self, report: Report) -> None:
        """Write nothing: sums are not lines of recordings."""


def _lines(audited: DayAudit, begin: str, render: Callable[[dict[str, Any]], str]) -> Iterator[str]:
    """Yield a line for each recording: `begin`, the SID, and the rest, rendered once for all that say the same."""
    rendered: dict[tuple[Verdict, bool], str] = {}
    for finding in audited.findings:
        verdict = finding.verdict
        rest = rendered.get((verdict, finding.read))
        if rest is None:
            rest = rendered[verdict, finding.read] = render(
                {
                    "day": str(audited.day) if audited.day else None,
                    "state": str(verdict.state),
                    "discrepancy": verdict.wrong,
                    "read": finding.read,
                    "why": verdict.why,
                }
            )
        yield f"{begin}{finding.recording_sid}{rest}"


def post(board: Board, report: Report) -> None:
    """Put on the board what an audit has found, and when, if it could read every account."""
    board.post(
        AUDIT,
        deletions_pending=report.deletions_pending,
        unconfigured_accounts=len(report.strangers),
        **of_audit({str(state): report.total(state) for state in State}),
    )
    if report.complete:
        board.post(COMPLETE_AUDIT)


def _dumps(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"), default=str)


def _csv_rest(fields: dict[str, Any]) -> str:
    out = StringIO()
    values = ["yes" if value is True else "no" if value is False else value for value in fields.values()]
    csv.writer(out, lineterminator="\r\n").writerow(["", *values])
    return out.getvalue()


def write_all(days: Iterable[DayAudit], report: Report, files: Iterable[ReportFile]) -> Iterator[DayAudit]:
    """Write every day into the report and its files as it comes, and pass it on; `finish` the files yourself."""
    files = list(files)
    for audited in days:
        report.add(audited)
        for file in files:
            file.add(audited)
        yield audited
