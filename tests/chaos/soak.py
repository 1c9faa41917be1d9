"""Run the whole local stack through a storm, let it come to rest, and judge it from the outside.

Nothing of the product is imported: what happened is known from the simulator, the S3 proxy and the bucket.
"""

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from itertools import count

from deploy.local.s3_proxy import S3Proxy
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import Simulator
from tests.chaos.attendance import archiver, watchful
from tests.chaos.chronicle import Chronicle, Say
from tests.chaos.evidence import Asked, Evidence, collect
from tests.chaos.judge import Verdict, judge
from tests.chaos.rest import rested, stopped
from tests.chaos.storm import Plan, Storm
from tests.output import OUTPUT

PROCESSES = ("web", "worker.1", "worker.2", "beat.1", "beat.2")
SETTINGS = {"SWEEP_INTERVAL": "15s", "SWEEP_GRACE": "5s", "CELERY_CONCURRENCY": "16"}
_TELL_EVERY_S = 15.0
_MOST = 0.9


@dataclass(frozen=True)
class Outcome:
    """What came of a run; `audit` is the exit code of the product's own audit, `leaks` are secrets that got out.

    `asked` and `failed` count the calls of the storm by side: how many they are after it depends on the machine.
    """

    plan: Plan
    verdict: Verdict
    done: Counter[str]
    asked: Counter[str]
    failed: Counter[str]
    storm_s: float
    quiet_s: float
    audit: int
    leaks: list[str]

    @property
    def is_right(self) -> bool:
        return not self.verdict.findings and not self.leaks and self.audit == 0


def soak(plan: Plan, say: Say) -> Outcome:
    """Do what the plan says and return what came of it; evidence, logs and timeline are kept in its directory.

    Whoever calls this lets `OUTPUT` witness what processes put out. Raises `StartError`.
    """
    numbers = count(1)
    with closing(Chronicle(plan.directory / "timeline.jsonl", numbers, say)) as chronicle:
        with (
            RedisServer() as redis_server,
            S3Server() as s3_server,
            S3Proxy(s3_server.endpoint_url, numbers=numbers) as proxy,
            Simulator(numbers=numbers) as simulator,
            Stack(
                PROCESSES,
                settings={**SETTINGS, "AWS_ENDPOINT_URL_S3": proxy.url},
                respawn=True,
                redis_server=redis_server,
                s3_server=s3_server,
                simulator=simulator,
            ) as stack,
            closing(s3_server.client(retries=3)) as client,
        ):
            with watchful(stack, client, lambda code: chronicle.note("deletions_resumed", exit_code=code)):
                storm_s = _weather(stack, proxy, plan, chronicle)
                began, ended = chronicle.seconds, next(numbers)
                rested(stack, client, lambda line: chronicle.note("quiet", line=line))
                quiet_s = chronicle.seconds - began
            audit = archiver(stack, "audit")
            for name, exit_code in stopped(stack, plan.directory):
                chronicle.note("stopped", name=name, exit_code=exit_code)
            evidence = collect(simulator, proxy, client, stack.bucket)
        calls = [each for each in evidence.asked if each.what != "callback" and each.order < ended]
        return _judged(plan, evidence, calls, chronicle.counts, audit, storm_s, quiet_s)


def _weather(stack: Stack, proxy: S3Proxy, plan: Plan, chronicle: Chronicle) -> float:
    """Let the storm rage, and return how many seconds it did.

    When all else is over, calls go on to fail until most of the work is done, for at most as long again.
    """
    began = told = chronicle.seconds
    chronicle.note("storm_began", recordings=plan.recordings, seconds=plan.storm_s, seed=plan.seed)
    with Storm(stack, proxy, plan, chronicle) as storm:
        while True:
            recordings = stack.simulator.recordings.values()
            gone = sum(each.deleted_at is not None for each in recordings)
            if chronicle.seconds - told > _TELL_EVERY_S:
                told = chronicle.seconds
                chronicle.note("progress", played=len(recordings), gone=gone)
            is_late = chronicle.seconds - began > 2 * plan.storm_s
            if storm.is_over() and (is_late or gone >= _MOST * plan.recordings):
                break
            storm.wait(1.0)
    chronicle.note("storm_ended")
    return chronicle.seconds - began


def _judged(
    plan: Plan,
    evidence: Evidence,
    calls: list[Asked],
    done: Counter[str],
    audit: int,
    storm_s: float,
    quiet_s: float,
) -> Outcome:
    evidence.write(plan.directory)
    verdict = judge(evidence)
    (plan.directory / "findings.txt").write_text("".join(f"{finding}\n" for finding in verdict.findings))
    return Outcome(
        plan=plan,
        verdict=verdict,
        done=done,
        asked=Counter(each.side for each in calls),
        failed=Counter(each.side for each in calls if each.faults),
        storm_s=storm_s,
        quiet_s=quiet_s,
        audit=audit,
        leaks=OUTPUT.leaks(),
    )
