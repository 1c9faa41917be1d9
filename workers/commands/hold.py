"""`archiver hold`: S3 legal holds on archived recordings, each with its reason."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click
from rich.text import Text

from app.receipt import Filing
from app.settings import WorkerSettings
from workers.archive import Archive
from workers.cli import Exit, say
from workers.commands.common import (
    account_option,
    dry_run_option,
    finder,
    for_each_recording,
    json_option,
    output,
    plain,
    print_json,
    reason_option,
    recordings_argument,
    table,
    which_recordings,
    worker_settings,
)
from workers.errors import ArchiverError
from workers.holds import Hold, holds, is_held, lift_hold, place_hold, require_object_lock
from workers.verification import FiledReceipt, read_receipt


@click.group()
def hold() -> None:
    """Put archived recordings under an S3 legal hold, and lift it.

    What is held can be removed by nobody, whatever its retention, and is not deleted at Twilio either.
    """


@hold.command()
@which_recordings
@reason_option
@dry_run_option
@json_option
def add(reason: str, dry_run: bool, as_json: bool, **which: Any) -> Exit:
    """Put the media of recordings under a legal hold."""
    return _change(place_hold, "held", reason, dry_run=dry_run, as_json=as_json, **which)


@hold.command()
@which_recordings
@reason_option
@dry_run_option
@json_option
def remove(reason: str, dry_run: bool, as_json: bool, **which: Any) -> Exit:
    """Lift the legal hold of recordings; what was held, and why, stays on record."""
    return _change(lift_hold, "no longer held", reason, dry_run=dry_run, as_json=as_json, **which)


@hold.command("list")
@recordings_argument
@account_option
@json_option
def list_(recording_sids: tuple[str, ...], account: str | None, as_json: bool) -> Exit:
    """List what is held, since when, why, and whether S3 says so, too. Exit code 4 when it does not."""
    archive = Archive(worker_settings(WorkerSettings))
    found = [
        (each, is_held(archive, each))
        for each in holds(archive)
        if each.placed
        and account in (None, each.account_sid)
        and (not recording_sids or each.recording_sid in recording_sids)
    ]
    if as_json:
        print_json({"holds": [_as_json(each, held=held) for each, held in found]})
    elif not found:
        say("nothing is held")
    else:
        _print(found)
    return Exit.OK if all(held for _, held in found) else Exit.DISCREPANCIES


def _change(
    change: Callable[[Archive, FiledReceipt, str], Hold],
    state: str,
    reason: str,
    *,
    recording_sids: tuple[str, ...],
    call_sid: str | None,
    conference_sid: str | None,
    account: str | None,
    dry_run: bool,
    as_json: bool,
) -> Exit:
    find = finder(worker_settings(WorkerSettings), account)
    require_object_lock(find.archive)
    changed: list[Hold] = []

    def act(filing: Filing) -> None:
        filed = read_receipt(find.archive, filing)
        if filed is None:
            raise ArchiverError("not_archived", "there is no receipt; `archiver show` says what is known")
        if dry_run:
            say(f"{filing.recording_sid}: would be {state}")
        else:
            changed.append(change(find.archive, filed, reason))

    code = for_each_recording(find, recording_sids, call_sid, conference_sid, act)
    if as_json:
        print_json({"holds": [_as_json(each, held=each.placed is not None) for each in changed]})
    else:
        for each in changed:
            event = each.events[-1]
            click.echo(f"{each.recording_sid} is {state} since {event.at}: {event.reason}")
    return code


def _as_json(hold: Hold, *, held: bool) -> dict[str, Any]:
    return asdict(hold) | {"held": held}


def _print(found: list[tuple[Hold, bool]]) -> None:
    made = table(["recording", "since", "S3 says", "reason"])
    for each, held in found:
        event = each.placed
        if event is not None:
            says = Text("held", style="green") if held else Text("NOT held", style="bold red")
            made.add_row(plain(each.recording_sid), plain(event.at[:16]), says, plain(event.reason))
    output().print(made)
