"""`archiver record`: record a live call, with this archiver as its RecordingStatusCallback."""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import click

from app.recording import Recording
from app.settings import RecordSettings, load
from workers.cli import say
from workers.commands.callback_url import callback_of
from workers.commands.common import Sid, account_option, dry_run_option, json_option, print_json
from workers.errors import GoneError
from workers.finding import NotFoundError
from workers.twilio_api import CURRENT, TwilioApi

_EVENTS: Final = "in-progress completed absent"

_call = click.argument("call_sid", type=Sid("CA"), metavar="CA…")
_recording = click.option(
    "--recording",
    "recording_sid",
    type=Sid("RE"),
    metavar="RE…",
    default=None,
    help="Which recording of the call (default: the only one at the moment).",
)


@click.group()
def record() -> None:
    """Record a live call; what is recorded is archived like every other recording."""


@record.command()
@_call
@click.option(
    "--track",
    type=click.Choice(["both", "inbound", "outbound"]),
    default="both",
    show_default=True,
    help="Which side of the call.",
)
@click.option("--trim", is_flag=True, help="Cut silence at the beginning and end.")
@account_option
@dry_run_option
@json_option
def start(call_sid: str, track: str, trim: bool, account: str | None, dry_run: bool, as_json: bool) -> None:
    """Start recording a live call, in two channels; print the recording's SID."""
    settings = load(RecordSettings)
    callback = callback_of(settings)
    form = {
        "RecordingStatusCallback": _with_credentials(callback, settings),
        "RecordingStatusCallbackMethod": "POST",
        "RecordingStatusCallbackEvent": _EVENTS,
        "RecordingChannels": "dual",
        "RecordingTrack": track,
        "Trim": "trim-silence" if trim else "do-not-trim",
    }
    if dry_run:
        say(f"would record {call_sid}, track {track}, {form['Trim']}, with the callback {callback}")
        return
    _act(settings, account, as_json, lambda api, owner: api.start_recording(owner, call_sid, form))


@record.command()
@_call
@_recording
@click.option("--skip", is_flag=True, help="Leave the pause out of the recording (default: record silence).")
@account_option
@dry_run_option
@json_option
def pause(
    call_sid: str, recording_sid: str | None, skip: bool, account: str | None, dry_run: bool, as_json: bool
) -> None:
    """Pause a recording, for instance while a card number is said."""
    form = {"Status": "paused", "PauseBehavior": "skip" if skip else "silence"}
    _change(call_sid, recording_sid, form, account, dry_run=dry_run, as_json=as_json)


@record.command()
@_call
@_recording
@account_option
@dry_run_option
@json_option
def resume(call_sid: str, recording_sid: str | None, account: str | None, dry_run: bool, as_json: bool) -> None:
    """Go on with a recording that was paused."""
    _change(call_sid, recording_sid, {"Status": "in-progress"}, account, dry_run=dry_run, as_json=as_json)


@record.command()
@_call
@_recording
@account_option
@dry_run_option
@json_option
def stop(call_sid: str, recording_sid: str | None, account: str | None, dry_run: bool, as_json: bool) -> None:
    """Stop a recording; the call goes on."""
    _change(call_sid, recording_sid, {"Status": "stopped"}, account, dry_run=dry_run, as_json=as_json)


def _change(
    call_sid: str,
    recording_sid: str | None,
    form: Mapping[str, str],
    account: str | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    settings, recording = load(RecordSettings), recording_sid or CURRENT
    if dry_run:
        say(f"would make {recording} of {call_sid} {' '.join(form.values())}")
        return
    _act(settings, account, as_json, lambda api, owner: api.change_recording(owner, call_sid, recording, form))


def _act(
    settings: RecordSettings, account: str | None, as_json: bool, ask: Callable[[TwilioApi, str], Recording]
) -> None:
    """Ask account by account until one knows the call: what another one answers with 404 has changed nothing there."""
    api = TwilioApi(settings.accounts)
    for account_sid in (account,) if account else settings.accounts:
        try:
            recording = ask(api, account_sid)
        except GoneError:
            continue
        if as_json:
            names = ("account_sid", "call_sid", "status", "channels", "track")
            print_json({"recording_sid": recording.sid, **{name: recording.raw.get(name) for name in names}})
        else:
            click.echo(recording.sid)
        return
    raise NotFoundError("not_found", "no such live call, or nothing of it is being recorded, in these accounts")


def _with_credentials(url: str, settings: RecordSettings) -> str:
    """Return the callback URL as Twilio needs it: HTTP Basic credentials are given in it."""
    if settings.WEBHOOK_USERNAME is None or settings.WEBHOOK_PASSWORD is None:
        return url
    password = quote(settings.WEBHOOK_PASSWORD.get_secret_value(), safe="")
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{quote(settings.WEBHOOK_USERNAME, safe='')}:{password}@{parts.netloc}"))
