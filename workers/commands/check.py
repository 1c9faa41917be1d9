"""`archiver check`: try everything that archiving relies on, and say for each thing how it is and how to mend it."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from app.settings import CommonSettings, S, SettingsError, TwilioSettings, WebSettings, WorkerSettings, load
from workers.checks.bucket import check_bucket
from workers.checks.receiver import check_receiver
from workers.checks.redis import check_redis
from workers.checks.results import Result, State, skipped
from workers.checks.runner import Group, run
from workers.checks.settings import check_settings
from workers.checks.twilio import check_account
from workers.checks.web import check_web
from workers.cli import Exit, say

_THINGS: Final = ("twilio", "web", "redis", "bucket", "notifications")
_ONLY: Final = ("settings", *_THINGS)  # the settings are always looked at
_STYLES: Final = {State.GREEN: "green", State.AMBER: "yellow", State.RED: "bold red", State.SKIPPED: "dim"}


@click.command()
@click.option("--only", multiple=True, type=click.Choice(_ONLY), help="Try this only (may be repeated).")
@click.option("--no-write", is_flag=True, help="Write nothing to the bucket, not even to its scratch prefix.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.pass_context
def check(context: click.Context, only: tuple[str, ...], no_write: bool, as_json: bool) -> Exit:
    """Try Twilio, the callback URL, Redis, the bucket and the notifications, and name the mend for what is wrong.

    Green works, amber works and should be mended, red does not work; what could not be tried is skipped. Nothing is
    enqueued, nothing at Twilio is changed, the bucket is written to under control/check/ only, and what is sent to
    NOTIFY_URL is of the type archiver.check. Exit code 4 when something is red, 5 when the settings can't be read.
    """
    settings = Group("settings", check_settings)
    groups = [group for thing in only or _THINGS for group in _groups(thing, write=not no_write)]
    settings.run()
    _run(groups)
    for group in (settings, *groups):
        if group.error and context.find_root().params.get("debug"):
            raise group.error
    _show([settings, *groups], as_json)
    if settings.worst is State.RED:
        return Exit.CONFIGURATION
    return Exit.DISCREPANCIES if any(group.worst is State.RED for group in groups) else Exit.OK


def _groups(thing: str, *, write: bool) -> list[Group]:
    """Return the checks of a thing: of Twilio, a group for each account."""
    match thing:
        case "twilio":
            return _twilio()
        case "web":
            return [_group("web", WebSettings, check_web)]
        case "redis":
            return [_group("Redis", CommonSettings, check_redis)]
        case "notifications":
            return [_group("notifications", WorkerSettings, check_receiver)]
        case "settings":
            return []
    return [_group("bucket", WorkerSettings, partial(check_bucket, write=write))]


def _group(name: str, cls: type[S], checks: Callable[[S], Iterable[Result]]) -> Group:
    """Make a group of checks; without its settings, one that says so."""
    try:
        settings = load(cls)
    except SettingsError:
        return Group(name, lambda: [skipped("all", "not tried: the settings have to be mended first")])
    return Group(name, lambda: checks(settings))


def _twilio() -> list[Group]:
    try:
        settings = load(TwilioSettings)
    except SettingsError:
        return [_group("Twilio", TwilioSettings, lambda _: ())]
    return [
        Group(f"Twilio {account.account_sid}", partial(check_account, settings, account))
        for account in settings.accounts.values()
    ]


def _run(groups: Sequence[Group]) -> None:
    """Run the groups, with a line for each on a terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(finished_text=" "), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        lines = [progress.add_task(group.name, total=1) for group in groups]

        def update() -> None:
            for line, group in zip(lines, groups, strict=True):
                done = group.seconds is not None
                text = f"{group.name}: {group.worst if done else 'checking'}, {len(group.results)} checks"
                progress.update(line, description=text, completed=1 if done else 0)

        run(list(groups), update)


def _show(groups: Sequence[Group], as_json: bool) -> None:
    totals = Counter(str(result.state) for group in groups for result in group.results)
    if as_json:
        checks = [
            {"group": group.name, "name": each.name, "state": each.state, "found": each.found, "mend": each.mend}
            for group in groups
            for each in group.results
        ]
        click.echo(json.dumps({"checks": checks, "totals": {state: totals[state] for state in State}}, indent=2))
        return
    console = Console()
    if console.is_terminal:
        console.print(*_report(groups), sep="\n")
    else:
        for group in groups:
            for each in group.results:
                mend = f"; mend: {each.mend}" if each.mend else ""
                click.echo(f"{each.state:<7} {group.name}: {each.name}: {each.found}{mend}")
    say(", ".join(f"{totals[state]} {state}" for state in State if totals[state]))


def _report(groups: Sequence[Group]) -> Iterator[Text | Table]:
    """Show each group under its name, all with the same columns."""
    widest = max(len(each.name) for group in groups for each in group.results)
    for group in groups:
        yield Text(f"\n{group.name}", style="bold")
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
        table.add_column(width=max(map(len, State)))
        table.add_column(width=widest)
        table.add_column(overflow="fold")
        for each in group.results:
            style = _STYLES[each.state]
            text = Text(each.found)
            if each.mend:
                text.append(f"\nmend: {each.mend}", style=style)
            table.add_row(Text(each.state, style=style), each.name, text)
        yield table
