"""All that is done at once to a running stack: deaths, outages, restarts, and faults at a share of all calls."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Event
from typing import Self

import redis

from deploy.local.s3_proxy import S3Proxy
from deploy.local.stack import Stack
from deploy.local.twilio import ErrorStatus, Match
from tests.chaos.calls import planned, play
from tests.chaos.chronicle import Chronicle
from tests.chaos.rest import TERMINATION_S
from tests.chaos.troubles import CALLS_OF_TWILIO, trouble_callbacks, trouble_s3, trouble_twilio

FAILING_SHARE = 0.1
_FULL_S = 300.0  # of a storm in which everything has its full length

Act = Callable[[], object]
Moments = Sequence[tuple[float, Act]]


@dataclass(frozen=True)
class Plan:
    """How many recordings there are, how long the storm lasts (in seconds), the seed of all dice, and where it is kept.

    A storm of less than five minutes has everything in less time.
    """

    recordings: int
    storm_s: float
    seed: int
    directory: Path

    @property
    def kill_every_s(self) -> float:
        return max(10.0, 20 * self._scale)  # less would be no life for a worker, who starts for seconds

    @property
    def restart_redis_every_s(self) -> float:
        return max(10.0, 60 * self._scale)

    @property
    def outage_s(self) -> float:
        return 30 * self._scale

    @property
    def latest_callback_s(self) -> float:
        return 8 * self._scale

    @property
    def _scale(self) -> float:
        return min(1.0, self.storm_s / _FULL_S)


class Storm:
    """Plays the calls of a plan and breaks what they need; in a `with` statement, which ends with everything mended."""

    def __init__(self, stack: Stack, proxy: S3Proxy, plan: Plan, chronicle: Chronicle) -> None:
        self._stack = stack
        self._proxy = proxy
        self._plan = plan
        self._chronicle = chronicle
        self._rng = Random(plan.seed)
        self._ended = Event()
        self._threads = ThreadPoolExecutor(max_workers=6, thread_name_prefix="storm")  # for each actor, one
        self._acting: list[Future[None]] = []

    def __enter__(self) -> Self:
        began = self._chronicle.seconds
        trouble_twilio(self._stack.simulator, self._rng, FAILING_SHARE)
        trouble_s3(self._proxy, self._rng, FAILING_SHARE)
        trouble_callbacks(self._stack.simulator, self._rng, self._plan.latest_callback_s)
        actors = (self._calls, self._deaths, self._of_redis, self._of_s3, self._of_twilio, self._deploys)
        self._acting = [self._threads.submit(self._act, began, moments()) for moments in actors]
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._threads.shutdown()
        self._stack.simulator.clear_faults()
        self._proxy.clear_faults()
        self._proxy.up()

    def is_over(self) -> bool:
        """Tell whether all has been done. Raises what went wrong with the storm itself."""
        over = [each for each in self._acting if each.done()]
        for each in over:
            each.result()
        return len(over) == len(self._acting)

    def wait(self, seconds: float) -> None:
        """Wait for some time."""
        self._ended.wait(seconds)

    def _act(self, began: float, moments: Moments) -> None:
        for at, act in sorted(moments, key=lambda moment: moment[0]):
            if self._ended.wait(max(0.0, began + at - self._chronicle.seconds)):
                return
            act()

    def _every(self, seconds: float) -> Iterator[float]:
        times = int(self._plan.storm_s / seconds)
        yield from (seconds * number for number in range(1, times + 1))

    # What happens when

    def _calls(self) -> Moments:
        calls = planned(self._plan.recordings, self._rng)
        pause = 0.85 * self._plan.storm_s / len(calls)

        def moment(call: dict[str, object]) -> Act:
            return lambda: play(self._stack.simulator, self._stack.callback_url, call, self._rng)

        return [(number * pause, moment(call)) for number, call in enumerate(calls)]

    def _deaths(self) -> Moments:
        return [(at, self._kill_a_worker) for at in self._every(self._plan.kill_every_s)]

    def _of_redis(self) -> Moments:
        restarts = [(at, self._restart_redis) for at in self._every(self._plan.restart_redis_every_s)]
        return restarts + [(share * self._plan.storm_s, self._flush_redis) for share in (0.35, 0.75)]

    def _of_s3(self) -> Moments:
        at = 0.2 * self._plan.storm_s
        return [(at, self._take_s3_away), (at + self._plan.outage_s, self._give_s3_back)]

    def _of_twilio(self) -> Moments:
        at = 0.45 * self._plan.storm_s
        return [(at, self._refuse_credentials)]

    def _deploys(self) -> Moments:
        return [(0.6 * self._plan.storm_s, self._deploy)]

    # What happens

    def _kill_a_worker(self) -> None:
        name = self._rng.choice([each for each in self._stack.processes if each.startswith("worker")])
        self._chronicle.note("worker_killed", name=name)
        self._stack.processes[name].kill()

    def _restart_redis(self) -> None:
        self._chronicle.note("redis_restarted")
        self._stack.redis.restart()

    def _flush_redis(self) -> None:
        with self._stack.redis.client() as client:
            held = len(client.keys("*"))
        with suppress(redis.RedisError):  # the answer of a server that did it
            self._stack.redis.flush()
        self._chronicle.note("redis_flushed", keys=held)

    def _take_s3_away(self) -> None:
        self._chronicle.note("s3_unreachable", seconds=self._plan.outage_s)
        self._proxy.down()

    def _give_s3_back(self) -> None:
        self._proxy.up()
        self._chronicle.note("s3_reachable")

    def _refuse_credentials(self) -> None:
        self._chronicle.note("twilio_refuses", seconds=self._plan.outage_s)
        refusals = [
            self._stack.simulator.inject(ErrorStatus(401, 20003), match=Match(endpoint=endpoint), times=None)
            for endpoint in CALLS_OF_TWILIO
        ]
        self._ended.wait(self._plan.outage_s)
        for refusal in refusals:
            refusal.remove()
        self._chronicle.note("twilio_accepts", refused=sum(refusal.hits for refusal in refusals))

    def _deploy(self) -> None:
        """Restart web and workers, one after the other, as a platform does."""
        for name, process in self._stack.processes.items():
            if not name.startswith("beat"):
                code = process.terminate(TERMINATION_S)
                process.start()
                self._chronicle.note("restarted", name=name, exit_code=code)
