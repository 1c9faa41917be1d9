"""The single-fault matrix: every call of a recording's life with everything that can strike it, each in its own life.

Each life must come to a good end, and where the undisturbed life needs no sweep, the disturbed one must not need one
either: retries and the redelivery of messages are enough, unless it was Redis itself that failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import time_machine

from tests.model.faults import CRASHES, Fault, faults_of
from tests.model.history import Outcome, figures_of
from tests.model.kinds import KINDS, recording_of
from tests.model.rest import come_to_rest, drain, stay_at_rest, unfinished
from tests.model.schedule import Call, Strand
from tests.model.variants import PLAIN, TOKENS, VARIANTS, Variant
from tests.model.world import World, judged_logs

# Every kind under the plain settings, and one or two kinds under each of the others.
ROWS: tuple[tuple[str, str], ...] = (
    *((kind, PLAIN.name) for kind in KINDS if kind != "wrong for days"),
    *(("two channels", variant.name) for variant in VARIANTS[1:]),
    *((kind, variant) for variant in ("locked", "readback", "mp3") for kind in ("short", "encrypted")),
)
_VARIANTS = {variant.name: variant for variant in VARIANTS}


@dataclass(frozen=True, slots=True)
class Cell:
    """One life: what is recorded, under which settings, and which fault strikes which call (counted from 1)."""

    kind: str
    variant: str
    number: int = 0
    fault: Fault | None = None

    def __str__(self) -> str:
        struck = f", call {self.number}: {self.fault}" if self.fault else ", undisturbed"
        return f"{self.kind}, {self.variant}{struck}"


def run_row(shown: time_machine.Traveller, kind: str, variant: str) -> Iterator[Outcome]:
    """Live the life of a kind of recording under some settings undisturbed, and then with every fault at every call."""
    outcome, calls, swept = live(shown, Cell(kind, variant), swept=True)
    yield outcome
    for number, call in enumerate(calls, start=1):
        for fault in (*faults_of(call), *CRASHES):
            # A lost message, or a lease that nobody knows of; an absence that could not be dated yet; or what looks
            # like a fault of the content, after other retries.
            excused = call.service in ("queue", "hints") or fault.name in ("not there yet", "400")
            yield live(shown, Cell(kind, variant, number, fault), swept=swept or excused)[0]


def live(shown: time_machine.Traveller, cell: Cell, *, swept: bool) -> tuple[Outcome, list[Call], bool]:
    """Live one life. Return how it ended, the calls until it was over without a sweep, and whether it needed one.

    Unless it may be `swept`, needing a sweep is a violation.
    """
    variant: Variant = _VARIANTS[cell.variant]
    world = World(shown, f"{cell.kind} {cell.variant}", variant, slots=1)

    def plan(call: Call, _strand: Strand) -> Fault | None:
        return cell.fault if call.number == cell.number else None

    world.plan = plan
    with judged_logs(world.judge):
        recording = recording_of(cell.kind, 1, world.clock.moment(), world.random)
        world.add(recording)
        world.start("worker")
        said = "absent" if recording.absent else "completed"
        recording.rumoured = bool(recording.absent)
        world.call_back(recording.callback(said), TOKENS[recording.account_sid][0])
        drain(world)
        calls = [entry.what for entry in world.trace if isinstance(entry.what, Call)]
        if not world.processes:
            world.start("again")
        world.clock.pass_(world.visibility_s + 60)
        drain(world)
        left = [what for what in unfinished(world) if not variant.delete_after or "still at Twilio" not in what]
        if left and not swept:
            world.judge.blame(f"it takes a sweep: {left}")
        come_to_rest(world)
        stay_at_rest(world)
    world.judge.read("a queue message", "\n".join(world.queue.seen))
    figures = figures_of(world) + Counter({"lives": 1})
    return Outcome(str(cell), "", world.judge.violations, world.trace, figures), calls, bool(left)
