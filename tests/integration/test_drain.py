"""SIGTERM: a worker finishes what it can, hands back what it can't, and is gone before the platform kills it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pytest
import redis

from app.queue import KEY_PREFIX
from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import NotReady, SimRecording, Stall
from tests.integration.bucket import Bucket

pytestmark = pytest.mark.timeout(60)


@contextmanager
def queue(stack: Stack) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def stack(
    redis_server: RedisServer, s3_server: S3Server, redis_database: int, request: pytest.FixtureRequest
) -> Iterator[Stack]:
    """Return a product that takes one recording at a time."""
    settings = {"CELERY_CONCURRENCY": "1", "WEB_CONCURRENCY": "1", "TWILIO_DELETE": "never"}
    settings |= getattr(request, "param", {})
    with Stack(redis_server=redis_server, database=redis_database, s3_server=s3_server, settings=settings) as stack:
        yield stack


def call(stack: Stack) -> SimRecording:
    """Let a call end; its callback is on the queue when this returns."""
    recording = stack.simulator.record(next(iter(stack.simulator.accounts)), "call", 2.0)
    assert stack.simulator.send_callback(recording, stack.callback_url).status == 204
    return recording


def end(stack: Stack, *numbers: signal.Signals) -> float:
    """Send signals to the worker, one after the other was seen; return how many seconds it then took to end."""
    for count, number in enumerate(numbers, 1):
        stack.worker.signal(number)
        seen = "worker_draining" if count == 1 else "worker_drained"
        wait_until(lambda seen=seen: seen in stack.worker.tail(100), timeout_s=10, what=seen)
    began = monotonic()
    wait_until(lambda: not stack.worker.alive, timeout_s=10, what="end of the worker")
    return monotonic() - began


def is_archived(stack: Stack, recording: SimRecording) -> bool:
    return Bucket(stack.s3.client(), stack.bucket).document("receipts", recording) is not None


def test_what_is_under_way_is_finished(stack: Stack) -> None:
    """A recording whose download goes on during the drain is archived and acknowledged; the next one is left alone."""
    stalled = stack.simulator.inject(Stall(at=0.5))
    first, second = call(stack), call(stack)
    wait_until(lambda: stalled.hits, timeout_s=10, what="download under way")
    stack.worker.signal(signal.SIGTERM)
    wait_until(lambda: "worker_draining" in stack.worker.tail(100), timeout_s=10, what="drain")
    stalled.release()
    wait_until(lambda: not stack.worker.alive, timeout_s=10, what="end of the worker")
    assert stack.worker.returncode == 0
    assert is_archived(stack, first)
    assert not is_archived(stack, second)
    with queue(stack) as client:
        assert (client.llen(f"{KEY_PREFIX}archive"), client.hlen(f"{KEY_PREFIX}unacked")) == (1, 0)


@pytest.mark.parametrize("stack", [{}, {"REMAP_SIGTERM": "SIGQUIT"}], indirect=True)
def test_what_takes_too_long_is_handed_back(stack: Stack) -> None:
    """What is not finished in time is in its queue again, and no lease keeps the next worker from it."""
    stalled = stack.simulator.inject(Stall(at=0.5))
    recording = call(stack)
    wait_until(lambda: stalled.hits, timeout_s=10, what="download under way")
    assert end(stack, signal.SIGTERM, signal.SIGTERM) < 5  # the second one takes the rest of the time away
    assert stack.worker.returncode == 0
    with queue(stack) as client:
        assert (client.llen(f"{KEY_PREFIX}archive"), client.hlen(f"{KEY_PREFIX}unacked")) == (1, 0)
        assert not client.keys(f"{KEY_PREFIX}lease:*")
    stalled.remove()
    stack.restart("worker")
    wait_until(lambda: is_archived(stack, recording), timeout_s=10, what="archived by the next worker")


def test_what_waits_for_its_next_try_is_handed_back(stack: Stack) -> None:
    """A retry that waits in the memory of an idle worker is in the queue again when it has ended."""
    early = stack.simulator.inject(NotReady(), times=None)
    call(stack)
    wait_until(lambda: early.hits >= 2, timeout_s=20, what="the second try")
    assert end(stack, signal.SIGTERM) < 5
    with queue(stack) as client:
        assert (client.llen(f"{KEY_PREFIX}archive"), client.hlen(f"{KEY_PREFIX}unacked")) == (1, 0)


def test_a_frozen_redis_does_not_hold_it_up(s3_server: S3Server) -> None:
    """Where nothing can be handed back, the worker ends all the same."""
    with RedisServer() as frozen, Stack(redis_server=frozen, s3_server=s3_server) as stack:
        stalled = stack.simulator.inject(Stall(at=0.5))
        call(stack)
        wait_until(lambda: stalled.hits, timeout_s=10, what="download under way")
        frozen.pause()
        stack.worker.signal(signal.SIGTERM)
        wait_until(lambda: "worker_draining" in stack.worker.tail(100), timeout_s=10, what="drain")
        stack.worker.signal(signal.SIGTERM)
        wait_until(lambda: not stack.worker.alive, timeout_s=10, what="end of the worker")
        frozen.resume()
    assert stack.worker.returncode == 0
