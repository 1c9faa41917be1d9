"""`archiver archive` and `archiver sweep`: the worker's own work, now and in this process."""

import click

from app.logs import configure_logs
from app.recording import is_sid
from app.settings import WorkerSettings, load
from workers.cli import Exit, say
from workers.commands.common import json_option, print_json, worker_settings
from workers.errors import ArchiverError
from workers.tasks import Work


@click.command()
@click.argument("recording_sids", nargs=-1, required=True, metavar="RE…")
@click.option("--account", metavar="AC…", help="The account of the recordings (default: the main one).")
@click.pass_context
def archive(context: click.Context, recording_sids: tuple[str, ...], account: str | None) -> Exit:
    """Archive recordings now, in this process; their deletion is enqueued as the settings say."""
    settings = load(WorkerSettings)
    configure_logs("console", settings.LOG_LEVEL)
    account = account or settings.TWILIO_ACCOUNT_SID
    wrong = [sid for sid in recording_sids if not is_sid(sid, "RE")]
    if wrong or not is_sid(account, "AC"):
        raise click.UsageError("give recordings as RE and an account as AC, each with 32 hexadecimal digits")
    work, failed = Work.from_settings(settings), 0
    for sid in recording_sids:
        try:
            work.archive_recording({"account_sid": account, "recording_sid": sid})
        except ArchiverError as error:
            failed += 1
            say(f"{sid}: {error}")
    if failed:
        return Exit.FAILED if failed == len(recording_sids) else Exit.SOME_FAILED
    return Exit.OK


@click.command()
@json_option
def sweep(as_json: bool) -> Exit:
    """Compare Twilio's list with what is done, and enqueue what is not (also from cron).

    Ends with 3 when an account could not be swept to its end, and with 1 or 5 when none could.
    """
    settings, failed = worker_settings(WorkerSettings), dict[str, ArchiverError]()
    enqueued = Work.from_settings(settings).new_sweep().run(on_failure=failed.setdefault)
    if as_json:
        print_json({"enqueued": enqueued, "failed_accounts": sorted(failed)})
    else:
        click.echo(f"enqueued: {enqueued:,}; workers do the rest")
    if len(failed) == len(settings.accounts):
        raise next(iter(failed.values()))
    return Exit.SOME_FAILED if failed else Exit.OK
