"""What the commands share: their options, and how data, tables and failures are shown."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import click
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from app.logs import configure_logs
from app.receipt import Filing
from app.recording import is_sid
from app.settings import WorkerSettings, load
from workers.archive import Archive
from workers.cli import Exit, say
from workers.errors import ArchiverError, ConfigurationError
from workers.finding import Finder
from workers.twilio_api import TwilioApi

S = TypeVar("S", bound=WorkerSettings)
T = TypeVar("T")

_MAX_REASON_CHARS: Final = 500
_UNBOUND_WIDTH: Final = 240  # of what is not written to a terminal: nothing is folded


class Sid(click.ParamType[str]):
    """A SID of one kind; what is none is refused before anything is sent."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.name = f"{kind}…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the SID."""
        if not is_sid(value, self.kind):
            self.fail(f"give {self.kind} and 32 hexadecimal digits", param, ctx)
        return str(value)


class Reason(click.ParamType[str]):
    """Why somebody does something: one line that others will read."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the reason without surrounding blanks."""
        reason = str(value).strip()
        if not reason or len(reason) > _MAX_REASON_CHARS or not reason.isprintable():
            self.fail(f"give one line of at most {_MAX_REASON_CHARS} characters", param, ctx)
        return reason


F = TypeVar("F", bound=Callable[..., Any])

account_option = click.option("--account", type=Sid("AC"), metavar="AC…", help="Look in this account only.")
_call_option = click.option("--call", "call_sid", type=Sid("CA"), metavar="CA…", help="The recordings of a call.")
_conference_option = click.option(
    "--conference", "conference_sid", type=Sid("CF"), metavar="CF…", help="The recordings of a conference."
)
recordings_argument = click.argument("recording_sids", nargs=-1, type=Sid("RE"), metavar="RE…")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
reason_option = click.option("--reason", type=Reason(), required=True, help="Why; it is kept in the bucket.")


def which_recordings(command: F) -> F:
    """Let a command take recordings by their SIDs, or those of a call or conference."""
    return recordings_argument(_call_option(_conference_option(account_option(command))))


def worker_settings(cls: type[S]) -> S:
    """Read the settings and let logs speak on standard error as people read them."""
    settings = load(cls)
    configure_logs("console", settings.LOG_LEVEL)
    return settings


def finder(settings: WorkerSettings, account_sid: str | None) -> Finder:
    """Return what looks for recordings: in one account, or in every configured one."""
    account_sids = (account_sid,) if account_sid else tuple(settings.accounts)
    return Finder(Archive(settings), TwilioApi(settings.accounts), account_sids)


def for_each(items: Iterable[T], act: Callable[[T], None], name: Callable[[T], str] = str) -> Exit:
    """Do something for each item; say what failed, and go on. A fault of configuration ends it: it would meet all."""
    done, failed = 0, 0
    for item in items:
        try:
            act(item)
            done += 1
        except ConfigurationError:
            raise
        except ArchiverError as error:
            failed += 1
            say(f"{name(item)}: {error}")
    if failed:
        return Exit.SOME_FAILED if done else Exit.FAILED
    return Exit.OK


def for_each_recording(
    find: Finder,
    recording_sids: Sequence[str],
    call_sid: str | None,
    conference_sid: str | None,
    act: Callable[[Filing], None],
) -> Exit:
    """Find what `which_recordings` has asked for, and do something for each."""
    if not (recording_sids or call_sid or conference_sid):
        raise click.UsageError("give a recording as RE…, or --call CA… or --conference CF…")
    filings = [
        filing
        for kind, sid in (("call", call_sid), ("conference", conference_sid))
        if sid
        for filing in find.parent(kind, sid)
    ]
    wanted: list[str | Filing] = [*dict.fromkeys(recording_sids), *filings]
    return for_each(
        wanted,
        lambda each: act(each if isinstance(each, Filing) else find.recording(each)),
        name=lambda each: each.recording_sid if isinstance(each, Filing) else each,
    )


def print_json(document: Any) -> None:
    """Write a document as data."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=dict))


def output() -> Console:
    """Return standard output: as wide as the terminal, or as wide as it takes where it is none."""
    return Console(width=None if sys.stdout.isatty() else _UNBOUND_WIDTH, highlight=False, emoji=False)


def messages() -> Console:
    """Return standard error, for progress."""
    return Console(stderr=True, highlight=False, emoji=False)


def plain(value: Any, style: str = "") -> Text:
    """Return a value as text that can do nothing to a terminal; None and nothing become a dash."""
    if value is None or value == "":
        return Text("-", style="dim")
    return Text("".join(each if each.isprintable() else "\ufffd" for each in str(value)), style=style, overflow="fold")


def table(names: Sequence[str]) -> Table:
    """Return an empty table, of whose rows only the last cell may be folded: SIDs are copied.

    A name that begins with `>` is of a column that is aligned on the right.
    """
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in names:
        justify: JustifyMethod = "right" if name[0] == ">" else "left"
        made.add_column(name.removeprefix(">"), justify=justify, overflow="fold", no_wrap=name != names[-1])
    return made
