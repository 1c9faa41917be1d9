"""Let recordings of every kind happen without a callback, and see sweeps bring them home: python -m tests.bench.sweeps.

The whole system runs but for `web`: Redis, S3, the simulated Twilio with two accounts, a worker and beat as the
Procfile says. With --trouble flushes Redis is flushed again and again, with --trouble beats there are two of them.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import Account, SimRecording, Simulator
from tests.integration.bucket import Bucket

MAIN = Account(sid="AC" + "a1" * 16, auth_tokens=["main-token"])
SUB = Account(sid="AC" + "b2" * 16, auth_tokens=["sub-token"], parent=MAIN.sid)
KINDS: tuple[dict[str, Any], ...] = (
    {"kind": "call"},
    {"kind": "conference"},
    {"kind": "trunk"},
    {"kind": "record_verb"},
    {"kind": "call", "encrypted": True},
    {"kind": "call", "status": "absent", "error_code": 16102, "seconds": 0.0},
)
FAST = {"SWEEP_INTERVAL": "2s", "SWEEP_GRACE": "1s"}
TROUBLES = ("none", "flushes", "beats")


@dataclass(frozen=True)
class Result:
    """How it ended: counts of recordings, `flushes` of Redis, and one line for whatever is not as it should be."""

    deleted: int
    documented: int
    flushes: int
    fetched_twice: int
    seconds: float
    faults: tuple[str, ...]


def happen(simulator: Simulator, count: int) -> list[SimRecording]:
    """Let recordings of every kind happen in both accounts, an hour ago."""
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    # Kinds and accounts change at their own pace, so that every kind is in both.
    return [
        simulator.record(
            (MAIN, SUB)[number // len(KINDS) % 2].sid,
            **{"seconds": 2.0, "date_created": hour_ago, **KINDS[number % len(KINDS)]},
        )
        for number in range(count)
    ]


def ended(recordings: Sequence[SimRecording], archived: Bucket) -> bool:
    """Tell whether every completed recording is gone from Twilio, with its proof, and every absent one documented."""
    if any(recording.status == "completed" for recording in recordings):
        return False
    return all(
        archived.document("absences" if each.status == "absent" else "deletions", each) is not None
        for each in recordings
    )


def faults(simulator: Simulator, recording: SimRecording, archived: Bucket) -> list[str]:
    """Return what is not as it should be with a recording that has ended."""
    answers = [
        event.status
        for event in simulator.timeline
        if event.method == "DELETE" and event.recording_sid == recording.sid
    ]
    if recording.status == "absent":
        return ["deleted without audio"] if answers else []
    found = []
    if archived.media(recording) != simulator.media_bytes(recording.sid, recording.channels):
        found.append("other bytes in S3 than Twilio served")
    receipt, deletion = (archived.document(collection, recording) or {} for collection in ("receipts", "deletions"))
    if receipt.get("recording_sid") != recording.sid:
        found.append("no receipt")
    if (deletion.get("confirmation") or {}).get("status") != "deleted":
        found.append("its deletion is not confirmed")
    if answers.count(204) != 1:
        found.append(f"{answers.count(204)} effective DELETEs")
    return found


def overwritten(archived: Bucket) -> list[str]:
    """Return the keys of what is written once and has more than one version."""
    pages = archived.client.get_paginator("list_object_versions").paginate(Bucket=archived.name)
    versions = Counter(item["Key"] for page in pages for item in page.get("Versions", ()))
    return [key for key, count in versions.items() if count > 1 and not key.startswith(("quarantine/", "control/"))]


def run(
    count: int,
    trouble: str,
    *,
    flush_every: int | None = None,
    timeout_s: float = 90.0,
    s3_server: S3Server | None = None,
) -> Result:
    """Let `count` recordings happen and wait until all have ended; `trouble` is one of `TROUBLES`.

    Redis is flushed every ten seconds, or with `flush_every` after so many events at Twilio, so that it happens however
    fast the machine is. Raises `TimeoutError` when they have not ended after `timeout_s` seconds.
    """
    flushes, last = 0, time.monotonic()
    with ExitStack() as stack:
        simulator = stack.enter_context(Simulator(accounts=[MAIN, SUB]))
        redis_server = stack.enter_context(RedisServer())
        s3_server = s3_server or stack.enter_context(S3Server())
        servers: dict[str, Any] = {"redis_server": redis_server, "s3_server": s3_server, "simulator": simulator}
        product = stack.enter_context(Stack(("worker", "beat"), settings=FAST, **servers))
        if trouble == "beats":
            stack.enter_context(Stack(("beat",), settings=FAST, **servers))
        archived = Bucket(product.s3.client(), product.bucket)
        recordings, started = happen(simulator, count), time.monotonic()

        def look() -> bool:
            nonlocal flushes, last
            if trouble == "flushes":
                now = time.monotonic()
                due = len(simulator.timeline) > flush_every * (flushes + 1) if flush_every else now > last + 10
                if due and flushes < 100:
                    redis_server.flush()
                    flushes, last = flushes + 1, now
            return ended(recordings, archived)

        wait_until(look, timeout_s=timeout_s, what="everything ended", interval_s=0.3)
        seconds = time.monotonic() - started
        served = Counter(each.recording_sid for each in simulator.served)
        found = [f"{each.sid}: {fault}" for each in recordings for fault in faults(simulator, each, archived)]
        return Result(
            deleted=sum(each.deleted_at is not None for each in recordings),
            documented=sum(each.status == "absent" for each in recordings),
            flushes=flushes,
            fetched_twice=sum(number > 1 for number in served.values()),
            seconds=seconds,
            faults=(*found, *(f"{key}: overwritten" for key in overwritten(archived))),
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each trouble; return 1 when something did not end as it should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=500)
    parser.add_argument("--trouble", choices=TROUBLES, action="append", help="only this (default: each of them)")
    parser.add_argument("--timeout", type=float, default=600.0, help="in seconds, for each")
    options = parser.parse_args(arguments)
    bad = False
    for trouble in options.trouble or TROUBLES:
        result = run(options.recordings, trouble, timeout_s=options.timeout)
        print(
            f"trouble {trouble}: {options.recordings} recordings, {result.deleted} archived and deleted, "
            f"{result.documented} documented as absent, {result.flushes} flushes of Redis, "
            f"{result.fetched_twice} fetched twice, {len(result.faults)} faults; {result.seconds:.1f} s",
            flush=True,
        )
        for fault in result.faults:
            print(f"  {fault}")
        bad |= bool(result.faults) or result.deleted + result.documented != options.recordings
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
