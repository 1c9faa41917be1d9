"""What Prometheus reads from workers as the Procfile starts them, several of them beside a web process."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any

import pytest

from deploy.local.processes import reserve_port, wait_until
from deploy.local.servers import ROOT, RedisServer, S3Server
from deploy.local.stack import Stack, read_procfile
from deploy.local.twilio import Account, ErrorStatus, Match, SimRecording, Simulator
from tests.integration.bucket import Bucket

MAIN = Account(sid="AC" + "a1" * 16, auth_tokens=["old-token", "new-token"])
WORKER = read_procfile(ROOT / "Procfile")["worker"]


class Watched:
    """A product with several workers, each with a port for Prometheus."""

    def __init__(self, stack: Stack, ports: Sequence[int]) -> None:
        self.stack, self.ports = stack, ports
        self.bucket = Bucket(stack.s3.client(), stack.bucket)

    def text(self, port: int) -> str:
        """Return what an endpoint answers."""
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            assert answer.status == 200
            return answer.read().decode()
        finally:
            connection.close()

    def samples(self, port: int) -> dict[str, float]:
        """Return the samples of an endpoint by name and labels."""
        lines = [line for line in self.text(port).splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def total(self) -> Counter[str]:
        """Return the sums over all workers."""
        total: Counter[str] = Counter()
        for port in self.ports:
            total.update(self.samples(port))
        return total

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return what the workers have logged of a kind."""
        logs = [self.stack.processes[f"worker.{n}"].log.read_text() for n in range(1, len(self.ports) + 1)]
        said = [json.loads(line) for log in logs for line in log.splitlines() if line.startswith("{")]
        return [line for line in said if line["event"] == event]

    def call(self) -> SimRecording:
        """Let a call be recorded and called back."""
        return self.stack.simulator.record(MAIN.sid, "call", 2.0, callback_url=self.stack.callback_url)

    def finish(self, recordings: Sequence[SimRecording]) -> None:
        """Wait until recordings are gone from Twilio and all of it is counted."""
        for recording in recordings:
            self.bucket.wait_for("deletions", recording)
        wait_until(
            lambda: not any(self.total()[f'archiver_running_tasks{{task="{task}"}}'] for task in TASKS),
            timeout_s=10,
            what="the end of all tasks",
        )


TASKS = ("archive_recording", "delete_source")


