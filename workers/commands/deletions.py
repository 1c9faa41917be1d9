"""`archiver deletions`: the stop switch for all deletions at Twilio."""

from typing import Any

import click

from app.receipt import DELETIONS_PAUSED, PAUSE_SCHEMA, from_json
from app.settings import WorkerSettings
from workers.archive import Archive
from workers.cli import say
from workers.commands.common import dry_run_option, json_option, plain, print_json, reason_option, worker_settings
from workers.deletion import pause_deletions


@click.group()
def deletions() -> None:
    """Stop all deletions at Twilio, and let them go on."""


@deletions.command()
@reason_option
@dry_run_option
@json_option
def pause(reason: str, dry_run: bool, as_json: bool) -> None:
    """Delete nothing at Twilio from now on; archiving goes on. A pause that is there already stands."""
    archive = Archive(worker_settings(WorkerSettings))
    paused = _paused(archive)
    if dry_run:
        say(f"deletions are {_words(paused)}" if paused else "deletions would be paused")
        return
    if paused is None:
        pause_deletions(archive, reason)
    _report(_paused(archive), as_json=as_json)


@deletions.command()
@dry_run_option
@json_option
def resume(dry_run: bool, as_json: bool) -> None:
    """Let deletions go on, each after its own checks; the sweep finds what was left."""
    archive = Archive(worker_settings(WorkerSettings))
    paused = _paused(archive)
    if paused is not None:
        say(f"{'this would end' if dry_run else 'ended'}: {_words(paused)}")
        if paused["recording_sid"]:
            say(f"what became of that recording: archiver show {plain(paused['recording_sid'])}")
    if not dry_run:
        archive.remove(archive.prefix + DELETIONS_PAUSED)
        _report(_paused(archive), as_json=as_json)


@deletions.command()
@json_option
def status(as_json: bool) -> None:
    """Say whether deletions are paused, since when, why, and by which recording."""
    _report(_paused(Archive(worker_settings(WorkerSettings))), as_json=as_json)


def _paused(archive: Archive) -> dict[str, Any] | None:
    """Return why deletions are paused; None when they are not. A switch that can't be read is a switch, too."""
    document = archive.read(archive.prefix + DELETIONS_PAUSED)
    if document is None:
        return None
    try:
        raw = from_json(document.body, PAUSE_SCHEMA)
    except ValueError:
        raw = {}
    return {name: raw.get(name) for name in ("reason", "paused_at", "recording_sid")}


def _report(paused: dict[str, Any] | None, *, as_json: bool) -> None:
    if as_json:
        nothing = dict.fromkeys(("reason", "paused_at", "recording_sid"))
        print_json({"paused": paused is not None, **(paused or nothing)})
    else:
        click.echo(f"deletions are {_words(paused) if paused else 'not paused'}")


def _words(paused: dict[str, Any]) -> str:
    by = f" by {plain(paused['recording_sid'])}" if paused["recording_sid"] else ""
    return f"paused since {plain(paused['paused_at'])}{by}: {plain(paused['reason'])}"
