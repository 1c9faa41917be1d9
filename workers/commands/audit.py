"""`archiver audit`: what became of every recording, as a table and as reports."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TextIO

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.settings import WorkerSettings
from workers.audit import Audit, Enqueuer
from workers.cli import Exit, say
from workers.commands.audit_view import print_report
from workers.commands.common import Sid, json_option, messages, output, worker_settings
from workers.commands.when import Share, When
from workers.report_html import HtmlFile
from workers.reports import CsvFile, JsonFile, Report, ReportFile, scope_of, write_all
from workers.sweep import strangers
from workers.tasks import Work

_KINDS: Final[dict[str, Callable[[TextIO], ReportFile]]] = {".csv": CsvFile, ".json": JsonFile, ".html": HtmlFile}
_A_WEEK: Final = timedelta(days=7)


class ReportPath(click.ParamType[Path]):
    """A file whose name says what kind of report it is to be."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        path = Path(str(value))
        if path.suffix not in _KINDS:
            self.fail(f"give a name that ends in {', '.join(_KINDS)}", param, ctx)
        if not path.parent.is_dir():
            self.fail("its directory does not exist", param, ctx)
        return path


@click.command()
@click.option("--since", type=When(), help="First day: 7d for a week back, or a date (default: 7d).")
@click.option("--until", type=When(), help="Last day, which counts (default: today). Days are UTC.")
@click.option("--account", "account_sids", type=Sid("AC"), multiple=True, metavar="AC…", help="Only this account.")
@click.option("--read-data", "read_share", type=Share(), default=0.0, help="Read and hash so much of the media again.")
@click.option("--report", "paths", type=ReportPath(), multiple=True, help="Write a .csv, .json or .html report.")
@click.option("--enqueue/--no-enqueue", default=False, help="Enqueue what is missing, as a sweep would.")
@json_option
def audit(
    since: date | None,
    until: date | None,
    account_sids: tuple[str, ...],
    read_share: float,
    paths: tuple[Path, ...],
    enqueue: bool,
    as_json: bool,
) -> Exit:
    """Compare Twilio, with what was deleted there, with the archive: what became of every recording.

    Ends with 4 when there are discrepancies, and with 3 when an account could not be read.
    """
    settings = worker_settings(WorkerSettings)
    today = datetime.now(UTC).date()
    since, until = since or today - _A_WEEK, until or today
    if since > until:
        raise click.UsageError("--since is after --until")
    account_sids = tuple(dict.fromkeys(account_sids))
    if len(set(paths)) < len(paths):
        raise click.UsageError("give each --report once")
    if unknown := set(account_sids) - set(settings.accounts):
        raise click.UsageError(f"not configured: {', '.join(sorted(unknown))}")
    report = Report(scope_of(settings, since, until, account_sids, read_share), datetime.now(UTC))
    work = Work.from_settings(settings)
    with ExitStack() as stack:
        files: list[ReportFile] = [stack.enter_context(_writing(path)) for path in paths]
        if as_json:
            files.append(JsonFile(sys.stdout))
        _run(work, report, files, enqueue=enqueue)
    if not as_json:
        print_report(report, output())
    for path in paths:
        say(f"report: {path}")
    if report.unread and not report.days:
        raise report.unread[0].unread or RuntimeError
    if report.discrepancies:
        return Exit.DISCREPANCIES
    return Exit.OK if report.complete else Exit.SOME_FAILED


def _run(work: Work, report: Report, files: list[ReportFile], *, enqueue: bool) -> None:
    scope = report.scope
    enqueuer = Enqueuer(work.publisher, work.hints) if enqueue else None
    days = Audit(work.settings, work.twilio, work.archive, scope.read_share).run(
        scope.since, scope.until, list(scope.account_sids)
    )
    with _progress() as progress:
        total = ((scope.until - scope.since).days + 1) * len(scope.account_sids)
        bar = progress.add_task("days", total=total, recordings=0)
        for audited in write_all(days, report, files):
            if enqueuer:
                enqueuer.enqueue(audited)
            step = 1 if audited.day and not audited.unread else 0
            progress.update(bar, advance=step, recordings=report.total("recordings"))
    report.strangers = strangers(work.settings, work.twilio)
    report.finished = datetime.now(UTC)
    for file in files:
        file.finish(report)
    if enqueuer:
        say(f"enqueued: {enqueuer.enqueued}")


def _progress() -> Progress:
    """Return a progress bar, which is shown on a terminal only."""
    console = messages()
    return Progress(
        TextColumn("auditing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("days, {task.fields[recordings]:,} recordings"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


@contextmanager
def _writing(path: Path) -> Iterator[ReportFile]:
    """Write a report beside its name, which it takes when it is complete."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as out:
            yield _KINDS[path.suffix](out)
        unfinished.replace(path)
    except OSError as error:
        raise click.ClickException(f"{path} could not be written: {error.strerror}") from None
    finally:
        with suppress(FileNotFoundError):
            unfinished.unlink()