@pytest.fixture(scope="module")
def watched(redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> Iterator[Watched]:
    """Return a product with two workers."""
    with ExitStack() as resources:
        ports = [resources.enter_context(reserve_port()) for _ in range(2)]
        stack = Stack(
            ("web", "worker.1", "worker.2"),
            commands={f"worker.{n}": f"METRICS_PORT={port} {WORKER}" for n, port in enumerate(ports, 1)},
            redis_server=redis_server,
            database=next(databases),
            s3_server=s3_server,
            simulator=resources.enter_context(Simulator(accounts=[MAIN])),
        )
        yield Watched(resources.enter_context(stack), ports)


def grown(before: Counter[str], after: Counter[str], name: str) -> float:
    return after[name] - before[name]


def test_all_workers_together_count_everything_once(watched: Watched) -> None:
    """Recordings, bytes, attempts, stages, deletions and the media's lag, over both processes."""
    before = watched.total()
    recordings = [watched.call() for _ in range(12)]
    watched.finish(recordings)
    after = watched.total()
    size = sum(len(watched.bucket.media(recording) or b"") for recording in recordings)
    expected = {
        "archiver_recordings_archived_total": 12,
        "archiver_archived_bytes_total": size,
        'archiver_attempts_total{outcome="done",task="archive_recording"}': 12,
        'archiver_attempts_total{outcome="done",task="delete_source"}': 12,
        'archiver_deletions_total{outcome="deleted"}': 12,
        "archiver_media_lag_seconds_count": 12,
        'archiver_twilio_answers_total{method="DELETE",status="204"}': 12,
        **{
            f'archiver_stage_seconds_count{{stage="{stage}"}}': 12
            for stage in ("fetch", "store", "verify", "receipt", "delete")
        },
    }
    assert {name: grown(before, after, name) for name in expected} == expected
    assert after["archiver_task_slots"] == 16


def test_each_worker_counts_its_own(watched: Watched) -> None:
    """One of them did the work of a recording, and the other shows none of it."""
    before = [watched.samples(port)["archiver_recordings_archived_total"] for port in watched.ports]
    watched.finish([watched.call()])
    after = [watched.samples(port)["archiver_recordings_archived_total"] for port in watched.ports]
    assert sorted(now - then for now, then in zip(after, before, strict=True)) == [0, 1]


def test_every_endpoint_shows_the_whole_service(watched: Watched) -> None:
    """Queues and board are the same wherever one asks: a platform that shows only `web` shows them, too."""
    shared = re.compile("archiver_(queue|sweep|audit|redis|alarms)")
    shown = [
        {name for name in watched.samples(port) if shared.match(name)} for port in (watched.stack.port, *watched.ports)
    ]
    assert shown[0] == shown[1] == shown[2]
    assert 'archiver_queue_depth{queue="archive"}' in shown[0]


@pytest.mark.parametrize(
    ("status", "outcome", "reason"), [(503, "temporary", "twilio_failed"), (403, "configuration", "twilio_refused")]
)
def test_failures_are_counted_by_reason(watched: Watched, status: int, outcome: str, reason: str) -> None:
    """What fails for a moment is an attempt with its outcome, in its line, too, and a retry with its reason."""
    before = watched.total()
    watched.stack.simulator.inject(ErrorStatus(status), match=Match(endpoint="media"))
    recording = watched.call()
    watched.finish([recording])
    after = watched.total()
    assert grown(before, after, f'archiver_attempts_total{{outcome="{outcome}",task="archive_recording"}}') == 1
    assert grown(before, after, f'archiver_retries_total{{reason="{reason}",task="archive_recording"}}') == 1
    assert grown(before, after, "archiver_recordings_archived_total") == 1
    (line,) = [line for line in watched.lines("attempt_failed") if line["recording_sid"] == recording.sid]
    assert (line["task"], line["outcome"], line["reason"]) == ("archive_recording", outcome, reason)


def test_a_rotation_shows_which_token_is_in_use(watched: Watched) -> None:
    """Requests count under the token that Twilio accepts, by its place in the settings."""
    before = watched.total()
    watched.finish([watched.call()])
    first, second = (f'archiver_twilio_credentials_total{{account="0",credential="{n}"}}' for n in (0, 1))
    between = watched.total()
    assert grown(before, between, first) > 0
    assert grown(before, between, second) == 0
    account = watched.stack.simulator.accounts[MAIN.sid]
    account.auth_tokens.remove("old-token")
    try:
        watched.finish([watched.call()])
    finally:
        account.auth_tokens.insert(0, "old-token")
    after = watched.total()
    assert grown(between, after, first) == 0
    assert grown(between, after, second) > 0


def test_no_label_names_a_recording(watched: Watched) -> None:
    """Labels are static: no SID, whatever was archived."""
    watched.finish([watched.call()])
    for port in (watched.stack.port, *watched.ports):
        assert re.search(r"[A-Z]{2}[0-9a-fA-F]{32}", watched.text(port)) is None


def test_a_port_that_is_taken_stops_no_worker(
    redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]
) -> None:
    """Two workers with one port: one of them says so in the log, and both consume."""
    with (
        reserve_port() as port,
        Stack(
            ("web", "worker.1", "worker.2"),
            settings={"METRICS_PORT": str(port)},
            redis_server=redis_server,
            database=next(databases),
            s3_server=s3_server,
        ) as stack,
    ):
        logs = [stack.processes[name].log.read_text() for name in ("worker.1", "worker.2")]
        assert sum("metrics_not_served" in log for log in logs) == 1
        account_sid = next(iter(stack.simulator.accounts))
        recording = stack.simulator.record(account_sid, "call", 2.0, callback_url=stack.callback_url)
        Bucket(stack.s3.client(), stack.bucket).wait_for("deletions", recording)
