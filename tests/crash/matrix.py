"""Kill a process of the product at every boundary of every request in the lives of recordings; see that none is lost.

The steps are not written down here: one recording of each kind is watched while nothing disturbs it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Self

from deploy.local.processes import wait_until
from deploy.local.redis_proxy import RedisProxy
from deploy.local.s3_proxy import S3Proxy
from deploy.local.servers import ROOT, RedisServer, S3Server
from deploy.local.stack import Stack, read_procfile
from deploy.local.twilio import SimRecording, Simulator
from tests.chaos.evidence import collect
from tests.chaos.judge import Verdict, judge
from tests.chaos.rest import ended, rested, stopped
from tests.crash.boundaries import Boundaries, Step, Trap, points_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KINDS: dict[str, dict[str, Any]] = {
    "call": {"seconds": 2.0},
    "long call": {"seconds": 300.0},  # two parts
    "mono": {"kind": "record_verb", "seconds": 2.0},
    "absent": {"seconds": 0.0, "status": "absent", "error_code": 16101},
    "trunk": {"kind": "trunk", "seconds": 2.0},  # which only a sweep finds
}
SETTINGS = {"SWEEP_INTERVAL": "2s", "SWEEP_GRACE": "10s", "WEB_CONCURRENCY": "1"}
BEAT = read_procfile(ROOT / "Procfile")["beat"].replace("workers.beat", "tests.crash.sweeping_beat")
_SPRINGS_WITHIN_S = 90.0
_MOST_HELD = 3  # of the eight threads of a worker

Say = Callable[[str], object]


@dataclass(frozen=True)
class Case:
    """One crash: at which point of which step of the life of which kind of recording."""

    kind: str
    step: Step
    point: str

    @property
    def can_wait(self) -> bool:
        """Whether the worker can be held there: it waits long for Twilio and S3, and not for Redis."""
        return self.point != "sent" and self.step.side != "redis" and not self.step.is_shared

    def __str__(self) -> str:
        return f"{self.kind}: {self.point} {self.step}"


@dataclass(frozen=True)
class Outcome:
    """What became of the recordings, and which crashes did not come about."""

    cases: int
    verdict: Verdict
    not_reached: list[Case]

    @property
    def is_right(self) -> bool:
        return not self.verdict.findings and not self.not_reached


class Matrix:
    """A running stack in which every request can be the last of its process; use it in a `with` statement."""

    def __init__(self, directory: Path, say: Say) -> None:
        self._directory = directory
        self._say = say
        self._resources = ExitStack()
        self._boundaries = Boundaries()
        self._sids = count(1)

    def __enter__(self) -> Self:
        numbers = count(1)
        with ExitStack() as resources:
            redis_server = resources.enter_context(RedisServer())
            redis_proxy = resources.enter_context(RedisProxy(redis_server.port, self._boundaries.of_redis))
            s3_server = resources.enter_context(S3Server())
            self._proxy = resources.enter_context(S3Proxy(s3_server.endpoint_url, numbers=numbers))
            self._simulator = resources.enter_context(Simulator(numbers=numbers))
            self._simulator.inject(self._boundaries.of_twilio(), times=None)
            self._proxy.inject(self._boundaries.of_s3(), times=None)
            self._client: S3Client = resources.enter_context(closing(s3_server.client(retries=3)))
            self.stack = resources.enter_context(
                Stack(
                    ("web", "worker", "beat"),
                    settings={**SETTINGS, "REDIS_URL": redis_proxy.url(), "AWS_ENDPOINT_URL_S3": self._proxy.url},
                    commands={"beat": BEAT},
                    respawn=True,
                    redis_server=redis_server,
                    s3_server=s3_server,
                    simulator=self._simulator,
                )
            )
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def cases(self) -> list[Case]:
        """Watch an undisturbed recording of each kind, and return every crash that its life has room for.

        What one kind does like another before it is left out, but for the media, which are asked for in other ways.
        """
        cases: list[Case] = []
        self.stack.beat.terminate()  # on a slow machine a sweep would find what is being archived
        for kind in KINDS:
            recording = self._play(kind, f"RE{next(self._sids):032x}")
            if kind == "trunk":
                self._let_sweep_find(recording)
            wait_until(lambda: ended(self.stack, self._client).is_all, timeout_s=90, what=f"the end of a {kind}")
            known = {case.step for case in cases}
            for step in self._steps_of(recording, kind):
                if step not in known or " media " in step.what:
                    cases += [Case(kind, step, point) for point in points_of(step)]
        self.stack.beat.start()
        return cases

    def run(self, cases: Sequence[Case], *, hurry: bool = False) -> Outcome:
        """Play a recording for each case and kill who is to be killed; judge when all have come to rest.

        The dead leave leases behind; to `hurry`, Redis is wiped after the last crash.
        """
        missed = [case for together in _together(cases) for case in self._crash(together)]
        not_reached = [case for case in missed for case in self._crash([case])]  # what one kill took from another
        if hurry:
            self.stack.redis.flush()
        rested(self.stack, self._client, self._say)
        for _ in stopped(self.stack, self._directory):
            pass
        evidence = collect(self._simulator, self._proxy, self._client, self.stack.bucket)
        evidence.write(self._directory)
        return Outcome(len(cases), judge(evidence), not_reached)

    def _crash(self, together: Sequence[Case]) -> list[Case]:
        """Play a recording for each case, kill who all are in, and return the cases that it did not come to.

        Whoever is in one of the first waits there for the last one, in which it dies.
        """
        *first, last = together
        process = self.stack.processes[last.step.who]
        self.stack.wait_ready(last.step.who, _SPRINGS_WITHIN_S)
        killed = Event()
        traps = [self._set(case, killed.wait) for case in first]
        reached = [self._is_met(trap) for trap in traps]
        trap = self._set(last, process.kill)
        reached.append(self._is_met(trap) and trap.sprung.wait(_SPRINGS_WITHIN_S))
        if not reached[-1]:
            process.kill()
        killed.set()
        self._say(f"{process.name} killed: {'; '.join(map(str, together))}")
        return [case for case, was_reached in zip(together, reached, strict=True) if not was_reached]

    def _set(self, case: Case, end: Callable[[], object]) -> Trap:
        """Set the trap of a case and let its call happen."""
        sid = f"RE{next(self._sids):032x}"
        trap = self._boundaries.arm(Trap(sid, case.step, case.point, end))
        if case.step.is_shared:
            self.stack.redis.flush()  # some of that is done once a day only, as far as Redis knows
        self._play(case.kind, sid)
        return trap

    def _is_met(self, trap: Trap) -> bool:
        try:
            return wait_until(trap.met.is_set, timeout_s=_SPRINGS_WITHIN_S, what=str(trap.step))
        except TimeoutError:
            self._boundaries.disarm(trap)
            self._say(f"not reached: {trap.point} {trap.step} of {trap.recording_sid}")
            return False

    def _play(self, kind: str, sid: str) -> SimRecording:
        account_sid = next(iter(self._simulator.accounts))
        return self._simulator.record(
            account_sid,
            **KINDS[kind],
            sid=sid,
            callback_url=self.stack.callback_url,
            callback_events=("completed", "absent"),
        )

    def _let_sweep_find(self, recording: SimRecording) -> None:
        self.stack.beat.start()
        wait_until(lambda: self._boundaries.lives[recording.sid], timeout_s=90, what="a sweep that finds it")
        self.stack.beat.terminate()

    def _steps_of(self, recording: SimRecording, kind: str) -> Iterator[Step]:
        """Yield the steps of a life; those that nothing ties to it are those of a sweep, or of any deletion."""
        yield from self._boundaries.lives[recording.sid]
        if kind == "trunk":
            yield from dict.fromkeys(self._boundaries.shared)


def _together(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """Yield the cases that one kill serves: the last one is where it happens, and the others can be held until then."""
    held = [case for case in cases if case.can_wait]
    others = [case for case in cases if not case.can_wait]
    for number, case in enumerate(others):
        is_alone = case.step.is_shared or case.step.who != "worker"
        share = 0 if is_alone else -(-len(held) // (len(others) - number))
        taken, held = held[: min(share, _MOST_HELD)], held[min(share, _MOST_HELD) :]
        yield [*taken, case]
    while held:
        yield held[: _MOST_HELD + 1]
        held = held[_MOST_HELD + 1 :]
