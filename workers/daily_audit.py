"""The daily audit: over all days that Twilio still knows, its reports stored in the bucket.

May be asked for at any time and as often as one likes: it runs when the day has no report yet.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from io import BufferedWriter, TextIOWrapper
from typing import Final, TextIO

import structlog

from app.queue import Publisher
from app.settings import WorkerSettings
from workers.archive import Archive
from workers.audit import Audit, DayAudit, Enqueuer
from workers.hints import Hints
from workers.judgement import TWILIO_MEMORY, State
from workers.report_html import HtmlFile
from workers.reports import CsvFile, JsonFile, Report, ReportFile, scope_of, write_all
from workers.sweep import strangers
from workers.twilio_api import TwilioApi

MAX_ALERTS: Final = 100  # a log line for each lost recording, up to this many; the report names them all

_KINDS: Final[Mapping[str, tuple[str, Callable[[TextIO], ReportFile]]]] = {
    "csv": ("text/csv; charset=utf-8", CsvFile),
    "json": ("application/json", JsonFile),
    "html": ("text/html; charset=utf-8", HtmlFile),  # the last one: when it is there, all are
}
_BUFFER_BYTES: Final = 256 * 1024

log = structlog.get_logger()


def report_key(prefix: str, day: date, kind: str) -> str:
    """Return where the report of a day is; `kind` is `json`, `csv` or `html`."""
    return f"{prefix}reports/day={day}/audit.{kind}"


@dataclass(frozen=True, slots=True)
class DailyAudit:
    """The audit of the day, with what it reads and where it enqueues."""

    settings: WorkerSettings
    twilio: TwilioApi
    archive: Archive
    publisher: Publisher
    hints: Hints

    def run(self) -> Report | None:
        """Audit every account, store the reports, enqueue what is unfinished and call for a person for what is lost.

        Return None where the day's report is there already or somebody else is making it. What ends it early leaves no
        report, and the next run makes one.
        """
        began = datetime.now(UTC)
        today = began.date()
        if self.archive.head(report_key(self.archive.prefix, today, "html")) is not None:
            return None
        with self.hints.lease("daily-audit") as free:
            if not free:
                return None
            report = Report(scope_of(self.settings, today - TWILIO_MEMORY, today), began)
            with ExitStack() as stack:
                files: list[ReportFile] = [
                    stack.enter_context(self._file(today, kind)) for kind in reversed(list(_KINDS))
                ]
                self._audit(report, files)
            log.info("audit_finished", complete=report.complete, **report.all_totals())
            return report

    def _audit(self, report: Report, files: list[ReportFile]) -> None:
        audit = Audit(self.settings, self.twilio, self.archive)
        enqueuer = Enqueuer(self.publisher, self.hints)
        alerts = 0
        for audited in write_all(audit.run(report.scope.since, report.scope.until), report, files):
            enqueuer.enqueue(audited)
            alerts = _alert_lost(audited, alerts)
            if error := audited.unread:
                account_sid = audited.account_sid
                log.error("account_not_audited", account_sid=account_sid, reason=error.reason, detail=error.detail)
        report.strangers = strangers(self.settings, self.twilio)
        report.finished = datetime.now(UTC)
        for file in files:
            file.finish(report)
        if report.total(State.LOST):
            log.error("recordings_lost", count=report.total(State.LOST), mend="see the report of the audit")

    @contextmanager
    def _file(self, day: date, kind: str) -> Iterator[ReportFile]:
        content_type, made = _KINDS[kind]
        with self.archive.writing(report_key(self.archive.prefix, day, kind), content_type) as binary:
            text = TextIOWrapper(BufferedWriter(binary, _BUFFER_BYTES), encoding="utf-8", newline="")
            try:
                yield made(text)
            finally:
                text.detach().detach()  # which hands on what they hold; closing them is not ours


def _alert_lost(audited: DayAudit, alerts: int) -> int:
    """Name what is lost in the log; return how many were named until now."""
    for finding in audited.findings:
        if finding.verdict.state is State.LOST and alerts < MAX_ALERTS:
            alerts += 1
            log.error("recording_lost", account_sid=finding.account_sid, recording_sid=finding.recording_sid)
    return alerts
