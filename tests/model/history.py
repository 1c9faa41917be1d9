"""Seeded histories: a number decides what happens, to whom, in which order, and what fails."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from heapq import heappop, heappush
from random import Random

import time_machine

from tests.model import events
from tests.model.events import Deed, Event
from tests.model.faults import CRASHES, Fault, faults_of
from tests.model.kinds import KINDS, recording_of
from tests.model.recordings import Recording
from tests.model.rest import SWEEP_EVERY_S, come_to_rest, stay_at_rest
from tests.model.schedule import Call, Strand
from tests.model.variants import MAIN, SUB, VARIANTS
from tests.model.world import Entry, World, judged_logs

_MAX_STEPS = 4_000  # of the time in which things fail; what is left goes on at rest

# How often each thing happens in a history, on average.
_HAPPENINGS: tuple[tuple[Event, float], ...] = (
    (events.doubled, 0.5),
    (events.wiped, 0.12),
    (events.hints_lost, 0.12),
    (events.vanished, 0.1),
    (events.rotated, 0.08),
    (events.stopped, 0.08),
    (events.killed, 0.1),
    (events.clock_set, 0.08),
    (events.paused, 0.06),
    (events.held, 0.1),
    (events.hold_begun, 0.04),
    (events.accused, 0.06),
    (events.deleted_elsewhere, 0.06),
    (events.overwritten, 0.03),
    (events.removed, 0.02),
    (events.forged, 0.03),
    (events.shortened, 0.05),
    (events.encrypted_anew, 0.02),
    (events.audited, 0.04),
    (events.hostile_message, 0.4),
    (events.forged_callback, 0.1),
)


# What somebody may do in the middle of a deletion, each as often as it is named.
_INTERFERENCES: tuple[Deed, ...] = (
    *(3 * (events.paused, events.accused)),
    *(2 * (events.hold_begun,)),
    *(events.overwritten, events.removed, events.forged, events.encrypted_anew, events.deleted_elsewhere),
)
_LOCK_INTERFERENCES: tuple[Deed, ...] = 3 * (events.held, events.shortened)
_DELETION_CALLS = 12  # from the lease to the DELETE, and a few more


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a history ended. Without violations, `trace` need not be looked at."""

    name: str
    title: str
    violations: list[str]
    trace: list[Entry]
    figures: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.title}", *map(str, self.trace), *(f"VIOLATION {v}" for v in self.violations)]
        return "\n".join(lines)


def run(shown: time_machine.Traveller, seed: int) -> Outcome:
    """Let a history happen, come to rest, and be judged."""
    random = Random(f"history {seed}")
    variant = random.choices(VARIANTS, [6] + [1] * (len(VARIANTS) - 1))[0]
    world = World(shown, seed, variant, slots=random.choice((1, 2, 3)), page_size=random.choice((1, 2, 1000)))
    history = _History(world, random)
    with judged_logs(world.judge):
        history.happen()
        come_to_rest(world)
        stay_at_rest(world)
    world.judge.read("a queue message", "\n".join(world.queue.seen))
    figures = figures_of(world) + Counter({"histories": 1})
    return Outcome(f"history {seed}", f"{variant.name}, {history.title}", world.judge.violations, world.trace, figures)


