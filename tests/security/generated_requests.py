"""Throw generated requests at the running endpoint and judge what it does with them.

`python -m tests.security.generated_requests --count 200000` runs as many as are wanted and prints a summary.
"""

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from deploy.local.servers import RedisServer, S3Server
from tests.integration.callback_tools import Answer, Web, Wire, web_process, workers_of
from tests.security.cases import make_case
from tests.security.genuine import FINAL, MAIN, PLANTED, SUB, Case, Triple

CLIENTS = 4
BATCH = 500
SHOWN = 20
LONG_RUN = 100_000  # by then every thread has met every kind of request
MOST_GROWTH = 1.05
WELL_FORMED = re.compile("AC[0-9a-fA-F]{32} RE[0-9a-fA-F]{32} [a-z-]{1,32}")


@dataclass
class Summary:
    """What came of a run; `faults` says what went wrong, and with which request."""

    kinds: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    enqueued: int = 0
    seconds: float = 0.0
    memory_kib: list[int] = field(default_factory=list)  # the workers' peaks together, after each batch

    def lines(self) -> Iterator[str]:
        count = self.kinds.total()
        yield f"{count} requests in {self.seconds:.0f} s ({count / self.seconds:.0f} a second)"
        yield f"answers: {dict(sorted(self.answers.items()))}"
        yield f"kinds: {dict(self.kinds.most_common())}"
        yield f"accepted by kind: {dict(self.accepted.most_common())}"
        yield f"queue entries: {self.enqueued}"
        tenths = [self.memory_kib[len(self.memory_kib) * tenth // 10] for tenth in range(10)]
        yield f"peak memory of the workers in KiB, from tenth to tenth: {[*tenths, self.memory_kib[-1]]}"
        yield f"faults: {len(self.faults)}"
        yield from self.faults[:SHOWN]


def run(web: Web, count: int, seed: int) -> Summary:
    """Send `count` requests, the same for the same seed, and judge every one and the queue after each batch."""
    summary, started = Summary(), time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as clients:
        wires = [web.wire() for _ in range(CLIENTS)]
        for batch in range(-(-count // BATCH)):
            shares = [range(share, min(BATCH, count - batch * BATCH), CLIENTS) for share in range(CLIENTS)]
            rounds = [
                clients.submit(_send, wire, Random(f"{seed} {batch} {share}"), len(numbers))
                for share, (wire, numbers) in enumerate(zip(wires, shares, strict=True))
            ]
            wanted: Counter[Triple] = Counter()
            for done in rounds:
                for kind, case, answer in done.result():
                    _judge(summary, kind, case, answer, wanted)
            _compare(summary, wanted, web)
        for wire in wires:
            wire.close()
    summary.seconds = time.monotonic() - started
    half, end = summary.memory_kib[len(summary.memory_kib) // 2], summary.memory_kib[-1]
    if count >= LONG_RUN and end > half * MOST_GROWTH:
        summary.faults.append(f"the workers' memory grew from {half} to {end} KiB in the second half")
    if PLANTED in web.log():
        summary.faults.append("the log holds a planted phone number")
    return summary


def _send(wire: Wire, random: Random, count: int) -> list[tuple[str, Case, Answer | None]]:
    sent = []
    for _ in range(count):
        kind, case = make_case(random)
        sent.append((kind, case, wire.send(case.data, method=case.method, half_close=case.broken)))
    return sent


def _judge(summary: Summary, kind: str, case: Case, answer: Answer | None, wanted: Counter[Triple]) -> None:
    status = "closed" if answer is None else str(answer.status)
    summary.kinds[kind] += 1
    summary.answers[status] += 1

    def fault(what: str) -> None:
        summary.faults.append(f"{kind}: {what}: {case.data[:3000]!r}")

    if status == "204":
        summary.accepted[kind] += 1
        if case.signed is None:
            fault("accepted without a signature")
        elif not WELL_FORMED.fullmatch(" ".join(case.signed)):
            fault("accepted, but malformed")
        elif case.signed[2] in FINAL:
            wanted[case.signed] += 1
    elif case.genuine:
        fault(f"genuine, but {status}")
    if status >= "5" and status != "closed":
        fault(status)
    if status.startswith("3"):
        fault(f"redirect {status}")
    if answer is None and not case.broken:
        fault("closed")
    if answer and PLANTED.encode() in answer.body:
        fault("echoes a value")
    if answer and answer.status >= 400 and answer.headers.get("content-type") != "application/problem+json":
        fault(f"{status} without a problem")


def _compare(summary: Summary, wanted: Counter[Triple], web: Web) -> None:
    """Compare the queue with what was accepted: each message says exactly what was signed."""
    messages = web.queued()
    summary.enqueued += len(messages)
    found = Counter(
        (message["account_sid"], message["recording_sid"], message["callback"]["RecordingStatus"])
        for message in messages
    )
    if found != wanted:
        summary.faults.append(f"enqueued and not signed so: {found - wanted}; accepted and not there: {wanted - found}")
    if any(PLANTED in str(message) for message in messages):
        summary.faults.append("a message holds a planted phone number")
    summary.memory_kib.append(sum(map(_peak_kib, workers_of(web.stack.web.pid))))


def _peak_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> int:
    """Run from the command line; exits 1 when something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with (
        RedisServer() as redis_server,
        S3Server() as s3_server,
        web_process([MAIN, SUB], redis_server, s3_server) as web,
    ):
        summary = run(web, options.count, options.seed)
    sys.stdout.writelines(f"{line}\n" for line in summary.lines())
    return 1 if summary.faults else 0


if __name__ == "__main__":
    sys.exit(main())
