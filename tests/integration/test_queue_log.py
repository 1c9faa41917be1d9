"""The log line from which a platform learns how much waits."""

import json

import structlog

from app.queue import ARCHIVE_TASK, KEY_PREFIX, QUEUES, Publisher, redis_client
from app.settings import BeatSettings, load
from deploy.local.servers import RedisServer
from workers.queue_log import QueueLog


def test_the_line_says_how_much_waits_and_how_long(redis_server: RedisServer, redis_database: int) -> None:
    """Each queue has its depth and the age of its oldest message in seconds; an empty one and junk are 0 s old."""
    settings = load(BeatSettings, {"REDIS_URL": redis_server.url(redis_database)})
    publisher = Publisher(settings)
    for number in range(3):
        publisher.publish(ARCHIVE_TASK, account_sid="AC", recording_sid=f"RE{number}")
    with redis_server.client(redis_database) as client:
        oldest = json.loads(str(client.lindex(f"{KEY_PREFIX}archive", -1)))
        oldest["headers"]["published_at"] -= 90
        client.lset(f"{KEY_PREFIX}archive", -1, json.dumps(oldest))
        client.lpush(f"{KEY_PREFIX}delete", "junk")
    with structlog.testing.capture_logs() as lines:
        QueueLog(lambda: redis_client(settings, once=True)).measure()
    (line,) = lines
    assert line["event"] == "queues_measured"
    assert (line["archive_depth"], line["delete_depth"]) == (3, 1)
    assert 90 <= line["archive_oldest_s"] < 120
    assert {line[f"{queue}_oldest_s"] for queue in QUEUES if queue != "archive"} == {0}


def test_without_redis_there_is_no_measure(redis_server: RedisServer) -> None:
    """While Redis does not answer, the line that is counted is missing, which is what the alarm waits for."""
    settings = load(BeatSettings, {"REDIS_URL": "redis://127.0.0.1:1/0"})
    with structlog.testing.capture_logs() as lines:
        QueueLog(lambda: redis_client(settings, timeout_s=1, once=True)).measure()
    assert [line["event"] for line in lines] == ["queues_not_measured"]
