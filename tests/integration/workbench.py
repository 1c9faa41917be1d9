"""The parts of a worker in this process: no queue, but the real S3 server behind a proxy, and a Twilio of its own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from typing import Any

import urllib3

from app.queue import Publisher
from app.receipt import Filing, Receipt
from app.settings import WorkerSettings, load
from deploy.local.s3_proxy import Event, Hook, S3Proxy, S3Request, S3Response
from deploy.local.twilio import Account, SimRecording, Simulator
from tests.integration.bucket import Bucket
from tests.output import OUTPUT
from tests.unit.audio_bytes import wav
from workers.archive import PART_BYTES, Archive, StoredObject
from workers.deletion import Deletion
from workers.hints import Hints
from workers.media import Expected, MediaStream
from workers.notify import Notifier
from workers.pipeline import Pipeline
from workers.tasks import Work
from workers.transcriptions import KeptTexts
from workers.twilio_api import MediaAnswer, TwilioApi
from workers.verification import FiledReceipt, VerifiedReceipt, read_receipt, verify_receipt

NOWHERE = "redis://127.0.0.1:1/0"  # nothing listens there
FORBIDDEN = S3Response(403, {"content-type": "application/xml"}).with_body(b"<Error><Code>AccessDenied</Code></Error>")


def settings_for(simulator: Simulator, bucket: str, **changes: str | None) -> WorkerSettings:
    """Return what a worker would read from its environment; `changes` are added to it, and None removes a setting."""
    account = next(iter(simulator.accounts.values()))
    environ = {
        "TWILIO_ACCOUNT_SID": account.sid,
        "TWILIO_AUTH_TOKEN": ",".join(account.auth_tokens),
        "TWILIO_API_BASE_URL": simulator.url,
        "REDIS_URL": NOWHERE,
        "ARCHIVE_BUCKET": bucket,
        **changes,
    }
    given = {name: value for name, value in environ.items() if value is not None}
    OUTPUT.learn(given)
    return load(WorkerSettings, given)


@dataclass
class Workbench:
    """A worker's parts with their settings, and both sides as they are seen from the outside."""

    simulator: Simulator
    proxy: S3Proxy
    bucket: Bucket
    changes: dict[str, str | None] = field(default_factory=dict)

    def under(self, **changes: str | None) -> "Workbench":
        """Return the same with other settings."""
        return Workbench(self.simulator, self.proxy, self.bucket, {**self.changes, **changes})

    @cached_property
    def settings(self) -> WorkerSettings:
        return settings_for(self.simulator, self.bucket.name, **self.changes)

    @cached_property
    def archive(self) -> Archive:
        return Archive(self.settings)

    @cached_property
    def twilio(self) -> TwilioApi:
        return TwilioApi(self.settings.accounts)

    @cached_property
    def work(self) -> Work:
        """Return all of a worker; it needs the setting REDIS_URL for what it would enqueue."""
        publisher, hints = Publisher(self.settings), Hints(self.settings)
        notifier = Notifier(self.settings, publisher, hints)
        return Work(self.settings, self.twilio, self.archive, publisher, hints, notifier)

    @property
    def account(self) -> Account:
        return next(iter(self.simulator.accounts.values()))

    # Twilio's side

    def record(self, **call: Any) -> SimRecording:
        """Let a recording of 2 s happen, completed, unless `call` says otherwise."""
        return self.simulator.record(self.account.sid, **{"seconds": 2.0, **call})

    def filing(self, recording: SimRecording) -> Filing:
        """Return where a recording is filed."""
        day = recording.date_created.date()
        return Filing(self.settings.ARCHIVE_PREFIX, recording.account_sid, recording.sid, day)

    def deletes(self, recording: SimRecording) -> list[int | None]:
        """Return the answers to every DELETE of a recording."""
        events = self.simulator.timeline
        return [each.status for each in events if each.method == "DELETE" and each.recording_sid == recording.sid]

    # The steps

    def archived(self, recording: SimRecording) -> Receipt:
        """Archive a recording, and return its receipt."""
        source = self.twilio.fetch(recording.account_sid, recording.sid)
        return Pipeline(self.settings, self.twilio, self.archive).run(source, None)

    def filed(self, recording: SimRecording) -> FiledReceipt:
        """Return the receipt of a recording, as it is in S3."""
        filed = read_receipt(self.archive, self.filing(recording))
        assert filed is not None
        return filed

    def verified(self, recording: SimRecording) -> VerifiedReceipt:
        """Return the receipt of a recording, verified now."""
        return verify_receipt(self.archive, self.filed(recording))

    def delete(self, recording: SimRecording, texts: KeptTexts | None = None) -> bool:
        """Delete the source of an archived recording, and return whether this call did."""
        deletion = Deletion(self.settings, self.twilio, self.archive)
        return deletion.delete_source(self.verified(recording), texts or KeptTexts())

    # S3's side

    def requests(self, key_contains: str = "", operation: str | None = None) -> list[Event]:
        """Return what this worker has asked of S3 until now, in the order in which it was over."""
        return [
            event
            for event in self.proxy.timeline
            if event.bucket == self.bucket.name and key_contains in event.key and operation in (None, event.operation)
        ]

    def operations(self, key_contains: str) -> list[str]:
        """Return the names of the requests for a key, in order."""
        return [event.operation for event in self.requests(key_contains)]

    def versions(self, key: str) -> list[str]:
        """Return the ids of all versions of a key, newest first."""
        answer = self.bucket.client.list_object_versions(Bucket=self.bucket.name, Prefix=key)
        return [version["VersionId"] for version in answer.get("Versions", ())]

    def uploads(self) -> list[str]:
        """Return the keys of the multipart uploads that are open."""
        answer = self.bucket.client.list_multipart_uploads(Bucket=self.bucket.name)
        return [upload["Key"] for upload in answer.get("Uploads", ())]

    def overwrite(self, key: str, body: bytes) -> None:
        """Put an object as somebody who does not ask for conditions."""
        self.bucket.client.put_object(Bucket=self.bucket.name, Key=key, Body=body)

    def tamper(self, key: str, path: str, value: Any) -> None:
        """Change one field of a document in S3; `path` has a dot between the names."""
        document = json.loads(self.bucket.body(key) or b"")
        *parents, last = path.split(".")
        place = document
        for parent in parents:
            place = place[parent]
        assert place[last] != value
        place[last] = value
        self.overwrite(key, json.dumps(document).encode())

    @contextmanager
    def meanwhile(self, operation: str, key_contains: str, *, carried_out: bool = False) -> Iterator[None]:
        """Refuse (or carry out, and refuse nevertheless) every such request for the length of the block."""
        injection = self.proxy.inject(
            refusal(carried_out=carried_out), operation, key_contains=key_contains, times=None
        )
        try:
            yield
        finally:
            injection.remove()
        assert injection.hits > 0


