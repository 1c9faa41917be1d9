"""Workers that live and consume nothing: they notice it themselves, end, and are replaced as a platform does."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest

from deploy.local.processes import wait_until
from deploy.local.servers import ROOT, RedisServer, S3Server
from deploy.local.stack import Stack, read_procfile
from deploy.local.twilio import SimRecording
from tests.integration.bucket import Bucket
from tests.integration.command_line import ENTRY
from tests.integration.switchboard import Switchboard

HASTY = read_procfile(ROOT / "Procfile")["worker"].replace("workers.worker", "tests.integration.hasty_worker")


@dataclass
class Patient:
    """A worker that is started again when it ends, with a switchboard between it and Redis."""

    stack: Stack
    switchboard: Switchboard
    bucket: Bucket

    def call(self) -> SimRecording:
        """Let a call end; its callback is on the queue when this returns."""
        recording = self.stack.simulator.record(next(iter(self.stack.simulator.accounts)), "call", 2.0)
        assert self.stack.simulator.send_callback(recording, self.stack.callback_url).status == 204
        return recording

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of the worker's log with an event."""
        lines = [line for line in self.stack.worker.log.read_text().splitlines() if line.startswith("{")]
        return [each for each in map(json.loads, lines) if each["event"] == name]

    def health(self) -> subprocess.CompletedProcess[str]:
        """Ask for the worker's health, as its container would."""
        return subprocess.run(
            [ENTRY, "health", "worker"], env=self.stack.environment, capture_output=True, text=True, check=False
        )

    def wait_until_idle(self) -> None:
        """Wait until nobody waits for messages: what comes now is not sent into a dead connection."""
        with self.stack.redis.client() as client:
            wait_until(lambda: client.info("clients")["blocked_clients"] == 0, timeout_s=10, what="no BRPOP")


@contextmanager
def patient(redis_server: RedisServer, s3_server: S3Server, worker: str) -> Iterator[Patient]:
    """Return a worker that has archived something, and goes on."""
    with (
        Switchboard(redis_server.port) as switchboard,
        Stack(
            ("web", "worker"),
            settings={"REDIS_URL": f"redis://127.0.0.1:{switchboard.port}/0"},
            commands={"worker": worker},
            respawn=True,
            redis_server=redis_server,
            s3_server=s3_server,
        ) as stack,
    ):
        made = Patient(stack, switchboard, Bucket(stack.s3.client(), stack.bucket))
        made.bucket.wait_for("deletions", made.call())
        yield made


@pytest.fixture
def redis_of_its_own() -> Iterator[RedisServer]:
    """Return a Redis server that nobody else uses."""
    with RedisServer() as server:
        yield server


def test_a_worker_with_dead_connections_is_replaced(redis_of_its_own: RedisServer, s3_server: S3Server) -> None:
    """Its connections stay open and nothing comes through: it ends itself, and its successor takes what waits."""
    with patient(redis_of_its_own, s3_server, HASTY) as worker:
        pid = worker.stack.worker.pid
        assert worker.switchboard.silence() > 0
        worker.wait_until_idle()
        recording = worker.call()
        worker.bucket.wait_for("deletions", recording, timeout_s=60)
        assert [each["process"] for each in worker.events("process_wedged")] == ["worker"]
        assert worker.stack.worker.pid != pid


def test_a_worker_at_the_wrong_server_is_replaced(redis_of_its_own: RedisServer, s3_server: S3Server) -> None:
    """After a failover its connections lead to a server that answers and that nobody else talks to."""
    with RedisServer() as promoted, patient(redis_of_its_own, s3_server, HASTY) as worker:
        worker.switchboard.lead_to(promoted.port)
        worker.stack.restart("web")
        recording = worker.call()
        worker.bucket.wait_for("deletions", recording, timeout_s=60)
        assert [each["detail"] for each in worker.events("process_wedged")] == ["messages wait and none is taken"]


def test_a_worker_outlives_an_outage(redis_of_its_own: RedisServer, s3_server: S3Server) -> None:
    """While Redis is away for longer than the watchdog waits, the worker stays and is healthy, and then goes on."""
    with patient(redis_of_its_own, s3_server, HASTY) as worker:
        pid = worker.stack.worker.pid
        redis_of_its_own.kill()
        lost = monotonic()
        wait_until(lambda: monotonic() - lost > 8, timeout_s=10, what="a long outage", interval_s=0.5)
        assert worker.health().returncode == 0
        redis_of_its_own.start()
        worker.stack.wait_ready("worker", timeout_s=40)
        worker.bucket.wait_for("deletions", worker.call())
        assert worker.events("process_wedged") == []
        assert worker.stack.worker.pid == pid


def test_dead_connections_are_mended_without_a_new_process(redis_of_its_own: RedisServer, s3_server: S3Server) -> None:
    """The worker as shipped gives up on what does not answer, well before its watchdog would end it."""
    with patient(redis_of_its_own, s3_server, read_procfile(ROOT / "Procfile")["worker"]) as worker:
        pid = worker.stack.worker.pid
        assert worker.switchboard.silence() > 0
        worker.wait_until_idle()
        cut = monotonic()
        recording = worker.call()
        worker.bucket.wait_for("deletions", recording, timeout_s=100)
        assert monotonic() - cut < 60
        assert worker.stack.worker.pid == pid


def test_health_follows_the_processes(redis_of_its_own: RedisServer, s3_server: S3Server) -> None:
    """Worker and schedule are well while they run, and are not there when they have ended."""
    with Stack(("worker", "beat"), redis_server=redis_of_its_own, s3_server=s3_server) as stack:

        def code(process: str) -> int:
            ran = subprocess.run([ENTRY, "health", process], env=stack.environment, check=False, capture_output=True)
            return ran.returncode

        for process in ("worker", "beat"):
            wait_until(lambda process=process: code(process) == 0, timeout_s=20, what=f"{process} well")
            stack.processes[process].terminate(timeout_s=30)
            assert code(process) == 1
            assert list(stack.directory.glob(f"*-{process}-*.heartbeat")) == []
