"""What a worker takes first: what ends a recording before what begins another."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.queue import ARCHIVE_QUEUE, ARCHIVE_TASK, KEY_PREFIX, Publisher, redis_client
from app.settings import CommonSettings, load
from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import SimRecording

MANY = 20


def test_a_deletion_is_not_kept_waiting_by_archivals(
    redis_server: RedisServer, redis_database: int, s3_server: S3Server
) -> None:
    """A source is deleted although messages for archivals wait at every moment, as after an outage."""
    with Stack(
        ("worker",),
        settings={"CELERY_CONCURRENCY": "1"},
        redis_server=redis_server,
        database=redis_database,
        s3_server=s3_server,
    ) as stack:
        recording = stack.simulator.record(next(iter(stack.simulator.accounts)), seconds=1.0)
        with archivals_arriving(stack.redis_url, recording) as waiting:
            wait_until(lambda: recording.deleted_at is not None, timeout_s=60, what="the deletion")
        assert min(waiting) > 0


@contextmanager
def archivals_arriving(redis_url: str, recording: SimRecording) -> Iterator[list[int]]:
    """Ask for the archiving of a recording again and again, faster than it is done; yield how many waited each time."""
    settings, done, waiting = load(CommonSettings, {"REDIS_URL": redis_url}), threading.Event(), [MANY]
    publisher = Publisher(settings)

    def ask(times: int) -> None:
        for _ in range(times):
            publisher.publish(ARCHIVE_TASK, account_sid=recording.account_sid, recording_sid=recording.sid)

    def go_on() -> None:
        with redis_client(settings) as redis:
            while not done.is_set():
                waiting.append(int(redis.llen(KEY_PREFIX + ARCHIVE_QUEUE)))
                ask(MANY - waiting[-1])

    ask(MANY)
    thread = threading.Thread(target=go_on, name="archivals")
    thread.start()
    try:
        yield waiting
    finally:
        done.set()
        thread.join()
