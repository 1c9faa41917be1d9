"""`archiver show`: everything that is known of a recording."""

import click
from rich.panel import Panel

from app.receipt import Filing
from app.settings import WorkerSettings
from workers.cli import Exit
from workers.commands.common import (
    finder,
    for_each_recording,
    json_option,
    output,
    print_json,
    which_recordings,
    worker_settings,
)
from workers.commands.dossier_view import headline, sections
from workers.dossier import Dossier, gather


@click.command()
@which_recordings
@json_option
def show(
    recording_sids: tuple[str, ...],
    call_sid: str | None,
    conference_sid: str | None,
    account: str | None,
    as_json: bool,
) -> Exit:
    """Show everything that is known of recordings, from S3 and from Twilio.

    The media is compared with its receipt now. Exit code 4 when they disagree, 1 when Twilio could not be asked.
    """
    find = finder(worker_settings(WorkerSettings), account)
    dossiers: list[Dossier] = []

    def look(filing: Filing) -> None:
        dossier = gather(find.archive, find.twilio, filing)
        dossiers.append(dossier)
        if not as_json:
            _print(dossier)

    code = for_each_recording(find, recording_sids, call_sid, conference_sid, look)
    if as_json:
        print_json({"recordings": [dossier.document for dossier in dossiers]})
    if not all(dossier.agrees for dossier in dossiers):
        return Exit.DISCREPANCIES
    return code if all(dossier.is_whole for dossier in dossiers) else Exit.FAILED


def _print(dossier: Dossier) -> None:
    console = output()
    if console.is_terminal:
        sid = dossier.document["recording_sid"]
        console.print(Panel(sections(dossier.document), title=sid, subtitle=headline(dossier.document), padding=(1, 2)))
    else:
        console.print(dossier.document["recording_sid"], headline(dossier.document))
        console.print(sections(dossier.document))
