"""Wipe Redis while many recordings are in flight, and see how long it takes until all are archived.

    python -m tests.chaos.wiped --recordings 1000

The same is done without a wipe first, so that it is known how long the machine takes to drain them. Exits 0 when all
were archived within two sweep intervals and that time (half as much again for a machine that is not always as fast),
none was fetched more than twice, and nothing was breached.
"""

import argparse
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from time import monotonic

from deploy.local.processes import Process, wait_until
from deploy.local.s3_proxy import S3Proxy
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import Match, Simulator, Stall
from tests.chaos.evidence import collect
from tests.chaos.judge import Verdict, judge
from tests.chaos.rest import rested
from tests.output import OUTPUT

INTERVAL_S, GRACE_S = 20, 8  # in the proportion of the defaults
SETTINGS = {"SWEEP_INTERVAL": f"{INTERVAL_S}s", "SWEEP_GRACE": f"{GRACE_S}s"}


@dataclass(frozen=True)
class Drained:
    """How long (in seconds) it took from a moment at which none was archived until all were, and what was fetched."""

    in_flight: int
    seconds: float
    fetched: Counter[int]
    verdict: Verdict

    def __str__(self) -> str:
        fetched = ", ".join(f"{number} {times} x" for times, number in sorted(self.fetched.items()))
        return (
            f"{self.in_flight} in flight, all gone from Twilio after {self.seconds:.1f} s; "
            f"fetched: {fetched}; {len(self.verdict.findings)} breaches"
        )


def drain(recordings: int, *, wipe: bool) -> Drained:
    """Let so many recordings be in flight at once, wipe Redis or not, and let the worker go on."""
    numbers = count(1)
    with (
        RedisServer() as redis_server,
        S3Server() as s3_server,
        S3Proxy(s3_server.endpoint_url, numbers=numbers) as proxy,
        Simulator(numbers=numbers) as simulator,
        Stack(
            ("web", "worker", "beat"),
            settings={**SETTINGS, "AWS_ENDPOINT_URL_S3": proxy.url},
            redis_server=redis_server,
            s3_server=s3_server,
            simulator=simulator,
        ) as stack,
        closing(s3_server.client(retries=3)) as client,
    ):
        account_sid = next(iter(simulator.accounts))
        gate = simulator.inject(Stall(), match=Match(endpoint="media"), times=None)  # whatever is asked for, waits
        for _ in range(recordings):
            simulator.record(account_sid, seconds=1.0, callback_url=stack.callback_url)
        assert simulator.wait_for_callbacks(120)
        wait_until(lambda: gate.hits > 0, timeout_s=60, what="a download")
        in_flight = sum(each.status == "completed" for each in simulator.recordings.values())
        if wipe:
            redis_server.flush()
        began = monotonic()
        gate.remove()

        def all_gone() -> bool:
            return all(each.status == "deleted" for each in simulator.recordings.values())

        wait_until(all_gone, timeout_s=10 * INTERVAL_S + recordings, what="all are gone", interval_s=0.2)
        seconds = monotonic() - began
        rested(stack, client, lambda line: None)
        for process in stack.processes.values():
            process.terminate(30)
        evidence = collect(simulator, proxy, client, stack.bucket)
    downloads = Counter(each.recording_sid for each in evidence.downloads)
    return Drained(in_flight, seconds, Counter(downloads.values()), judge(evidence))


def main(arguments: list[str]) -> int:
    """Do it both ways, print what came of it, and return the exit code."""
    parser = argparse.ArgumentParser("python -m tests.chaos.wiped", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recordings", type=int, default=1000, metavar="N", help="in flight (default: %(default)s)")
    asked = parser.parse_args(arguments)
    Process.witnesses.append(OUTPUT.keep_of)
    undisturbed = drain(asked.recordings, wipe=False)
    print(f"not wiped: {undisturbed}", flush=True)
    wiped = drain(asked.recordings, wipe=True)
    limit_s = 2 * INTERVAL_S + 1.5 * undisturbed.seconds
    print(f"wiped:     {wiped}")
    print(f"allowed are two sweep intervals of {INTERVAL_S} s and one and a half drains: {limit_s:.1f} s")
    is_right = is_kept(wiped, limit_s) and not undisturbed.verdict.findings and not OUTPUT.leaks()
    print("kept" if is_right else "not kept")
    return 0 if is_right else 1


def is_kept(wiped: Drained, limit_s: float) -> bool:
    """Tell whether what is promised for a wiped Redis was kept."""
    return wiped.seconds <= limit_s and max(wiped.fetched) <= 2 and not wiped.verdict.findings


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
