"""Redis away in every way: the endpoint says so in time, recovers by itself and leaks nothing."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.queue import ARCHIVE_TASK, ENDPOINT_LIMIT_S, Publisher, QueueUnavailableError
from app.settings import CommonSettings, load
from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.twilio import Account
from tests.integration.callback_tools import Answer, Web, callback, fields_of, needs_proc, web_process

MAIN = Account(sid="AC" + "a1" * 16, auth_tokens=["main-token"])
PER_SECOND = 50
# Stands in for a name server that says nothing for as long as a file is there.
NAME_SERVER = """
import os, socket, threading
look_up = socket.getaddrinfo

def getaddrinfo(host, *rest, **more):
    while host == "redis.example.com" and os.path.exists({silent!r}):
        threading.Event().wait(0.05)
    return look_up("127.0.0.1" if host == "redis.example.com" else host, *rest, **more)

socket.getaddrinfo = getaddrinfo
"""
LIMIT_S = 2.0
RECOVERY_S = 5.0
MOST_CONNECTIONS = 2 * 4  # of two processes


@pytest.fixture(scope="module")
def redis_of_its_own() -> Iterator[RedisServer]:
    """Return a Redis server that may be broken."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def web(redis_of_its_own: RedisServer, s3_server: S3Server) -> Iterator[Web]:
    """Return the endpoint as the Procfile starts it: two workers, with every thread that they will ever have."""
    with web_process([MAIN], redis_of_its_own, s3_server) as web:
        with frozen(redis_of_its_own):
            call_steadily(web, 0.5, per_second=200)
        wait_until(lambda: accepted(call_once(web)), timeout_s=RECOVERY_S, what="normal service")
        yield web


@contextmanager
def stopped(server: RedisServer) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def frozen(server: RedisServer) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


@contextmanager
def full(server: RedisServer) -> Iterator[None]:
    with server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


@contextmanager
def read_only(server: RedisServer) -> Iterator[None]:
    """Make it a replica, as a failover does with the old primary."""
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        try:
            yield
        finally:
            client.replicaof("NO", "ONE")


@dataclass(frozen=True)
class Timed:
    answer: Answer | None
    seconds: float


def call_once(web: Web) -> Timed:
    started = time.monotonic()
    with web.wire() as wire:
        answer = wire.send(callback(fields_of(MAIN.sid, f"RE{secrets.token_hex(16)}"), "main-token"))
    return Timed(answer, time.monotonic() - started)


def call_steadily(web: Web, seconds: float, per_second: int = PER_SECOND) -> list[Timed]:
    """Send callbacks at a constant rate, however slow the answers are, each on a connection of its own."""
    answers: list[Future[Timed]] = []

    def call(answer: Future[Timed]) -> None:
        try:
            answer.set_result(call_once(web))
        except OSError as error:
            answer.set_exception(error)

    for number in range(int(seconds * per_second)):
        answer: Future[Timed] = Future()
        answers.append(answer)
        threading.Timer(number / per_second, call, [answer]).start()
    return [answer.result(timeout=30) for answer in answers]


def usage_at_rest(web: Web) -> tuple[int, int]:
    """Return the threads and descriptors when no client is there, but for those of the connections to Redis.

    Of these there may be one for each attempt that may be made at once, whatever has happened before.
    """

    def look() -> tuple[int, int, int]:
        with web.stack.redis.client() as client:
            return (*web.usage(), len(client.client_list()) - 1)  # the other one is this client

    counted = [look()]

    def unchanged() -> bool:
        counted.append(look())
        return counted[-5:] == [counted[-1]] * 5

    wait_until(unchanged, timeout_s=20, what="the end of all requests")
    threads, descriptors, connections = counted[-1]
    assert connections <= MOST_CONNECTIONS
    return threads, descriptors - 2 * connections  # a socket, and what kombu waits with


@needs_proc
@pytest.mark.parametrize("outage", [stopped, frozen, full, read_only])
def test_an_outage_of_redis(
    web: Web, redis_of_its_own: RedisServer, outage: Callable[[RedisServer], AbstractContextManager[None]]
) -> None:
    """Every callback is refused with Retry-After within 2 s, taken again within 5 s, and nothing has leaked."""
    before = usage_at_rest(web)
    with outage(redis_of_its_own):
        refused = call_steadily(web, 1.2)
    returned = time.monotonic()
    wait_until(lambda: accepted(call_once(web)), timeout_s=RECOVERY_S, what="recovery")
    assert time.monotonic() - returned < RECOVERY_S
    assert [each.answer.status for each in refused if each.answer] == [503] * len(refused)
    assert all(each.answer.headers["retry-after"] for each in refused if each.answer)
    assert max(each.seconds for each in refused) < LIMIT_S
    wait_until(lambda: usage_at_rest(web) == before, timeout_s=20, what="as many threads and descriptors as before")


def test_only_the_endpoint_is_in_a_hurry() -> None:
    """What a worker or a command publishes outlasts a pause of Redis that is too long for who answers Twilio."""
    with RedisServer() as server:
        settings = load(CommonSettings, {"REDIS_URL": server.url()})
        with ThreadPoolExecutor() as threads, frozen(server):
            patient = threads.submit(Publisher(settings).publish, ARCHIVE_TASK, recording_sid="RE")
            with pytest.raises(QueueUnavailableError):
                Publisher(settings, limit_s=ENDPOINT_LIMIT_S).publish(ARCHIVE_TASK, recording_sid="RE")
        assert patient.result() is None


def accepted(timed: Timed) -> bool:
    return timed.answer is not None and timed.answer.status == 204


def test_a_name_that_leads_nowhere(redis_of_its_own: RedisServer, s3_server: S3Server) -> None:
    """With a Redis host that can't be resolved, every callback is refused within 2 s, and health still answers."""
    with web_process([MAIN], redis_of_its_own, s3_server, REDIS_URL="redis://no-such-host.invalid:6379/0") as web:
        refused = call_steadily(web, 1)
        assert web.get("/healthz").status == 200
    assert {each.answer.status for each in refused if each.answer} == {503}
    assert max(each.seconds for each in refused) < LIMIT_S


def test_a_name_server_that_says_nothing(redis_of_its_own: RedisServer, s3_server: S3Server, tmp_path: Path) -> None:
    """While the look-up of the Redis host hangs, every callback is refused within 2 s, and taken again after that."""
    silent = tmp_path / "silent"
    silent.touch()
    (tmp_path / "sitecustomize.py").write_text(NAME_SERVER.format(silent=str(silent)))
    settings = {"REDIS_URL": f"redis://redis.example.com:{redis_of_its_own.port}/0", "PYTHONPATH": str(tmp_path)}
    with web_process([MAIN], redis_of_its_own, s3_server, **settings) as web:
        refused = call_steadily(web, 3)
        silent.unlink()
        wait_until(lambda: accepted(call_once(web)), timeout_s=RECOVERY_S, what="recovery")
    assert {each.answer.status for each in refused if each.answer} == {503}
    assert max(each.seconds for each in refused) < LIMIT_S
