"""Play calls at a simulated Twilio, let the real product archive them, and check the outcome from the outside.

What is shown is read from the simulator and from S3, never from the product: its processes run as the Procfile says.
"""

import argparse
import io
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from rich.console import Console
from rich.live import Live

from deploy.local.demo_view import log_line, look_around, summary, table
from deploy.local.observer import Observer
from deploy.local.processes import StartError
from deploy.local.stack import Stack
from deploy.local.twilio import Simulator

# Every kind of recording, in the order in which they are played; a trunk sends no callback, the sweep finds it.
KINDS: Final = (
    ("two-party call", {"kind": "call", "seconds": 12.0}),
    ("conference", {"kind": "conference", "seconds": 21.5}),
    ("<Record>, mono", {"kind": "record_verb", "channels": 1, "seconds": 7.0}),
    ("encrypted call", {"kind": "call", "seconds": 16.0, "encrypted": True}),
    ("too short", {"kind": "call", "seconds": 0.0, "status": "absent", "error_code": 16101}),
    ("long call", {"kind": "call", "seconds": 600.0}),
    ("SIP trunk, no callback", {"kind": "trunk", "seconds": 9.0}),
)
SETTINGS: Final = {"SWEEP_INTERVAL": "4s", "SWEEP_GRACE": "3s", "LOG_FORMAT": "console"}
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
