"""Kill a backfill at random times, and count what was fetched twice: python -m tests.bench.backfill.

The whole system runs: Redis, S3, the simulated Twilio and a worker as the Procfile says. The command is killed with
SIGKILL and started again; with --worker the worker is killed instead, and started again as a platform does.
"""

import argparse
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import Simulator

ARCHIVER = str(Path(sys.prefix) / "bin" / "archiver")
DAYS = 10


@dataclass(frozen=True)
class Result:
    """How it ended. `starts` of the command, `fetched_twice` recordings whose media was asked for more than once."""

    starts: int
    kills: int
    archived: int
    deleted: int
    fetched_twice: int
    seconds: float
    said: str


def begin(stack: Stack, since: str) -> "subprocess.Popen[str]":
    """Start the command as an operator would, in a process of its own."""
    return subprocess.Popen(
        [ARCHIVER, "backfill", "--since", since],
        env=stack.environment,
        cwd=stack.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _fetched(simulator: Simulator, count: int) -> bool:
    return len({served.recording_sid for served in simulator.served}) >= count


def run(
    recordings: int,
    kills: int,
    seed: int,
    *,
    kill_worker: bool = False,
    threads: int = 4,
    servers: tuple[RedisServer, S3Server, int] | None = None,
) -> Result:
    """Backfill recordings of the last days under kills at random times, until the command says that it is done."""
    chance = random.Random(seed)
    redis_server, s3_server, database = servers or (None, None, 0)
    settings = {"CELERY_CONCURRENCY": str(threads)}
    with Stack(
        ("worker",), settings=settings, redis_server=redis_server, s3_server=s3_server, database=database
    ) as stack:
        simulator = stack.simulator
        account_sid = next(iter(simulator.accounts))
        now = datetime.now(UTC)
        for number in range(recordings):
            age = timedelta(days=number % DAYS, hours=1, seconds=number)
            simulator.record(account_sid, seconds=2.0, date_created=now - age)
        # When so many have been fetched, it is killed: at random, and never before it has begun.
        moments = sorted(chance.sample(range(recordings // 20 + 1, recordings * 19 // 20), kills))
        started, starts = time.monotonic(), 1
        command = begin(stack, f"{DAYS + 1}d")
        try:
            for moment in moments:
                wait_until(
                    partial(_fetched, simulator, moment), timeout_s=300, what="a moment to kill", interval_s=0.02
                )
                if kill_worker:
                    stack.restart("worker")
                elif command.poll() is None:
                    command.kill()
                    command.communicate()
                    command, starts = begin(stack, f"{DAYS + 1}d"), starts + 1
            said, _ = command.communicate(timeout=300)
        finally:
            command.kill()
        seconds = time.monotonic() - started
        asked = Counter(event.recording_sid for event in simulator.timeline if event.endpoint == "media")
        keys = [
            item["Key"]
            for page in stack.s3.client().get_paginator("list_objects_v2").paginate(Bucket=stack.bucket)
            for item in page.get("Contents", ())
        ]
        return Result(
            starts=starts,
            kills=kills if kill_worker else starts - 1,
            archived=sum(key.startswith("receipts/") for key in keys),
            deleted=sum(each.deleted_at is not None for each in simulator.recordings.values()),
            fetched_twice=sum(count > 1 for count in asked.values()),
            seconds=seconds,
            said=said,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the numbers; return 1 when something is missing or more than five were fetched twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=300)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--threads", type=int, default=4, help="of the worker")
    parser.add_argument("--worker", action="store_true", help="kill the worker instead of the command")
    options = parser.parse_args(arguments)
    result = run(options.recordings, options.kills, options.seed, kill_worker=options.worker, threads=options.threads)
    print(result.said)
    print(f"recordings {options.recordings}, kills {result.kills}, starts {result.starts}, {result.seconds:.1f} s")
    print(f"archived {result.archived}, fetched twice {result.fetched_twice}")
    return 0 if result.archived == options.recordings and result.fetched_twice <= 5 else 1


if __name__ == "__main__":
    sys.exit(main())
