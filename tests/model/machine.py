"""A history that Hypothesis writes, one step at a time: what fails shrinks to the few steps that are needed.

A seeded history decides by chance; here each thing that may happen is a rule of its own. The invariants of the moment
are judged after every step, what must hold at rest when the history is over.
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta

from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.model import events
from tests.model.clock import virtual_time
from tests.model.events import Event
from tests.model.faults import CRASHES, Fault, faults_of
from tests.model.kinds import KINDS, recording_of
from tests.model.recordings import Recording
from tests.model.rest import come_to_rest, drain, stay_at_rest
from tests.model.schedule import Call, Strand, bury
from tests.model.variants import MAIN, SUB, VARIANTS
from tests.model.world import World, judged_logs

STEPS = 40  # of one history
_MOST_RECORDINGS, _MOST_WORKERS, _MOST_DAYS = 4, 3, 5
_DAY_S = 24 * 60 * 60.0
_NAMED = {variant.name: variant for variant in VARIANTS}
_REDIS = (events.wiped, events.hints_lost, events.doubled, events.vanished, events.hostile_message)
_PEOPLE = (
    *(
        events.paused,
        events.resumed,
        events.held,
        events.hold_begun,
        events.accused,
        events.deleted_elsewhere,
        events.overwritten,
        events.removed,
    ),
    *(events.forged, events.shortened, events.encrypted_anew, events.audited, events.forged_callback),
)
_PROCESSES = (events.killed, events.stopped, events.clock_set)
_CREDENTIALS = (events.rotated, events.refused, events.accepted)


def _one_of(choices: tuple[Event, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from([event.__name__ for event in choices])


class Machine(RuleBasedStateMachine):
    """The product between Twilio, S3 and Redis, and everything that may happen to it."""

    recordings = Bundle("recordings")

    def __init__(self) -> None:
        super().__init__()
        self._resources = ExitStack()
        self._shown = self._resources.enter_context(virtual_time())
        self._fault: Fault | None = None
        self._days = 0.0

    @initialize(
        variant=st.sampled_from([variant.name for variant in VARIANTS]),
        slots=st.integers(1, 3),
        page_size=st.sampled_from((1000, 2, 1)),
    )
    def begin(self, variant: str, slots: int, page_size: int) -> None:
        """Choose the settings; there is one worker."""
        self.world = World(self._shown, 0, _NAMED[variant], slots=slots, page_size=page_size)
        self.world.plan = self._plan
        self._resources.enter_context(judged_logs(self.world.judge))
        self.world.start("worker0")

    # At Twilio

    @precondition(lambda self: len(self.world.twilio.recordings) < _MOST_RECORDINGS)
    @rule(
        target=recordings,
        kind=st.sampled_from(list(KINDS)),
        account=st.sampled_from((MAIN, SUB)),
        hours_ago=st.sampled_from((0, 1, 26, 40)),
    )
    def record(self, kind: str, account: str, hours_ago: int) -> Recording:
        """Let a recording have ended, now or before; nobody is told."""
        world, number = self.world, len(self.world.twilio.recordings)
        ended = world.clock.moment() - timedelta(hours=hours_ago)
        recording = recording_of(kind, number, ended, world.random, account)
        world.add(recording)
        world.note(f"{kind}: {recording.sid}")
        return recording

    @rule(recording=recordings, status=st.sampled_from(("completed", "absent", "failed", "in-progress", "new-status")))
    def call_back(self, recording: Recording, status: str) -> None:
        """Say something of a recording: never, twice, late, in any order, or untruly, as the rules happen to come."""
        self.world.note(f"a callback says {status}")
        events.calling_back(recording, status)(self.world)

    @rule(what=_one_of(_CREDENTIALS))
    def credentials(self, what: str) -> None:
        """Rotate tokens, or refuse all of them for a while."""
        self._let(what)

    # The product

    @precondition(lambda self: any(len(process.strands) < self.world.slots for process in self.world.processes))
    @rule(worker=st.integers(0, _MOST_WORKERS - 1))
    def take_a_message(self, worker: int) -> None:
        """Let a worker begin with a message, if there is one for it."""
        self.world.pull(self.world.processes[worker % len(self.world.processes)])

    @precondition(lambda self: self.world.runnable())
    @rule(strand=st.integers(0, 5))
    def go_on(self, strand: int) -> None:
        """Let one of those at work make its call, and go on to its next one."""
        self._go_on(strand, None)

    @precondition(lambda self: self.world.runnable())
    @rule(strand=st.integers(0, 5), fault=st.integers(0, 15))
    def fail(self, strand: int, fault: int) -> None:
        """Let a call fail in one of the ways in which it can."""
        self._go_on(strand, fault)

    @precondition(lambda self: self.world.runnable())
    @rule(strand=st.integers(0, 5), after=st.booleans())
    def crash(self, strand: int, after: bool) -> None:
        """Let a process die before a call is carried out, or after that."""
        self._go_on(strand, CRASHES[after])

    @rule()
    def work(self) -> None:
        """Let everything go on undisturbed until nobody has anything to do."""
        drain(self.world)

    @rule()
    def sweep(self) -> None:
        """Let beat ask for a sweep."""
        self.world.beat()

    @precondition(lambda self: len(self.world.processes) < _MOST_WORKERS)
    @rule()
    def start(self) -> None:
        """Start one more worker."""
        self.world.start(f"worker{len(self.world.trace)}")

    @precondition(lambda self: self.world.processes)
    @rule(what=_one_of(_PROCESSES))
    def process(self, what: str) -> None:
        """Kill a worker, let it stand still, or set its clock."""
        self._let(what)

    # Redis, people and time

    @rule(what=_one_of(_REDIS))
    def redis(self, what: str) -> None:
        """Lose, double or forge what is in Redis."""
        self._let(what)

    @rule(what=_one_of(_PEOPLE))
    def people(self, what: str) -> None:
        """Let somebody do what is allowed, or what is not."""
        self._let(what)

    @precondition(lambda self: self._days < _MOST_DAYS)
    @rule(seconds=st.sampled_from((1.0, 20.0, 61.0, 301.0, 3700.0, _DAY_S)))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._days += seconds / _DAY_S
        self.world.clock.pass_(seconds)
        self.world.queue.restore(self.world.clock.now)

    # What must hold

    @invariant()
    def nothing_is_violated(self) -> None:
        """What is judged in the moment in which something is done."""
        assert not self.world.judge.violations, self.world.judge.violations[0]

    def teardown(self) -> None:
        """End all faults, come to rest, and judge what must hold then."""
        with self._resources:
            if not hasattr(self, "world"):
                return
            world = self.world
            if not world.judge.violations:
                come_to_rest(world)
                stay_at_rest(world)
                world.judge.read("a queue message", "\n".join(world.queue.seen))
            for process in (world.web, *world.processes):
                bury(process)
            note("\n".join(map(str, world.trace)))
            self.nothing_is_violated()

    # How

    def _let(self, name: str) -> None:
        event: Event = getattr(events, name)
        self.world.note(event.__doc__ or "")
        event(self.world)

    def _go_on(self, number: int, fault: Fault | int | None) -> None:
        strands = self.world.runnable()
        strand = strands[number % len(strands)]
        if isinstance(fault, int):
            choices = faults_of(strand.pending) if strand.pending else (None,)
            fault = choices[fault % len(choices)]
        self._fault = fault
        self.world.go_on(strand)
        self._fault = None

    def _plan(self, _call: Call, _strand: Strand) -> Fault | None:
        fault, self._fault = self._fault, None
        return fault


def settings_for(histories: int) -> settings:
    """Return what Hypothesis is told to try that many histories."""
    return settings(
        max_examples=histories,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
