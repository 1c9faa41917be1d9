"""Health, readiness and metrics of the web process, with several gunicorn processes and without Redis."""

import os
import re
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.twilio import Account
from tests.integration.callback_tools import Web, callback, fields_of, needs_proc, request, web_process, workers_of

MAIN = Account(sid="AC" + "a1" * 16, auth_tokens=["old-token", "new-token"])
NEW = "new-token"


@pytest.fixture(scope="module")
def redis_of_its_own() -> Iterator[RedisServer]:
    """Return a Redis server that may be broken."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def web(redis_of_its_own: RedisServer, s3_server: S3Server) -> Iterator[Web]:
    """Return the endpoint with three gunicorn workers."""
    with web_process([MAIN], redis_of_its_own, s3_server, WEB_CONCURRENCY="3") as web:
        yield web


def metrics(web: Web) -> dict[str, float]:
    """Return the samples of /metrics by name and labels."""
    answer = web.get("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = [line for line in answer.body.decode().splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def outcome(name: str) -> str:
    return f'archiver_callbacks_total{{outcome="{name}"}}'


def call(web: Web, times: int, *, token: str = NEW, status: str = "completed") -> None:
    """Send callbacks, each on a connection of its own, so that every worker gets some."""
    for _ in range(times):
        with web.wire() as wire:
            wire.send(callback(fields_of(MAIN.sid, f"RE{secrets.token_hex(16)}", status), token))


@needs_proc
def test_each_process_keeps_to_one_core(web: Web) -> None:
    """All its threads do, and the processes are spread over the cores that there are."""

    def cores_of(pid: int) -> set[int]:
        return {core for task in Path(f"/proc/{pid}/task").iterdir() for core in os.sched_getaffinity(int(task.name))}

    def kept_to() -> list[int]:
        """Return the core of each process; none while one has not begun, for the web answers as soon as one has."""
        cores = [cores_of(pid) for pid in workers_of(web.stack.web.pid)]
        return [core for each in cores for core in each] if [len(each) for each in cores] == [1, 1, 1] else []

    cores = wait_until(kept_to, timeout_s=10, what="three processes that keep to a core each")
    assert len(set(cores)) == min(3, len(os.sched_getaffinity(0)))


def test_health_never_asks_redis(web: Web, redis_of_its_own: RedisServer) -> None:
    """With Redis frozen the process is alive and says so at once, and that it is not ready within two seconds."""
    assert (web.get("/healthz").status, web.get("/readyz").status) == (200, 200)
    redis_of_its_own.pause()
    try:
        asked = time.monotonic()
        assert all(web.get("/healthz").status == 200 for _ in range(20))
        assert time.monotonic() - asked < 1
        asked = time.monotonic()
        answer = web.get("/readyz")
        assert time.monotonic() - asked < 2
        assert answer.status == 503
        assert "REDIS_URL" in answer.problem()["detail"]
    finally:
        redis_of_its_own.resume()
    wait_until(lambda: web.get("/readyz").status == 200, timeout_s=20, what="readiness")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_other_methods_say_what_is_allowed(web: Web, path: str) -> None:
    """HEAD is answered like GET, without a body; what changes something is refused with the allowed methods."""
    with web.wire() as wire:
        head = wire.send(request(path, method="HEAD"), method="HEAD")
        put = wire.send(request(path, method="PUT", body=b"x"))
    assert head is not None
    assert (head.status, head.body) == (200, b"")
    assert put is not None
    assert put.status == 405
    put.problem()
    assert "GET" in put.headers["allow"]


def test_metrics_sum_up_all_processes(web: Web) -> None:
    """Whichever process answers, the counts are those of all of them, and say which token signed."""
    before = metrics(web)
    call(web, 15)
    call(web, 4, status="in-progress")
    call(web, 3, token="wrong")
    call(web, 2, token="old-token")
    expected = {
        outcome("enqueued"): 17,
        outcome("acknowledged"): 4,
        outcome("signature_wrong"): 3,
        'archiver_signature_keys_total{account="0",key="0"}': 2,
        'archiver_signature_keys_total{account="0",key="1"}': 19,
        "archiver_callback_seconds_count": 24,
    }
    for _ in range(10):
        after = metrics(web)
        assert {name: after[name] - before.get(name, 0) for name in expected} == expected


@needs_proc
def test_metrics_survive_a_killed_process(web: Web) -> None:
    """A gunicorn worker that is killed takes no count with it, and its successor counts on."""
    call(web, 10)
    before = metrics(web)
    killed = workers_of(web.stack.web.pid)[0]
    os.kill(killed, signal.SIGKILL)
    wait_until(
        lambda: len(workers_of(web.stack.web.pid)) == 3 and killed not in workers_of(web.stack.web.pid),
        timeout_s=10,
        what="another worker",
    )
    call(web, 10)
    assert metrics(web)[outcome("enqueued")] == before[outcome("enqueued")] + 10


def test_no_label_names_a_recording(web: Web) -> None:
    """Labels are static: no SID, whatever was called back."""
    call(web, 3)
    assert re.search(r"[A-Z]{2}[0-9a-f]{32}", web.get("/metrics").body.decode()) is None


def test_metrics_show_what_waits(web: Web) -> None:
    """The depth of the queue and the age of its oldest message, from whichever process answers."""
    web.queued()
    call(web, 3)
    for _ in range(5):
        shown = metrics(web)
        assert shown['archiver_queue_depth{queue="archive"}'] == 3
        assert 0 < shown['archiver_queue_oldest_age_seconds{queue="archive"}'] < 60
        assert shown["archiver_redis_up"] == 1


def test_metrics_need_no_redis(web: Web, redis_of_its_own: RedisServer) -> None:
    """With Redis frozen a scrape is answered within two seconds, says so, and has all that was counted here."""
    call(web, 1)
    before = metrics(web)
    redis_of_its_own.pause()
    try:
        asked = time.monotonic()
        shown = metrics(web)
        assert time.monotonic() - asked < 2
        assert shown["archiver_redis_up"] == 0
        assert 'archiver_queue_depth{queue="archive"}' not in shown
        assert shown[outcome("enqueued")] == before[outcome("enqueued")]
    finally:
        redis_of_its_own.resume()
    wait_until(lambda: web.get("/readyz").status == 200, timeout_s=20, what="readiness")
