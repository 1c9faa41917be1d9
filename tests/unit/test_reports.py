"""The audit's reports as files: golden lines, well-formed whatever comes, and the worst first."""

import csv
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from io import StringIO
from typing import TextIO

import pytest

from workers.audit import DayAudit, Finding
from workers.errors import ConfigurationError
from workers.judgement import Ledger, Source, State, Verdict
from workers.report_html import HtmlFile
from workers.reports import BY_SEVERITY, MAX_SHOWN, CsvFile, JsonFile, Report, ReportFile, Scope, write_all

ACCOUNT, OTHER = "AC" + "1" * 32, "AC" + "2" * 32
DAY = date(2026, 11, 22)
BEGAN = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
FINE = Verdict(State.OK)
NASTY = 'he said "5 < 6 & 7", and\nleft </td><script>'


def sid(number: int) -> str:
    return f"RE{number:032x}"


def day(*verdicts: Verdict, on: date | None = DAY, account: str = ACCOUNT) -> DayAudit:
    """Return a day with a recording for each verdict: archived, and gone from Twilio."""
    audited = DayAudit(account, on)
    for number, verdict in enumerate(verdicts):
        found = Finding(account, sid(number), on, verdict, read=number == 0)
        audited.add(found, Source("deleted", None, False, BEGAN), Ledger(media=1, receipt=BEGAN))
    return audited


def report_of(make: Callable[[TextIO], ReportFile], *days: DayAudit, accounts: tuple[str, ...] = (ACCOUNT,)) -> str:
    """Write a report of some days, and return it."""
    out = StringIO(newline="")
    report = Report(Scope(DAY, DAY, accounts, 0.05, "bucket", "calls/", "never"), BEGAN)
    file = make(out)
    for _ in write_all(days, report, [file]):
        pass
    report.finished = BEGAN
    file.finish(report)
    return out.getvalue()


def test_json_golden() -> None:
    """One recording a line, then days, totals and what was checked."""
    text = report_of(JsonFile, day(FINE, Verdict(State.LOST, "gone", wrong=True)))
    first, second = text.splitlines()[1:3]
    assert first == (
        f'{{"account_sid":"{ACCOUNT}","recording_sid":"{sid(0)}","day":"2026-11-22","state":"ok",'
        '"discrepancy":false,"read":true,"why":""},'
    )
    assert json.loads(second)["state"] == "lost"
    document = json.loads(text)
    assert list(document) == ["recordings", "days", "totals", "checked"]
    (row,) = document["days"]
    assert row == {
        "account_sid": ACCOUNT,
        "day": "2026-11-22",
        "expected": 2,
        "archived": 2,
        "verified": 2,
        "gone": 2,
        "absent": 0,
        "quarantined": 0,
        "lost": 1,
        "read": 1,
        "states": {"ok": 1, "lost": 1},
    }
    totals = document["totals"]
    assert (totals["recordings"], totals["ok"], totals["lost"], totals["missing"], totals["discrepancies"]) == (
        2,
        1,
        1,
        0,
        1,
    )
    assert set(State) <= set(totals)
    checked = document["checked"]
    assert (checked["since"], checked["began_at"], checked["complete"]) == (
        "2026-11-22",
        "2026-11-23T01:02:03.000Z",
        True,
    )


def test_csv_golden() -> None:
    """A header, and a line for each recording."""
    text = report_of(CsvFile, day(FINE, Verdict(State.MISMATCH, "other bytes, or none", wrong=True)))
    assert text == (
        "account_sid,recording_sid,day,state,discrepancy,read,why\r\n"
        f"{ACCOUNT},{sid(0)},2026-11-22,ok,no,yes,\r\n"
        f'{ACCOUNT},{sid(1)},2026-11-22,mismatch,yes,no,"other bytes, or none"\r\n'
    )


@pytest.mark.parametrize("days", [(), (day(),), (day(FINE), day(), day(FINE, on=None))])
def test_every_number_of_recordings_gives_well_formed_files(days: tuple[DayAudit, ...]) -> None:
    """No recording, empty days, and what has no day."""
    count = sum(len(each.findings) for each in days)
    assert len(json.loads(report_of(JsonFile, *days))["recordings"]) == count
    assert len(list(csv.reader(StringIO(report_of(CsvFile, *days))))) == count + 1
    assert "accounted for" in report_of(HtmlFile, *days)


def test_whatever_is_said_stays_text() -> None:
    """Quotes, markup and line breaks in a reason end up as its text in each form."""
    days = day(FINE, Verdict(State.MISMATCH, NASTY, wrong=True))
    assert json.loads(report_of(JsonFile, days))["recordings"][1]["why"] == NASTY
    assert list(csv.reader(StringIO(report_of(CsvFile, days), newline="")))[2][-1] == NASTY
    page = Page(report_of(HtmlFile, days))
    assert NASTY in page.text
    assert "script" not in page.tags


class Page(HTMLParser):
    """What a browser would make of a page: its tags, the values of their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_from_outside() -> None:
    """No script, no link, no image, no import: it opens and prints without a network."""
    html = report_of(HtmlFile, day(FINE))
    page = Page(html)
    assert page.links == []
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(page.tags)
    assert "url(" not in html
    assert "@import" not in html
    assert "size: A4" in html


def test_the_page_says_what_a_compliance_officer_asks() -> None:
    """What was checked, when, by which version, the days, the totals and the exceptions in plain words."""
    text = Page(report_of(HtmlFile, day(FINE, Verdict(State.LOST, "deleted before it was archived", wrong=True)))).text
    for word in ("2026-11-22", "Recording Archiver", "s3://bucket/calls/", ACCOUNT, "01:02:03 UTC", "1 recording lost"):
        assert word in text
    for column in ("Expected", "Archived", "Verified", "Gone from Twilio", "Absent", "In quarantine", "Lost"):
        assert column in text
    assert "deleted before it was archived" in text


def test_the_worst_is_shown_however_much_else_there_is() -> None:
    """A lost recording comes first, and thousands of others don't push it off the page."""
    missing = [Verdict(State.MISSING, "not archived", wrong=True)] * (MAX_SHOWN + 50)
    page = report_of(HtmlFile, day(*missing), day(Verdict(State.LOST, "deleted", wrong=True), on=date(2026, 11, 21)))
    exceptions = page[page.index("<h2>Exceptions") :]
    assert exceptions.index(">lost<") < exceptions.index(">missing<")
    assert exceptions.count(">missing<") == MAX_SHOWN
    assert "And 50 more" in exceptions


def test_every_discrepancy_has_a_place_by_severity() -> None:
    """No state whose recordings may call for a look is left out of the order."""
    from tests.unit.test_judgement import TABLE

    assert {state for *_, state, wrong, _ in TABLE if wrong} == set(BY_SEVERITY)


def test_an_account_that_was_not_read_makes_the_report_incomplete() -> None:
    """It is said in every form that sums up, and never looks as if all were well."""
    unread = DayAudit(OTHER, DAY, unread=ConfigurationError("twilio_refused", "check the credentials"))
    page = Page(report_of(HtmlFile, day(FINE), unread, accounts=(ACCOUNT, OTHER))).text
    assert "Incomplete" in page
    assert "twilio_refused" in page
    assert "accounted for" not in page
    checked = json.loads(report_of(JsonFile, day(FINE), unread))["checked"]
    assert checked["complete"] is False
    assert checked["unread"] == [
        {"account_sid": OTHER, "from_day_back": "2026-11-22", "reason": "twilio_refused: check the credentials"}
    ]