class _History:
    """What happens in a world, by the numbers that come from `random`."""

    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._random = random
        self._agenda: list[tuple[float, int, str, Event]] = []
        self._faults = random.choice((0.0, 0.02, 0.05, 0.1, 0.25))
        self._crashes = random.choice((0.0, 0.0, 0.005, 0.02))
        self._outage: tuple[str, float, float] | None = None
        self._interference = self._chosen_interference() if random.random() < 0.3 else None
        self._lasts_s = random.choice((60.0, 600.0, 1800.0))
        self._workers = random.choice((1, 1, 2))
        self.title = f"faults {self._faults}, crashes {self._crashes}, {self._workers} workers"
        world.plan = self._plan
        for number in range(self._workers):
            world.start(f"worker{number}")
        self._write_agenda()

    def happen(self) -> None:
        """Go on until everything on the agenda has happened."""
        world = self._world
        end = world.clock.now + self._lasts_s
        for _ in range(_MAX_STEPS):
            while self._agenda and self._agenda[0][0] <= world.clock.now:
                _, _, name, event = heappop(self._agenda)
                world.note(name)
                event(world)
            world.queue.restore(world.clock.now)
            for process in list(world.processes):
                if self._random.random() < 0.7:
                    world.pull(process)
            if len(world.processes) < self._workers and self._random.random() < 0.1:
                world.start(f"worker{world.random.getrandbits(16):04x}")
            strands = world.runnable()
            if strands:
                strand = self._random.choice(strands)
                self._interfere(strand)
                world.go_on(strand)
            elif world.clock.now > end and not self._agenda:
                return
            else:
                self._wait(end)

    def _wait(self, end: float) -> None:
        """Let time pass until something may happen again."""
        world = self._world
        moments = [self._agenda[0][0]] if self._agenda else [end + 1]
        moments += [strand.wakes_at for process in world.processes for strand in process.strands]
        moments += [process.stopped_until for process in world.processes]
        if (due := world.queue.next_due()) is not None:
            moments.append(due)
        later = min((moment for moment in moments if moment > world.clock.now), default=end + 1)
        world.clock.now = min(later, world.clock.now + 60.0)

    def _chosen_interference(self) -> tuple[Deed, int]:
        """Return what somebody does to the recording of the first deletion that gets as far as a call, and which."""
        locked = _LOCK_INTERFERENCES if self._world.variant.traits.object_lock else ()
        return self._random.choice(_INTERFERENCES + locked), self._random.randrange(1, _DELETION_CALLS)

    def _interfere(self, strand: Strand) -> None:
        if self._interference is None or len(strand.calls) != self._interference[1] or strand.pending is None:
            return
        kind, _, work = strand.calls[0].target.partition(":")
        recording = self._world.twilio.recordings.get(work.rpartition("/")[2])
        if kind == "delete" and recording is not None:
            (deed, _), self._interference = self._interference, None
            self._world.note(deed.__doc__ or "")
            deed(self._world, recording)

    def _plan(self, call: Call, _strand: Strand) -> Fault | None:
        if self._outage is not None:
            service, start, stop = self._outage
            if service == call.service and start <= self._world.clock.now < stop:
                return faults_of(call)[0]
        chance = self._random.random()
        if chance < self._crashes:
            return self._random.choice(CRASHES)
        return self._random.choice(faults_of(call)) if chance < self._crashes + self._faults else None

    # The agenda

    def _at(self, after_s: float, name: str, event: Event) -> None:
        heappush(self._agenda, (self._world.clock.now + after_s, len(self._agenda), name, event))

    def _write_agenda(self) -> None:
        random = self._random
        for number in range(random.choice((1, 1, 1, 2, 2, 3, 5))):
            self._plan_recording(number)
        for event, rate in _HAPPENINGS:
            while random.random() < rate / (1 + rate):
                self._at(random.uniform(0, self._lasts_s), event.__doc__ or "", event)
        if random.random() < 0.1:
            start = random.uniform(0, self._lasts_s)
            self._at(start, "Twilio refuses all credentials", events.refused)
            self._at(start + random.choice((10.0, 60.0, 300.0)), "Twilio takes them again", events.accepted)
        if random.random() < 0.15:
            start = self._world.clock.now + random.uniform(0, self._lasts_s)
            service = random.choice(("s3", "twilio", "queue", "hints"))
            self._outage = (service, start, start + random.choice((5.0, 60.0, 600.0)))
        for at in range(int(self._lasts_s // SWEEP_EVERY_S)):
            self._at(random.uniform(0, 5) + at * SWEEP_EVERY_S, "beat asks for a sweep", World.beat)

    def _plan_recording(self, number: int) -> None:
        random, world = self._random, self._world
        kind = random.choice(list(KINDS)) if random.random() < 0.7 else "two channels"
        before_s = random.choice((0, 0, 0, 0, 1, 26, 40)) * 3600  # one may be much older than the history
        ended_s = random.uniform(0, self._lasts_s / 2)
        ended = world.clock.moment() + timedelta(seconds=ended_s - before_s)
        account_sid = random.choice((MAIN, MAIN, SUB))
        recording = recording_of(kind, 10 * random.randrange(20) + number, ended, random, account_sid)
        self._at(ended_s, f"{kind}: {recording.sid}", lambda world: world.add(recording))
        for after_s, status in self._callbacks(recording):
            self._at(ended_s + after_s, f"a callback says {status}", events.calling_back(recording, status))

    def _callbacks(self, recording: Recording) -> list[tuple[float, str]]:
        """Return when callbacks come and what they say: never, often, late, in any order, or lies."""
        random = self._random
        if random.random() < 0.15:
            return []
        true = random.choice(("absent", "failed")) if recording.absent else "completed"
        callbacks = [(random.choice((0.0, 0.1, 2.0, 100.0)), true)]
        while random.random() < 0.3:
            said = random.choice((true, true, "in-progress", "absent", "completed", "failed", "something-new"))
            callbacks.append((random.choice((0.0, 0.2, 1.0, 30.0, 400.0)), said))
        return callbacks


def figures_of(world: World) -> Counter[str]:
    """Count what has happened in a world."""
    figures = Counter({"recordings": len(world.twilio.recordings)})
    for entry in world.trace:
        if isinstance(entry.what, Call):
            figures["calls"] += 1
            if entry.fault is not None:
                figures["crashes" if entry.fault.is_crash else "faults"] += 1
            if entry.what.operation.startswith("DELETE"):
                figures["deletes"] += 1
    return figures
