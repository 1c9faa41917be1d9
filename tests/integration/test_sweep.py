"""What one sweep asks of Twilio and S3, and what it enqueues: with real parts, in this process."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.settings import WorkerSettings, load
from deploy.local.s3_proxy import S3Proxy
from deploy.local.servers import RedisServer, S3Server
from deploy.local.twilio import Account, ErrorStatus, Match, SimRecording, Simulator
from tests.integration.conftest import MAIN
from workers.tasks import Work

QUEUE = "recording-archiver:archive"
HOUR = timedelta(hours=1)


@dataclass
class Bench:
    """The two sides and the queue that a sweep works with."""

    simulator: Simulator
    proxy: S3Proxy
    redis: RedisServer
    database: int
    make: Callable[..., Work]

    def enqueued(self) -> list[str]:
        """Take every message off the archive queue and return the SIDs of their recordings."""
        with self.redis.client(self.database) as client:
            messages = client.lrange(QUEUE, 0, -1)
            client.delete(QUEUE)
        return [recording_sid(message) for message in messages]

    def listings(self) -> int:
        """Return how many listings S3 was asked for."""
        return sum(event.operation in ("ListObjectsV2", "ListMultipartUploads") for event in self.proxy.timeline)

    def record(self, age: timedelta = HOUR, **options: Any) -> SimRecording:
        """Let a recording happen some time ago."""
        options = {"seconds": 2.0, "date_created": datetime.now(UTC) - age, **options}
        return self.simulator.record(MAIN.sid, **options)


def recording_sid(message: str) -> str:
    """Read the recording's SID out of a Celery message."""
    from base64 import b64decode

    _, kwargs, _ = json.loads(b64decode(json.loads(message)["body"]))
    sid: str = kwargs["recording_sid"]
    return sid


@pytest.fixture
def bench(
    redis_server: RedisServer, redis_database: int, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """Return both sides, and a maker of workers' work with settings of one's own."""
    with Simulator(accounts=[MAIN]) as simulator, S3Proxy(s3_server.endpoint_url) as proxy:
        for name, value in {**s3_server.environment(), "AWS_ENDPOINT_URL_S3": proxy.url}.items():
            monkeypatch.setenv(name, value)

        def make(**settings: str) -> Work:
            environment = {
                "TWILIO_ACCOUNT_SID": MAIN.sid,
                "TWILIO_AUTH_TOKEN": ",".join(MAIN.auth_tokens),
                "TWILIO_API_BASE_URL": simulator.url,
                "REDIS_URL": redis_server.url(redis_database),
                "ARCHIVE_BUCKET": bucket,
                **settings,
            }
            return Work.from_settings(load(WorkerSettings, environment))

        yield Bench(simulator, proxy, redis_server, redis_database, make)


def test_outstanding_recordings_are_enqueued(bench: Bench) -> None:
    """A sweep enqueues what is completed or absent and not finished, and leaves alone what is live or fresh."""
    wanted = {bench.record().sid, bench.record(status="absent", error_code=16101, seconds=0.0).sid}
    bench.record(status="processing")
    bench.record(age=timedelta(seconds=2))
    bench.record(age=timedelta(days=9))
    bench.make().new_sweep().run(everything=False)
    assert set(bench.enqueued()) == wanted


def test_everything_is_found_without_a_date_bound(bench: Bench) -> None:
    """The daily sweep also finds what is older than SWEEP_LOOKBACK."""
    old = bench.record(age=timedelta(days=400))
    bench.make().new_sweep().run(everything=True)
    assert bench.enqueued() == [old.sid]


def test_a_frequent_sweep_lists_nothing_in_s3(bench: Bench) -> None:
    """With deletion on, what is outstanding is known without S3, and an absence that is written is left alone."""
    absent = bench.record(status="absent", error_code=16101, seconds=0.0)
    work = bench.make()
    work.archive_recording({"account_sid": MAIN.sid, "recording_sid": absent.sid})
    outstanding = [bench.record().sid for _ in range(5)]
    work.new_sweep().run(everything=False)
    assert bench.listings() == 0
    assert sorted(bench.enqueued()) == sorted(outstanding)


def test_a_written_absence_is_left_alone_without_hints(bench: Bench) -> None:
    """The daily sweep compares absences with S3's listing of the day, so that a flushed Redis costs nothing."""
    absent = bench.record(status="absent", error_code=16101, seconds=0.0)
    work = bench.make()
    work.archive_recording({"account_sid": MAIN.sid, "recording_sid": absent.sid})
    bench.redis.flush()
    work.new_sweep().run(everything=True)
    assert bench.enqueued() == []


@pytest.mark.parametrize(
    ("setting", "enqueued_again"), [("never", False), ("24h", False), ("1s", True), ("verified", True)]
)
def test_what_is_archived_waits_for_its_deletion(bench: Bench, setting: str, enqueued_again: bool) -> None:
    """An archived recording that is still listed is enqueued again only when its deletion is due."""
    recording = bench.record()
    work = bench.make(TWILIO_DELETE=setting)
    work.archive_recording({"account_sid": MAIN.sid, "recording_sid": recording.sid})
    bench.enqueued()
    later = datetime.now(UTC) + timedelta(seconds=3)
    found = [each.sid for each in work.new_sweep().outstanding(MAIN.sid, later, everything=False)]
    assert found == ([recording.sid] if enqueued_again else [])


def test_the_queue_is_never_filled_beyond_its_depth(bench: Bench) -> None:
    """What waits already counts: a sweep tops the queue up and leaves the rest to the next one."""
    for _ in range(8):
        bench.record()
    work = bench.make()
    with bench.redis.client(bench.database) as client:
        client.rpush(QUEUE, *["waiting"] * 995)
        work.new_sweep().run(everything=False)
        assert client.llen(QUEUE) == 1000


def test_two_sweeps_do_not_do_the_same_work(bench: Bench) -> None:
    """While one sweep holds the lock, another enqueues nothing."""
    bench.record()
    work = bench.make()
    with work.hints.lease("sweep") as free:
        assert free
        assert bench.make().new_sweep().run(everything=False) == 0
    assert bench.make().new_sweep().run(everything=False) == 1


def test_one_account_does_not_keep_another_from_being_swept(bench: Bench) -> None:
    """An account whose list fails is left to the next sweep; the others are swept."""
    other = Account(sid="AC" + "d4" * 16, auth_tokens=["other"])
    bench.simulator.store.accounts[other.sid] = other
    accounts = json.dumps([{"account_sid": other.sid, "auth_tokens": ["other"]}])
    bench.record()
    found = bench.simulator.record(other.sid, seconds=2.0, date_created=datetime.now(UTC) - HOUR)
    bench.simulator.inject(ErrorStatus(500), match=Match(endpoint="list", account_sid=MAIN.sid), times=None)
    bench.make(TWILIO_ACCOUNTS=accounts).new_sweep().run(everything=False)
    assert bench.enqueued() == [found.sid]


def test_a_subaccount_that_nobody_configured_is_found(bench: Bench) -> None:
    """Active accounts that the credentials can see and that are not archived are named."""
    from workers.sweep import strangers

    stranger = Account(sid="AC" + "e5" * 16, auth_tokens=["x"], parent=MAIN.sid)
    bench.simulator.store.accounts[stranger.sid] = stranger
    work = bench.make()
    assert strangers(work.settings, work.twilio) == [stranger.sid]
