"""What is known of a run from the outside: what the source is and served, what both sides were asked, what S3 holds.

Taken from the simulator, the S3 proxy and the bucket itself, never from the product, and kept as lines of JSON, so that
a run can be judged again long after it.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deploy.local.s3_proxy import Event as S3Event
from deploy.local.s3_proxy import S3Proxy
from deploy.local.twilio import Event as TwilioEvent
from deploy.local.twilio import SimRecording, Simulator
from deploy.local.twilio.representations import resource

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

READERS = 8
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Truth:
    """One recording as the source knows it. `folder` is where the layout files it: account and UTC day.

    `audio` is `sound`, `damaged` where the source never served anything whole, or `none` where there is no audio.
    `sha256` is of what the source serves without faults on the best rung of the channel ladder ("" for `none`), and
    `resource` what it says of the recording in the end.
    """

    recording_sid: str
    account_sid: str
    folder: str
    audio: Literal["sound", "damaged", "none"]
    sha256: str
    deleted: bool
    resource: dict[str, Any]


@dataclass(frozen=True)
class Download:
    """Media that the source has sent to the last byte: when, in the order of `Asked`, and its SHA-256."""

    order: int
    recording_sid: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Asked:
    """One request to either side, in the one order of both.

    `order` is when it came in, `carried_out` when the server itself had answered (None where it was never asked),
    `ended` when the client had its answer or the connection was broken. `what` is an endpoint of the simulator or an
    operation of S3, `key` S3's key or Twilio's path. `status` is what the client was told, and `done` what the server
    itself said (for Twilio the same); None where nothing was.
    """

    side: Literal["twilio", "s3"]
    order: int
    carried_out: int | None
    ended: int
    time: str
    method: str
    what: str
    key: str
    recording_sid: str | None
    status: int | None
    done: int | None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Version:
    """One version of one object as S3 holds it in the end; `sha256` and `document` only where the bytes were read.

    `kept` is how S3 keeps them: bucket, encryption, storage class, retention, and its own checksum of them.
    """

    key: str
    version_id: str
    latest: bool
    bytes: int
    sha256: str | None = None
    document: dict[str, Any] | None = None
    kept: dict[str, str | None] | None = None


@dataclass
class Evidence:
    """All that a run is judged by. `markers` are the keys of delete markers, `uploads` those of open uploads."""

    truths: list[Truth] = field(default_factory=list)
    downloads: list[Download] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    markers: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)

    def write(self, directory: Path) -> None:
        """Keep everything in a directory, a file of JSON lines for each kind."""
        for name, rows in vars(self).items():
            with (directory / f"{name}.jsonl").open("w") as file:
                file.writelines(f"{json.dumps(row if isinstance(row, str) else asdict(row))}\n" for row in rows)

    @classmethod
    def read(cls, directory: Path) -> "Evidence":
        """Take up what `write` has kept."""

        def rows(name: str) -> Iterator[Any]:
            with (directory / f"{name}.jsonl").open() as file:
                yield from map(json.loads, file)

        return cls(
            truths=[Truth(**row) for row in rows("truths")],
            downloads=[Download(**row) for row in rows("downloads")],
            asked=[Asked(**row | {"faults": tuple(row["faults"])}) for row in rows("asked")],
            versions=[Version(**row) for row in rows("versions")],
            markers=list(rows("markers")),
            uploads=list(rows("uploads")),
        )


def collect(
    simulator: Simulator,
    proxy: S3Proxy,
    client: "S3Client",
    bucket: str,
    *,
    sids: Collection[str] | None = None,
    damaged: Collection[str] = (),
    since: int = 0,
) -> Evidence:
    """Take the evidence of a run that has come to rest: of some recordings (default: all), and of all of the bucket.

    `damaged` are those of which the source never served anything whole; what was asked up to the number `since` is
    left out. `client` leads to S3 itself, past the proxy.
    """
    recordings = [each for sid, each in simulator.recordings.items() if sids is None or sid in sids]
    known = {each.sid for each in recordings}
    with ThreadPoolExecutor(READERS) as pool:
        versions, markers = _listing(client, bucket)
        return Evidence(
            truths=list(pool.map(lambda each: _truth(simulator, each, each.sid in damaged), recordings)),
            downloads=[
                Download(each.sequence, each.recording_sid, each.bytes, each.sha256)
                for each in simulator.served
                if each.recording_sid in known
            ],
            asked=[
                each
                for each in (*_twilio_side(simulator.timeline, known), *_s3_side(proxy.timeline, bucket))
                if each.order > since
            ],
            versions=list(pool.map(lambda each: _read(client, bucket, each), versions)),
            markers=markers,
            uploads=_uploads(client, bucket),
        )


def folder_of(recording: SimRecording) -> str:
    """Return where the layout files a recording, below each collection."""
    return f"account={recording.account_sid}/{recording.date_created:year=%Y/month=%m/day=%d}/"


def _truth(simulator: Simulator, recording: SimRecording, damaged: bool) -> Truth:
    has_audio = recording.status in ("completed", "deleted") and not recording.external
    return Truth(
        recording_sid=recording.sid,
        account_sid=recording.account_sid,
        folder=folder_of(recording),
        audio="none" if not has_audio else "damaged" if damaged else "sound",
        sha256=simulator.media_sha256(recording.sid, recording.channels) if has_audio else "",
        deleted=recording.deleted_at is not None,
        resource=resource(recording),
    )


def _twilio_side(events: Iterable[TwilioEvent], known: Collection[str]) -> Iterator[Asked]:
    for event in events:
        if event.recording_sid in known or event.recording_sid is None:
            yield Asked(
                side="twilio",
                order=event.sequence,
                carried_out=event.finished_sequence,
                ended=event.finished_sequence,
                time=event.time.isoformat(),
                method=event.method,
                what=event.endpoint,
                key=event.path,
                recording_sid=event.recording_sid,
                status=event.status,
                done=event.status,
                faults=event.faults,
            )


def _s3_side(events: Iterable[S3Event], bucket: str) -> Iterator[Asked]:
    for event in events:
        if event.bucket == bucket:
            yield Asked(
                side="s3",
                order=event.sequence,
                carried_out=event.done_sequence,
                ended=event.finished_sequence,
                time=event.time.isoformat(),
                method=event.method,
                what=event.operation,
                key=event.key,
                recording_sid=None,
                status=event.status,
                done=event.s3_status,
                faults=event.faults,
            )


def _listing(client: "S3Client", bucket: str) -> tuple[list[Version], list[str]]:
    versions: list[Version] = []
    markers: list[str] = []
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        versions += [
            Version(each["Key"], each["VersionId"], each["IsLatest"], each["Size"]) for each in page.get("Versions", ())
        ]
        markers += [each["Key"] for each in page.get("DeleteMarkers", ())]
    return versions, markers


def _read(client: "S3Client", bucket: str, version: Version) -> Version:
    """Read what was listed, byte for byte; the empty objects of the index say all by their key."""
    if version.bytes == 0:
        return version
    answer = client.get_object(Bucket=bucket, Key=version.key, VersionId=version.version_id, ChecksumMode="ENABLED")
    digest, size, head = hashlib.sha256(), 0, b""
    is_document = version.key.endswith(".json")
    for block in answer["Body"].iter_chunks(_BLOCK_BYTES):
        digest.update(block)
        size += len(block)
        head += block if is_document else b""
    document = _document(head) if is_document else None
    until = answer.get("ObjectLockRetainUntilDate")
    kept = {
        "bucket": bucket,
        "sse": answer.get("ServerSideEncryption"),
        "kms_key_id": answer.get("SSEKMSKeyId"),
        "storage_class": answer.get("StorageClass", "STANDARD"),
        "object_lock_mode": answer.get("ObjectLockMode"),
        "retain_until": until and until.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "checksum": answer.get("ChecksumSHA256"),
    }
    return replace(version, bytes=size, sha256=digest.hexdigest(), document=document, kept=kept)


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _uploads(client: "S3Client", bucket: str) -> list[str]:
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
    return [upload["Key"] for page in pages for upload in page.get("Uploads", ())]
