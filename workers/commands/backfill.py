"""`archiver backfill`: bring what was recorded in the past into the archive."""

import sys
from datetime import UTC, date, datetime, timedelta

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from app.settings import WorkerSettings
from workers.backfill import Backfill, Estimate, Outcome, Wanted
from workers.cli import Exit, say
from workers.commands.common import Sid, dry_run_option, json_option, messages, print_json, worker_settings
from workers.commands.when import When
from workers.tasks import Work

_SAY_EVERY_PERCENT = 10


@click.command()
@click.option("--since", type=When(), help="First day: a date such as 2024-01-01, or 30d.")
@click.option("--until", type=When(), help="Last day, which counts (default: today). Days are UTC.")
@click.option(
    "--call", "call_sids", type=Sid("CA"), multiple=True, metavar="CA…", help="Only the recordings of a call."
)
@click.option("--account", "account_sids", type=Sid("AC"), multiple=True, metavar="AC…", help="Only this account.")
@click.option("--yes", is_flag=True, help="Ask nothing on a terminal either.")
@dry_run_option
@json_option
def backfill(
    since: date | None,
    until: date | None,
    call_sids: tuple[str, ...],
    account_sids: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> Exit:
    """Archive what was recorded in the past: first an estimate, then the work, done by the workers.

    May be interrupted and started again at any time: what is done is seen in S3 and not done again. Live recordings
    come first. Ends with 3 when something needs a person or is not finished.
    """
    settings = worker_settings(WorkerSettings)
    if since is None and not call_sids:
        raise click.UsageError("give --since DATE, or --call CA…")
    if since and since > (until or datetime.now(UTC).date()):
        raise click.UsageError("--since is after --until")
    account_sids = tuple(dict.fromkeys(account_sids))
    if unknown := set(account_sids) - set(settings.accounts):
        raise click.UsageError(f"not configured: {', '.join(sorted(unknown))}")
    wanted = Wanted(account_sids or tuple(settings.accounts), since, until, tuple(dict.fromkeys(call_sids)))
    work = Work.from_settings(settings)
    filler = Backfill(settings, work.twilio, work.archive, work.publisher, work.hints)
    began = datetime.now(UTC)
    estimate = filler.estimate(wanted, began)
    for line in _estimate_lines(estimate, settings):
        say(line)
    if dry_run or not estimate.outstanding:
        outcome = Outcome(0, estimate.quarantined, estimate.outstanding)
        _print(estimate, outcome, as_json=as_json, dry_run=dry_run)
        return Exit.SOME_FAILED if estimate.quarantined and not dry_run else Exit.OK
    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm("Go on?", default=True, abort=True, err=True)
    outcome = _run(filler, wanted, began, estimate.outstanding)
    _print(estimate, outcome, as_json=as_json, dry_run=False)
    return Exit.SOME_FAILED if outcome.unfinished or outcome.quarantined else Exit.OK


def _run(filler: Backfill, wanted: Wanted, began: datetime, total: int) -> Outcome:
    console = messages()
    with Progress(
        TextColumn("archiving"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        task, said = bar.add_task("recordings", total=total), 0

        def progress(finished: int) -> None:
            nonlocal said
            bar.update(task, completed=finished)
            percent = 100 * finished // total
            if not console.is_terminal and percent >= said + _SAY_EVERY_PERCENT:
                said = percent - percent % _SAY_EVERY_PERCENT
                say(f"{finished:,} of {total:,} ({percent} %)")

        return filler.run(wanted, began, total, progress)


def _estimate_lines(estimate: Estimate, settings: WorkerSettings) -> list[str]:
    threads = settings.CELERY_CONCURRENCY
    return [
        f"to archive:    {estimate.recordings:,} recordings, {estimate.audio_s / 3600:,.1f} hours, about "
        f"{_size(estimate.bytes)} as {settings.ARCHIVE_FORMAT}",
        f"to document:   {estimate.without_audio:,} without audio",
        f"done already:  {estimate.done:,}; in quarantine: {estimate.quarantined:,}",
        f"requests:      about {estimate.twilio_requests:,} to Twilio, {estimate.s3_requests:,} to S3"
        + ("" if settings.TWILIO_DELETE is None else ", and as many again to delete at Twilio"),
        f"time:          about {_duration(estimate.seconds(threads))} with one idle worker of {threads} threads",
    ]


def _print(estimate: Estimate, outcome: Outcome, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        names = ("recordings", "without_audio", "done", "quarantined", "audio_s", "bytes")
        numbers = {name: getattr(estimate, name) for name in names}
        numbers |= {"twilio_requests": estimate.twilio_requests, "s3_requests": estimate.s3_requests}
        result = {name: getattr(outcome, name) for name in ("finished", "quarantined", "unfinished")}
        print_json({"estimate": numbers, "outcome": None if dry_run else result})
    elif dry_run:
        click.echo(f"dry run: {estimate.outstanding:,} recordings would be archived or documented")
    else:
        click.echo(f"finished: {outcome.finished:,}")
        if outcome.quarantined:
            click.echo(f"in quarantine: {outcome.quarantined:,}; `archiver quarantine list` says why")
        if outcome.unfinished:
            click.echo(f"not finished: {outcome.unfinished:,}; the workers' logs say why, and sweeps try again")


def _size(size_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:,.0f} {unit}" if unit == "B" else f"{size_bytes:,.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.1f} TB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return str(timedelta(minutes=round(seconds / 60))).removesuffix(":00").replace(":", " h ") + " min"
