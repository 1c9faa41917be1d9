"""The two sides and the queue that a sweep works with, and what it did to them."""

import json
from base64 import b64decode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from redis import Redis

from app.queue import ARCHIVE_QUEUE, KEY_PREFIX
from app.receipt import Filing
from app.settings import WorkerSettings, load
from deploy.local.s3_proxy import S3Proxy
from deploy.local.servers import RedisServer
from deploy.local.twilio import Account, SimRecording, Simulator
from workers.tasks import Work

QUEUE = KEY_PREFIX + ARCHIVE_QUEUE
HOUR = timedelta(hours=1)


@dataclass
class SweepBench:
    """Twilio with an account, S3 behind a proxy, and a queue that nobody works off unless told to."""

    account: Account
    simulator: Simulator
    proxy: S3Proxy
    redis: RedisServer
    database: int
    bucket: str

    def make(self, **settings: str) -> Work:
        """Return a worker's work under settings of one's own."""
        environment = {
            "TWILIO_ACCOUNT_SID": self.account.sid,
            "TWILIO_AUTH_TOKEN": ",".join(self.account.auth_tokens),
            "TWILIO_API_BASE_URL": self.simulator.url,
            "REDIS_URL": self.redis.url(self.database),
            "ARCHIVE_BUCKET": self.bucket,
            **settings,
        }
        return Work.from_settings(load(WorkerSettings, environment))

    def record(self, age: timedelta = HOUR, **options: Any) -> SimRecording:
        """Let a recording happen some time ago."""
        options = {"seconds": 2.0, "date_created": datetime.now(UTC) - age, **options}
        return self.simulator.record(self.account.sid, **options)

    def archived(self, work: Work, age: timedelta = HOUR, **options: Any) -> SimRecording:
        """Let a recording happen, and bring it as far as it can go without its deletion."""
        recording = self.record(age, **options)
        work.archive_recording({"account_sid": recording.account_sid, "recording_sid": recording.sid})
        return recording

    def filing(self, recording: SimRecording) -> Filing:
        """Return where a recording is filed."""
        return Filing("", recording.account_sid, recording.sid, recording.date_created.date())

    def enqueued(self) -> list[str]:
        """Take every message off the archive queue and return the SIDs of their recordings."""
        with self.redis.client(self.database) as client:
            return taken(client)

    def listings(self) -> list[str]:
        """Return the prefix of every listing that S3 was asked for."""
        return [
            event.query.get("prefix", "")
            for event in self.proxy.timeline
            if event.bucket == self.bucket and event.operation in ("ListObjectsV2", "ListMultipartUploads")
        ]

    def pages(self) -> list[tuple[str | None, str | None]]:
        """Return the bounds of every page of recordings that Twilio was asked for, as they were asked."""
        return [
            (event.query.get("DateCreated>"), event.query.get("DateCreated<"))
            for event in self.simulator.timeline
            if event.endpoint == "list"
        ]


def taken(client: Redis) -> list[str]:
    """Take every message off the archive queue and return the SIDs of their recordings."""
    messages = client.lrange(QUEUE, 0, -1)
    client.delete(QUEUE)
    return [_recording_sid(message) for message in messages]


def _recording_sid(message: str) -> str:
    _, kwargs, _ = json.loads(b64decode(json.loads(message)["body"]))
    sid: str = kwargs["recording_sid"]
    return sid
