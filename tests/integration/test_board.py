"""What every metrics endpoint shows of the whole service, with a real Redis."""

import json
from collections.abc import Iterator
from functools import partial
from time import monotonic, time

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis

from app.alarms import Alarms
from app.board import ALARMS, AUDIT, COMPLETE_AUDIT, DELETIONS, FULL_SWEEP, SWEEP, Board, BoardCollector, of_audit
from app.queue import ARCHIVE_TASK, KEY_PREFIX, QUEUES, Publisher, redis_client
from app.settings import CommonSettings, load
from deploy.local.servers import RedisServer

BOARD = KEY_PREFIX + "board"
ARCHIVE = KEY_PREFIX + "archive"


@pytest.fixture
def settings(redis_url: str) -> CommonSettings:
    return load(CommonSettings, {"REDIS_URL": redis_url})


@pytest.fixture
def redis(settings: CommonSettings) -> Iterator[Redis]:
    with redis_client(settings) as client:
        yield client


class Scrape:
    """The samples of one scrape."""

    def __init__(self, settings: CommonSettings, now: float | None = None) -> None:
        registry = CollectorRegistry()
        registry.register(
            BoardCollector(partial(redis_client, settings, timeout_s=0.5, once=True), lambda: now or time())
        )
        self.values = {
            (sample.name.removeprefix("archiver_"), *sample.labels.values()): sample.value
            for metric in registry.collect()
            for sample in metric.samples
        }

    def __getitem__(self, name: str | tuple[str, ...]) -> float | None:
        return self.values.get((name,) if isinstance(name, str) else name)


def test_queues_show_depth_and_age(settings: CommonSettings) -> None:
    """Of each queue: how many messages wait, and how old the oldest of them is."""
    publisher = Publisher(settings)
    before = time()
    for _ in range(3):
        publisher.publish(ARCHIVE_TASK, account_sid="AC", recording_sid="RE")
    scrape = Scrape(settings, now=before + 100)
    assert scrape["queue_depth", "archive"] == 3
    assert 90 < (scrape["queue_oldest_age_seconds", "archive"] or 0) <= 100
    assert [scrape["queue_depth", queue] for queue in QUEUES if queue != "archive"] == [0] * (len(QUEUES) - 1)
    assert scrape["queue_oldest_age_seconds", "delete"] == 0


def test_the_oldest_is_what_a_worker_takes_next(settings: CommonSettings, redis: Redis) -> None:
    """Messages are pushed on the left and taken from the right."""
    Publisher(settings).publish(ARCHIVE_TASK, account_sid="AC", recording_sid="RE")
    old = json.loads(redis.lindex(ARCHIVE, 0))
    old["headers"]["published_at"] = 1000.0
    redis.rpush(ARCHIVE, json.dumps(old))
    assert Scrape(settings, now=1600.0)["queue_oldest_age_seconds", "archive"] == 600


@pytest.mark.parametrize(
    "message",
    [
        "",
        "junk",
        b"\xff",
        "[]",
        "[" * 100_000,
        "{}",
        '{"headers": null}',
        '{"headers": {"published_at": "soon"}}',
        f'{{"headers": {{"published_at": {"9" * 400}}}}}',
    ],
    ids=range(9),
)
def test_junk_on_a_queue_stops_no_scrape(settings: CommonSettings, redis: Redis, message: str | bytes) -> None:
    """It is counted, and has no age."""
    redis.lpush(ARCHIVE, message)
    scrape = Scrape(settings)
    assert (scrape["queue_depth", "archive"], scrape["queue_oldest_age_seconds", "archive"]) == (1, 0)


def test_what_nobody_has_posted_is_not_shown(settings: CommonSettings) -> None:
    """Neither sweep nor audit is shown with a number that would be a lie; alarms begin with 0."""
    scrape = Scrape(settings)
    assert scrape["redis_up"] == 1
    assert not [name for name in scrape.values if name[0].startswith(("sweep", "audit"))]
    assert [scrape["alarms_total", event] for event in ALARMS] == [0] * len(ALARMS)


def test_sweep_and_audit_are_shown_as_posted(settings: CommonSettings, redis: Redis) -> None:
    """When they ended, what they found, and only by states."""
    board, before = Board(redis), time()
    board.post(SWEEP, enqueued=7)
    board.post(FULL_SWEEP, enqueued=70)
    board.post(DELETIONS, paused=True)
    board.post(AUDIT, deletions_pending=2, unconfigured_accounts=1, **of_audit({"ok": 40, "lost": 1}))
    scrape = Scrape(settings)
    for kind, enqueued in (("recent", 7), ("everything", 70)):
        assert before <= (scrape["sweep_last_success_timestamp_seconds", kind] or 0) <= time()
        assert scrape["sweep_enqueued", kind] == enqueued
    assert scrape["deletions_paused"] == 1
    assert scrape["audit_deletions_pending"] == 2
    assert scrape["audit_unconfigured_accounts"] == 1
    assert (scrape["audit_recordings", "ok"], scrape["audit_recordings", "lost"]) == (40, 1)
    assert scrape["audit_last_success_timestamp_seconds"] is None, "an account could not be read"
    board.post(COMPLETE_AUDIT)
    assert (Scrape(settings)["audit_last_success_timestamp_seconds"] or 0) >= before


def test_alarms_of_all_processes_are_added_up(settings: CommonSettings) -> None:
    """Also those that are on no list; and what a process has counted stays when it ends."""
    for event in ("recording_lost", "recording_lost", "something_new"):
        Alarms.of(settings)(None, "error", {"event": event})
    scrape = Scrape(settings)
    assert scrape["alarms_total", "recording_lost"] == 2
    assert scrape["alarms_total", "something_new"] == 1


def test_junk_on_the_board_is_left_out(settings: CommonSettings, redis: Redis) -> None:
    """Whoever can write to Redis makes no label of a text, and breaks no scrape."""
    junk = {
        SWEEP: "junk",
        AUDIT: json.dumps({"state_+493012345678": 1, "state_ok": "many", "state_lost": 3, "deletions_pending": None}),
        "alarm_+493012345678": "5",
        "alarm_recording_lost": "NaN",
        "alarm_deletions_paused": "[1]",
        "alarm_recordings_lost": "9" * 400,
        "alarm_request_failed": "[" * 100_000,
        b"alarm_\xff": b"\xff",
    }
    redis.hset(BOARD, mapping=junk)
    scrape = Scrape(settings)
    assert scrape["sweep_enqueued", "recent"] is None
    assert scrape["audit_recordings", "lost"] == 3
    assert scrape["audit_deletions_pending"] is None
    for event in ("recording_lost", "recordings_lost", "request_failed"):
        assert scrape["alarms_total", event] == 0
    assert not [name for name in scrape.values if "+493012345678" in "".join(name)]


def test_an_outage_is_shown_and_bounded() -> None:
    """A Redis that accepts connections and does not answer holds a scrape for about a second; nothing else is shown."""
    with RedisServer() as server:
        frozen = load(CommonSettings, {"REDIS_URL": server.url()})
        server.pause()
        asked = monotonic()
        scrape = Scrape(frozen)
        assert monotonic() - asked < 2
        assert scrape.values == {("redis_up",): 0}
        Alarms.of(frozen)(None, "error", {"event": "recording_lost"})  # is only in the log
        server.resume()
        assert Scrape(frozen)["redis_up"] == 1