def refusal(*, carried_out: bool) -> Hook:
    """Answer 403, which nobody repeats by himself: to the client it is as if it had ended there."""

    def refuse(_request: S3Request, _response: S3Response | None = None) -> S3Response:
        return FORBIDDEN

    return Hook(after=refuse) if carried_out else Hook(before=refuse)


def now() -> datetime:
    return datetime.now(UTC)


def wav_of(size: int) -> bytes:
    """Make a WAV file of exactly so many bytes (more than 44), whose header says as little as a streamer's."""
    header = wav(0, riff_size=0xFFFFFFFF, data_size=0xFFFFFFFF)
    return header + bytes(range(256)) * ((size - len(header)) // 256) + bytes((size - len(header)) % 256)


def stream_of(body: bytes, *, announced: int | None = None, duration_s: int | None = None) -> MediaStream:
    """Return a download of a WAV file that has been opened; `announced` is its Content-Length if not the true one."""
    response = urllib3.HTTPResponse(body=BytesIO(body), status=200, preload_content=False)
    length = len(body) if announced is None else announced
    return MediaStream(MediaAnswer("audio/x-wav", length, response), Expected("wav", None, None, duration_s, False))


# A recording of Archive's own tests: what fits in a part, and what does not.
KEY = "recordings/account=AC/year=2026/month=11/day=22/RE.wav"
METADATA = {"recording-sid": "RE", "duration": "2"}
SMALL, LARGE = wav_of(4_000), wav_of(PART_BYTES + 1)


def store(archive: Archive, body: bytes, key: str = KEY, started: datetime | None = None) -> StoredObject:
    """Store a WAV file as a recording that begins now, or has begun earlier."""
    return archive.store(stream_of(body), key, "audio/x-wav", METADATA, started or now())
