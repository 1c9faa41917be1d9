"""Play calls at a simulated Twilio, let the real product archive them, and check the outcome from the outside.

What is shown is read from the simulator and from S3, never from the product: its processes run as the Procfile says.
"""

import argparse
import io
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from deploy.local.demo_view import first_day, log_line, look_around, summary, table
from deploy.local.observer import Observer
from deploy.local.processes import StartError
from deploy.local.servers import ROOT
from deploy.local.stack import Stack, read_procfile
from deploy.local.twilio import Simulator

# Every kind of recording, in the order in which they are played; a trunk sends no callback, the sweep finds it.
KINDS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("two-party call", {"kind": "call", "seconds": 12.0}),
    ("conference", {"kind": "conference", "seconds": 21.5}),
    ("<Record>, mono", {"kind": "record_verb", "channels": 1, "seconds": 7.0}),
    ("encrypted call", {"kind": "call", "seconds": 16.0, "encrypted": True}),
    ("too short", {"kind": "call", "seconds": 0.0, "status": "absent", "error_code": 16101}),
    ("long call", {"kind": "call", "seconds": 600.0}),
    ("SIP trunk, no callback", {"kind": "trunk", "seconds": 9.0}),
)
SETTINGS: Final = {"SWEEP_INTERVAL": "4s", "SWEEP_GRACE": "3s", "LOG_FORMAT": "console"}
# A past that nobody was told of, and time to bring it home by hand before a sweep does.
FIRST_DAY: Final = {"TWILIO_DELETE": "never", "SWEEP_INTERVAL": "1h", "LOG_FORMAT": "console"}
FIRST_DAY_RECORDINGS: Final = 4 * len(KINDS)
STALLED_AFTER_S: Final = 120.0
_POLL_S: Final = 0.25


def main(argv: list[str] | None = None) -> int:
    """Run the demo; return 0 when every recording ended as promised, 1 otherwise, 130 when interrupted."""
    options = _parse(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what a terminal can't show is no reason to fail
    console = Console(highlight=False)
    try:
        console.print("Starting Redis, S3, Twilio (simulated), web, worker and beat ...")
        if options.first_day:
            with Stack(("web", "worker", "beat"), settings=FIRST_DAY, commands=_told_by_file(), respawn=True) as stack:
                return _first_day(stack, console)
        with Stack(("web", "worker", "beat"), settings=SETTINGS, respawn=True) as stack:
            return _run(stack, options, console)
    except StartError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; everything is stopped", file=sys.stderr)
        return 130


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deploy/local/demo", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--calls", type=int, default=len(KINDS), metavar="N", help="how many calls to play (default %(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="stay up afterwards, to look around")
    parser.add_argument(
        "--first-day",
        action="store_true",
        help="play no call: start with two weeks of recordings, delete nothing, and stay up for README's first day",
    )
    options = parser.parse_args(argv)
    if not 1 <= options.calls <= 1000:  # of which the S3 server would hold 3 GB in memory
        parser.error("--calls takes a number from 1 to 1000")
    return options


def _run(stack: Stack, options: argparse.Namespace, console: Console) -> int:
    observer = Observer(stack.simulator, stack.s3.client(), stack.bucket)
    console.print(f"Playing {options.calls} calls; callbacks go to {stack.callback_url}")
    for kind, index in _kinds(options.calls):
        observer.watch(kind, _play(stack.simulator, index, stack.callback_url))
    started = time.monotonic()
    if console.is_terminal:
        _watch_live(observer, console, stack)
    else:
        _watch_plainly(observer, console, stack)
    console.print(summary(observer.watched, time.monotonic() - started), soft_wrap=not console.is_terminal)
    if not observer.all_right:
        console.print(stack.tails(30), markup=False)
    if options.keep:
        console.print(look_around(stack, observer.watched[0].recording_sid), markup=False, soft_wrap=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return 0 if observer.all_right else 1


def _told_by_file() -> dict[str, str]:
    """Return Procfile lines whose processes read their environment at every start, so that it can be changed."""
    lines = read_procfile(ROOT / "Procfile")
    return {name: f'set -a; . "$TMPDIR/environment"; exec {lines[name]}' for name in ("web", "worker", "beat")}


def _first_day(stack: Stack, console: Console) -> int:
    """Leave everything as it is before anything was archived, with what a second terminal needs to go on."""
    recordings = [_play_past(stack.simulator, number) for number in range(FIRST_DAY_RECORDINGS)]
    script = stack.directory / "first-day"
    shown = {
        "ENVIRONMENT": str(stack.environment_file),
        "FIRST_DAY": str(script),
        "RECORDING": recordings[0],
        "WORKER": str(stack.worker.pid),
    }
    words = "".join(f"{name}={shlex.quote(value)}\n" for name, value in shown.items())
    own = ("HOME", "TMPDIR")  # of whoever types, not of the processes
    keep = "".join(f'_{name}="${{{name}-}}"\n' for name in own)
    restore = "".join(f'{name}="$_{name}"\n' for name in own)
    script.write_text(f"{keep}set -a\n. {shlex.quote(shown['ENVIRONMENT'])}\n{words}{restore}set +a\n")
    console.print(first_day(stack, script, len(recordings)), markup=False, soft_wrap=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return 0


def _play_past(simulator: Simulator, number: int) -> str:
    """Let a call of a kind have happened, two a day, before Twilio knew of a callback; return its recording's SID."""
    options = dict(KINDS[number % len(KINDS)][1])
    options["seconds"] = min(options["seconds"], 60.0)
    happened = datetime.now(UTC) - timedelta(hours=6 + 12 * number)
    return simulator.record(next(iter(simulator.accounts)), date_created=happened, **options).sid


def _kinds(calls: int) -> Iterator[tuple[str, int]]:
    for number in range(calls):
        index = number % len(KINDS)
        yield KINDS[index][0], index


def _play(simulator: Simulator, index: int, callback_url: str) -> str:
    """Let one call of a kind happen; return the SID of its recording."""
    kind, options = KINDS[index]
    account_sid = next(iter(simulator.accounts))
    announced = (
        {} if "no callback" in kind else {"callback_url": callback_url, "callback_events": ("completed", "absent")}
    )
    began = datetime.now(UTC) - timedelta(seconds=float(options["seconds"]))
    return simulator.record(account_sid, date_created=began, **options, **announced).sid


def _watch_live(observer: Observer, console: Console, stack: Stack) -> None:
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        for _ in _rounds(observer, stack):
            live.update(table(observer.watched, console.width))
    console.print(table(observer.watched, console.width))


def _watch_plainly(observer: Observer, console: Console, stack: Stack) -> None:
    said: dict[str, str] = {}
    for _ in _rounds(observer, stack):
        for each in observer.watched:
            if said.get(each.recording_sid) != each.state:
                said[each.recording_sid] = each.state
                console.print(log_line(each), soft_wrap=True, markup=False)


def _rounds(observer: Observer, stack: Stack) -> Iterator[None]:
    """Look again until everything has ended, or nothing has moved for two minutes."""
    last_change, before = time.monotonic(), None
    while True:
        observer.look()
        yield
        now = [each.state for each in observer.watched]
        if all(each.ended for each in observer.watched):
            return
        if now != before:
            last_change, before = time.monotonic(), now
        elif time.monotonic() - last_change > STALLED_AFTER_S:
            return
        time.sleep(_POLL_S)
