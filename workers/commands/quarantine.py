"""`archiver quarantine`: what needs a person, and to try it again."""

from dataclasses import asdict
from itertools import groupby

import click
from rich.text import Text

from app.queue import QueueUnavailableError
from app.receipt import Filing
from app.settings import WorkerSettings
from workers.archive import Archive
from workers.cli import Exit, say
from workers.commands.common import (
    account_option,
    dry_run_option,
    for_each,
    json_option,
    output,
    plain,
    print_json,
    recordings_argument,
    table,
    worker_settings,
)
from workers.errors import ArchiverError
from workers.quarantine import Quarantine, quarantined
from workers.tasks import Work


@click.group()
def quarantine() -> None:
    """See which recordings failed by their content, and try them again."""


@quarantine.command("list")
@account_option
@json_option
def list_(account: str | None, as_json: bool) -> None:
    """List what is in quarantine: how often it failed, since when, and why.

    After QUARANTINE_AFTER failures a recording rests and is tried once a day: it needs a person.
    """
    settings = worker_settings(WorkerSettings)
    found = list(quarantined(Archive(settings), account))
    threshold = settings.QUARANTINE_AFTER
    if as_json:
        print_json(
            {
                "quarantined": [
                    asdict(each) | {"day": filing.day and str(filing.day), "needs_person": each.attempts >= threshold}
                    for filing, each in found
                ]
            }
        )
    elif not found:
        say("nothing is in quarantine")
    else:
        _print(found, threshold)


@quarantine.command()
@recordings_argument
@account_option
@dry_run_option
@json_option
def retry(recording_sids: tuple[str, ...], account: str | None, dry_run: bool, as_json: bool) -> Exit:
    """Archive recordings that are in quarantine now, in this process, even if they rest."""
    if not recording_sids:
        raise click.UsageError("give a recording as RE…; `archiver quarantine list` lists them")
    settings = worker_settings(WorkerSettings)
    work = Work.from_settings(settings)
    waiting = {filing.recording_sid: (filing, found) for filing, found in quarantined(work.archive, account)}
    resolved: list[str] = []

    def try_again(recording_sid: str) -> None:
        if recording_sid not in waiting:
            raise ArchiverError("not_quarantined", "it is not in quarantine")
        filing, found = waiting[recording_sid]
        if dry_run:
            say(f"{recording_sid}: would be archived now, after {found.attempts} failures")
            return
        _retry(work, filing)
        resolved.append(recording_sid)

    code = for_each(dict.fromkeys(recording_sids), try_again)
    if as_json:
        print_json({"resolved": resolved})
    else:
        for recording_sid in resolved:
            click.echo(recording_sid)
    return code


def _retry(work: Work, filing: Filing) -> None:
    """Bring a recording as far as it goes. Raises `ArchiverError` when it stays in quarantine."""
    try:
        work.archive_recording({"account_sid": filing.account_sid, "recording_sid": filing.recording_sid}, wake=True)
    except QueueUnavailableError:
        say(f"{filing.recording_sid}: the queue did not take its deletion; the sweep will find it")
    if work.archive.head(filing.quarantine) is not None:
        raise ArchiverError("still_quarantined", "nothing could be done; `archiver show` says what Twilio has of it")


def _print(found: list[tuple[Filing, Quarantine]], threshold: int) -> None:
    console = output()
    for account_sid, group in groupby(found, key=lambda each: each[0].account_sid):
        made = table(["recording", ">failed", "since", "last failure"])
        for filing, each in group:
            last = each.failures[-1] if each.failures else {}
            made.add_row(
                plain(filing.recording_sid),
                Text(str(each.attempts), style="bold red" if each.attempts >= threshold else "yellow"),
                plain(each.first_failed_at[:10]),
                plain(f"{last.get('reason')}: {last.get('detail')}"),
            )
        console.print(Text(f"account {account_sid}", style="dim"))
        console.print(made)
    resting = sum(each.attempts >= threshold for _, each in found)
    say(f"{len(found)} in quarantine, {resting} of them need a person")
