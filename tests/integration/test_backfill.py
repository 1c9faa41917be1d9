"""The backfill: its estimate, that it resumes after any interruption, and that live recordings come first."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from app.queue import ARCHIVE_TASK, BACKFILL_TASK, Publisher
from app.settings import WorkerSettings, load
from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import SimRecording
from tests.bench import backfill as killing
from tests.integration.command_line import CommandLine, on_terminal
from tests.integration.workbench import Workbench
from workers.backfill import S3_REQUESTS_EACH, TWILIO_REQUESTS_EACH, Backfill, Wanted
from workers.errors import ContentError, TemporaryError
from workers.quarantine import record_failure

LONG_AGO = timedelta(days=3)


@pytest.fixture
def bench(workbench: Workbench, archiver: CommandLine, redis_url: str) -> Workbench:
    bench = workbench.under(REDIS_URL=redis_url)
    archiver.use(bench)
    return bench


def past(bench: Workbench, **call: object) -> SimRecording:
    """Let a recording of 2 s in two channels have happened some days ago."""
    return bench.record(**{"date_created": datetime.now(UTC) - LONG_AGO, **call})


def test_the_estimate_counts_what_is_left_to_do(bench: Workbench, archiver: CommandLine) -> None:
    """What is archived, absent, in quarantine, deleted or too young is told apart, and nothing is changed."""
    past(bench, seconds=10.0)
    past(bench, seconds=10.0, channels=1)
    past(bench, status="absent", error_code=16101)
    bench.archived(past(bench))
    quarantined = past(bench)
    record_failure(bench.archive, bench.filing(quarantined), ContentError("media_cut", "cut"), 5)
    bench.simulator.delete(past(bench))
    past(bench, status="processing")
    bench.record()  # now: left to the sweep
    ran = archiver("backfill", "--since=7d", "--dry-run", "--json")
    assert ran.code == 0
    assert ran.json["outcome"] is None
    estimate = ran.json["estimate"]
    assert (estimate["recordings"], estimate["without_audio"]) == (2, 1)
    assert (estimate["done"], estimate["quarantined"]) == (1, 1)
    assert (estimate["audio_s"], estimate["bytes"]) == (20, 10 * 32_000 + 10 * 16_000)
    assert bench.work.hints.queue_depth("backfill") == 0


def test_the_estimate_of_requests_is_what_it_takes(bench: Workbench) -> None:
    """The numbers of requests that an estimate is made of are those that archiving a recording really takes."""
    recording = past(bench)
    before = len(bench.simulator.timeline), len(bench.requests())
    bench.under(TWILIO_DELETE="never").work.archive_recording(
        {"account_sid": recording.account_sid, "recording_sid": recording.sid}
    )
    assert len(bench.simulator.timeline) - before[0] == TWILIO_REQUESTS_EACH
    assert len(bench.requests()) - before[1] == S3_REQUESTS_EACH


def test_nothing_to_do_ends_at_once(bench: Workbench, archiver: CommandLine) -> None:
    """Where all is archived there is nothing to wait for."""
    bench.archived(past(bench))
    ran = archiver("backfill", "--since=7d")
    assert (ran.code, ran.out) == (0, "finished: 0\n")


def test_a_call_is_enough(bench: Workbench, archiver: CommandLine) -> None:
    """With --call only its recordings count, however old they are."""
    call = bench.simulator.place_call(bench.account.sid)
    past(bench, call=call, date_created=datetime.now(UTC) - timedelta(days=400))
    past(bench)
    ran = archiver("backfill", f"--call={call.sid}", "--dry-run", "--json")
    assert ran.json["estimate"]["recordings"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--since=soon",),
        ("--since=0001-01-01",),
        ("--since=2d", "--until=9999-12-31"),
        ("--since=2d", "--until=3d"),
        ("--since=2d", "--account=AC" + "9" * 32),
    ],
)
def test_wrong_usage_is_refused(bench: Workbench, archiver: CommandLine, arguments: tuple[str, ...]) -> None:
    """Mistakes on the command line end with 2."""
    assert archiver("backfill", *arguments).code == 2


def test_a_terminal_is_asked_and_no_means_no(bench: Workbench, archiver: CommandLine) -> None:
    """On a terminal the estimate comes first, and nothing is enqueued when the answer is no."""
    past(bench)
    code, shown = on_terminal("backfill", "--since=7d", typed="n", awaiting="Go on?")
    assert code == 130
    assert "to archive:" in shown
    assert bench.work.hints.queue_depth("backfill") == 0


def test_without_a_worker_it_gives_up_and_says_why(bench: Workbench) -> None:
    """When nobody takes from the queue, it ends with what to look at; the queue holds no more than was fed."""
    past(bench)
    work = bench.work
    filler = Backfill(work.settings, work.twilio, work.archive, work.publisher, work.hints, patience_s=0.5)
    wanted = Wanted((bench.account.sid,), datetime.now(UTC).date() - timedelta(days=7), None)
    with pytest.raises(TemporaryError, match="worker"):
        filler.run(wanted, datetime.now(UTC), 1, lambda _: None)
    assert work.hints.queue_depth("backfill") == 1


@pytest.fixture
def make_stack(redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> Callable[..., Stack]:
    """Return what makes a stack of a worker with a database of its own."""

    def make(**settings: str) -> Stack:
        return Stack(
            ("worker",), settings=settings, redis_server=redis_server, s3_server=s3_server, database=next(databases)
        )

    return make


def test_a_live_recording_comes_before_the_past(make_stack: Callable[..., Stack]) -> None:
    """While a backfill waits in its queue, what is live is archived next, and most of the past after it."""
    with make_stack(CELERY_CONCURRENCY="1", TWILIO_DELETE="never") as stack:
        simulator = stack.simulator
        account_sid = next(iter(simulator.accounts))
        publisher = Publisher(load(WorkerSettings, stack.environment))
        past_ones = [simulator.record(account_sid, seconds=2.0) for _ in range(20)]
        live = simulator.record(account_sid, seconds=2.0)
        for recording in past_ones:
            publisher.publish(BACKFILL_TASK, account_sid=account_sid, recording_sid=recording.sid)
        wait_until(lambda: simulator.served, timeout_s=30, what="the backfill to begin")
        publisher.publish(ARCHIVE_TASK, account_sid=account_sid, recording_sid=live.sid)
        wait_until(lambda: len(simulator.served) == 21, timeout_s=60, what="all to be archived")
        order = [served.recording_sid for served in simulator.served]
    assert order.index(live.sid) < 10


def test_killed_at_random_it_ends_complete_and_hardly_fetches_twice(
    redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]
) -> None:
    """The command is killed three times amid thirty recordings: all are archived, and none was fetched twice."""
    result = killing.run(30, 3, seed=7, servers=(redis_server, s3_server, next(databases)))
    assert (result.archived, result.fetched_twice) == (30, 0)


def test_a_failing_recording_does_not_hold_up_the_others(make_stack: Callable[..., Stack]) -> None:
    """What is corrupt for ever ends in quarantine, the rest is archived, and the command says so with exit code 3."""
    from deploy.local.twilio import ErrorPage

    with make_stack(TWILIO_DELETE="never") as stack:
        simulator = stack.simulator
        account_sid = next(iter(simulator.accounts))
        made = [simulator.record(account_sid, seconds=2.0, date_created=datetime.now(UTC) - LONG_AGO) for _ in range(5)]
        simulator.inject(ErrorPage("html", content_type="audio/x-wav"), recording_sid=made[0].sid, times=None)
        command = killing.begin(stack, "7d")
        said, _ = command.communicate(timeout=60)
        assert command.returncode == 3, said
        assert "in quarantine: 1" in said
        keys = [item["Key"] for item in stack.s3.client().list_objects_v2(Bucket=stack.bucket)["Contents"]]
    kinds = Counter(key.split("/")[0] for key in keys)
    assert (kinds["receipts"], kinds["quarantine"]) == (4, 1)
    assert json.dumps(keys).count(made[0].sid) >= 1
