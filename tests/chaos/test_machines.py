"""Workers on machines that something is wrong with: they say what, lose nothing, and archive once it is mended."""

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from app.queue import ARCHIVE_TASK, AUDIT_TASK, Publisher
from app.settings import WorkerSettings, load
from deploy.local.processes import wait_until
from deploy.local.s3_proxy import ErrorStatus, S3Proxy, S3Request, S3Response
from deploy.local.servers import ROOT, RedisServer, S3Server
from deploy.local.stack import Stack, read_procfile
from deploy.local.twilio import Simulator
from tests.chaos.evidence import collect
from tests.chaos.judge import judge
from tests.chaos.machines import NotPossibleError, fill, little_memory, small_disk
from tests.chaos.rest import rested

WORKER = read_procfile(ROOT / "Procfile")["worker"]
SETTINGS = {"SWEEP_INTERVAL": "3s", "SWEEP_GRACE": "2s"}
MIB = 1 << 20


@dataclass
class Machine:
    """A running stack with a worker on a bad machine, and what judges it in the end."""

    stack: Stack
    proxy: S3Proxy

    def play(self, recordings: int, **call: Any) -> None:
        for _ in range(recordings):
            account_sid = next(iter(self.stack.simulator.accounts))
            self.stack.simulator.record(account_sid, **call, callback_url=self.stack.callback_url)

    def gone(self) -> int:
        """Return how many sources are gone."""
        return sum(each.deleted_at is not None for each in self.stack.simulator.recordings.values())

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of the worker's log with an event."""
        lines = [line for line in self.stack.worker.log.read_text().splitlines() if line.startswith("{")]
        return [each for each in map(json.loads, lines) if each["event"] == name]

    def on_another(self) -> None:
        """Start the worker on a machine that nothing is wrong with."""
        self.stack.worker.terminate(30)
        self.stack.worker.argv = [*self.stack.worker.argv[:2], WORKER]
        self.stack.worker.start()

    def assert_nothing_lost(self, recordings: int) -> None:
        """Wait until all has come to rest, and let the judge say that each recording was archived once."""
        with closing(self.stack.s3.client()) as client:
            rested(self.stack, client, print)
            for process in self.stack.processes.values():
                process.terminate(30)
            verdict = judge(collect(self.stack.simulator, self.proxy, client, self.stack.bucket))
        assert verdict.findings == ()
        assert verdict.counts == {"archived once and deleted": recordings}


@pytest.fixture
def machine(redis_server: RedisServer, redis_database: int, s3_server: S3Server) -> Iterator[Callable[..., Machine]]:
    """Return what starts a stack: with the command of its worker, and settings."""
    with ExitStack() as resources:

        def start(worker: str, **settings: str) -> Machine:
            numbers = count(1)
            proxy = resources.enter_context(S3Proxy(s3_server.endpoint_url, numbers=numbers))
            simulator = resources.enter_context(Simulator(numbers=numbers))
            stack = resources.enter_context(
                Stack(
                    ("web", "worker", "beat"),
                    settings={**SETTINGS, **settings, "AWS_ENDPOINT_URL_S3": proxy.url},
                    commands={"worker": worker},
                    respawn=True,
                    redis_server=redis_server,
                    database=redis_database,
                    s3_server=s3_server,
                    simulator=simulator,
                )
            )
            return Machine(stack, proxy)

        yield start


def test_a_full_disk(machine: Callable[..., Machine], tmp_path: Path) -> None:
    """Nothing of an archival needs a disk: only the heartbeat is missing, which the log says, and then comes back."""
    with ExitStack() as resources:
        try:
            disk = resources.enter_context(small_disk(tmp_path / "disk"))
        except NotPossibleError as error:
            pytest.skip(str(error))
        ours = machine(WORKER, TMPDIR=str(disk), HOME=str(disk))

        def heartbeats() -> list[str]:
            return [file.read_text() for file in disk.glob("*worker*.heartbeat")]

        wait_until(heartbeats, timeout_s=30, what="a heartbeat")
        filler = fill(disk)
        ours.play(5, seconds=2.0)
        ours.play(1, seconds=300.0)
        wait_until(lambda: ours.gone() == 6, timeout_s=60, what="all archived with the disk full")
        wait_until(lambda: ours.events("heartbeat_not_written"), timeout_s=30, what="word of the heartbeat")
        assert [each["error"] for each in ours.events("heartbeat_not_written")] == ["OSError"]
        last = heartbeats()
        filler.unlink()
        wait_until(lambda: heartbeats() != last, timeout_s=30, what="another heartbeat")
        ours.play(1, seconds=2.0)
        ours.assert_nothing_lost(7)


@pytest.mark.timeout(600)
def test_too_little_memory(machine: Callable[..., Machine]) -> None:
    """A worker that is killed for its memory, again and again, leaves everything to one that has enough."""
    with ExitStack() as resources:
        try:
            group = resources.enter_context(little_memory(f"chaos-{secrets.token_hex(4)}", 150 * MIB))
        except NotPossibleError as error:
            pytest.skip(str(error))
        ours = machine(f"echo $$ > {group}/cgroup.procs; exec {WORKER}", CELERY_CONCURRENCY="32")
        ours.play(40, seconds=230.0)  # just below what is sent in one part
        pids = {ours.stack.worker.pid}

        def killed_again() -> bool:
            pids.add(ours.stack.worker.pid)
            return len(pids) > 2

        wait_until(killed_again, timeout_s=90, what="two workers killed")
        ours.on_another()
        ours.assert_nothing_lost(40)


class Punctual(ErrorStatus):
    """Refuse, as AWS does, what was signed more than a quarter of an hour from now."""

    def instead(self, request: S3Request) -> S3Response | None:
        signed = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        now = datetime.now(UTC)
        refusal = super().instead(request)
        if refusal is None or abs(now - signed) <= timedelta(minutes=15):
            return None
        return replace(refusal, headers={**refusal.headers, "date": format_datetime(now, usegmt=True)})


def test_a_clock_an_hour_ahead(machine: Callable[..., Machine]) -> None:
    """S3 refuses what such a worker signs: the log calls the clock by its name, and no failure is counted."""
    ours = machine(WORKER.replace("workers.worker", "tests.chaos.early_worker"))
    refusal = ours.proxy.inject(Punctual(403, "RequestTimeTooSkewed"), times=None)
    ours.play(5, seconds=2.0)
    # It asks for its report first, and what answers HEAD has no body to say why.
    Publisher(load(WorkerSettings, ours.stack.environment)).publish(AUDIT_TASK)

    def failed(name: str) -> set[str]:
        return {each[name] for each in ours.events("attempt_failed")}

    both = {ARCHIVE_TASK, AUDIT_TASK}
    wait_until(lambda: refusal.seen > 20 and failed("task") >= both, timeout_s=60, what="refusals")
    assert failed("reason") == {"clock_wrong"}
    assert ours.gone() == 0
    ours.on_another()
    ours.assert_nothing_lost(5)
