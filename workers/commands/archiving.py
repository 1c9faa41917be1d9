"""`archiver archive` and `archiver sweep`: the worker's own work, now and in this process."""

from typing import Any, Final

import click

from app.receipt import Filing
from app.settings import WorkerSettings
from workers.cli import Exit
from workers.commands.common import (
    dry_run_option,
    finder,
    for_each_recording,
    json_option,
    print_json,
    which_recordings,
    worker_settings,
)
from workers.errors import ArchiverError
from workers.next_step import Step
from workers.tasks import Work

_DONE: Final = {
    Step.ARCHIVE: "archived",
    Step.RESOLVE: "released from quarantine",
    Step.DELETE: "archived before; its deletion is due",
    Step.RECORD_ABSENCE: "documented as without audio",
    Step.NOTHING: "nothing to do",
    None: "left to a worker that is at it",
}
_PLANNED: Final = _DONE | {
    Step.ARCHIVE: "would be archived",
    Step.RESOLVE: "would be released from quarantine",
    Step.RECORD_ABSENCE: "would be documented as without audio",
    Step.WAIT: "Twilio has not finished it, or does not show it",
}


@click.command()
@which_recordings
@dry_run_option
@json_option
def archive(dry_run: bool, as_json: bool, account: str | None, **which: Any) -> Exit:
    """Archive recordings now, in this process; their deletion is enqueued as the settings say."""
    settings = worker_settings(WorkerSettings)
    work, results = Work.from_settings(settings), list[dict[str, str | None]]()

    def act(filing: Filing) -> None:
        sids = {"account_sid": filing.account_sid, "recording_sid": filing.recording_sid}
        step = work.planned(**sids) if dry_run else work.archive_recording(sids)
        results.append({**sids, "step": step.value if step else None})
        if not as_json:
            click.echo(f"{filing.recording_sid}: {(_PLANNED if dry_run else _DONE)[step]}")

    ended = for_each_recording(finder(settings, account), act=act, **which)
    if as_json:
        print_json({"dry_run": dry_run, "recordings": results})
    return ended


@click.command()
@dry_run_option
@json_option
def sweep(dry_run: bool, as_json: bool) -> Exit:
    """Compare Twilio's list with what is done, and enqueue what is not (also from cron).

    Ends with 3 when an account could not be swept to its end, and with 1 or 5 when none could.
    """
    settings, failed = worker_settings(WorkerSettings), dict[str, ArchiverError]()
    work = Work.from_settings(settings).new_sweep()
    found = work.outstanding(failed.setdefault) if dry_run else work.run(on_failure=failed.setdefault)
    if as_json:
        print_json({"outstanding" if dry_run else "enqueued": found, "failed_accounts": sorted(failed)})
    elif dry_run:
        click.echo(f"dry run: {found:,} recordings of the last days would be enqueued, as the queue has room")
    else:
        click.echo(f"enqueued: {found:,}; workers do the rest")
    if len(failed) == len(settings.accounts):
        raise next(iter(failed.values()))
    return Exit.SOME_FAILED if failed else Exit.OK
