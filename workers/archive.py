"""The one module that speaks to S3: conditional writes, verification, documents, listings.

Nothing becomes visible under an archive key before the whole body was judged, and nothing is ever overwritten:
every write of media, receipts, deletions, absences and index asks for `If-None-Match: *`.
Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html and
https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html.
"""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import add_expect_header

from app.settings import WorkerSettings
from workers import s3_listing
from workers.errors import ArchiverError, ContentError, TemporaryError
from workers.media import MediaFacts, MediaStream
from workers.s3_errors import TAKEN, AlreadyThereError, translated
from workers.s3_writer import ObjectWriter

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, MultipartUploadTypeDef

PART_BYTES: Final = 8 * 1024 * 1024  # 10,000 parts hold 84 GB; Twilio's longest recording is under 3 GB
MAX_DOCUMENT_BYTES: Final = 32 * 1024 * 1024  # twice what is read of an answer of Twilio's, which receipts hold


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Bytes that were handed to S3 and not yet compared with what S3 holds.

    `checksum` is what S3 must report: base64 SHA-256, or for parts the SHA-256 of their digests and `-count`.
    `retain_until` is the least that S3 must report where retention applies. `is_new`: this attempt has written it.
    """

    key: str
    version_id: str | None
    media: MediaFacts
    checksum: str
    part_bytes: int | None
    retention: str
    retain_until: datetime | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON document as S3 holds it."""

    key: str
    body: bytes
    version_id: str | None
    etag: str


@dataclass(frozen=True, slots=True)
class _Lock:
    """What `Storage.retention` says; `until` is the least date, and `options` ask S3 for it or for a later one."""

    retention: str
    until: datetime | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def _one_thread() -> Executor:
    return ThreadPoolExecutor(1, thread_name_prefix="part-sender")


class Archive:
    """The bucket. Thread-safe; connects when first used."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        read_timeout_s: float = 20.0,
        attempts: int = 3,
        part_bytes: int = PART_BYTES,
        client: "S3Client | None" = None,
        beside: Callable[[], Executor] = _one_thread,
    ) -> None:
        """Take the settings; `client` speaks to S3 instead of one that is made as boto3's own settings say.

        `beside` makes what sends the parts of an upload while others are received.
        """
        self._settings = settings
        self._part_bytes = part_bytes
        self._beside = beside
        self.bucket = settings.ARCHIVE_BUCKET
        self.prefix = settings.ARCHIVE_PREFIX
        owner = settings.ARCHIVE_BUCKET_OWNER
        self._owner: dict[str, Any] = {"ExpectedBucketOwner": owner} if owner else {}
        self._s3: S3Client = client or self._connected(read_timeout_s, attempts)

    def _connected(self, read_timeout_s: float, attempts: int) -> "S3Client":
        with translated():
            client: S3Client = boto3.client(
                "s3",
                **self._settings.bucket_access,
                config=Config(
                    connect_timeout=5,
                    read_timeout=read_timeout_s,
                    retries={"mode": "standard", "total_max_attempts": attempts},
                    max_pool_connections=2 * self._settings.CELERY_CONCURRENCY,
                    tcp_keepalive=True,
                    user_agent="recording-archiver",  # to say each time what the machine is takes 3 % of a request
                ),
            )
        client.meta.events.register(s3_listing.EVENT, s3_listing.take_entries)
        # Documents are small: to ask first whether S3 wants the body costs a round trip, and botocore reads its answer
        # byte by byte, a call of the system each.
        client.meta.events.unregister("before-call.s3", add_expect_header)
        return client

    @property
    def client(self) -> "S3Client":
        """The client itself, for `archiver check`: it asks what archiving never asks."""
        return self._s3

    @property
    def write_options(self) -> dict[str, Any]:
        """What the settings ask of every write."""
        return self._encryption()

    # Media

    def store(
        self, stream: MediaStream, key: str, content_type: str, metadata: Mapping[str, str], started: datetime
    ) -> StoredObject:
        """Write a stream under `key`: one PutObject for what fits in a part, multipart above.

        `started` is the recording's start, from which retention counts. Memory is bounded by a part and its copy.
        Nothing is visible before the stream was judged complete; on any doubt the upload is aborted and the error
        passed on.
        What is already under `key` is left alone: the result then has no version and must be verified like any.
        """
        lock = self._lock(started)
        options = {"ContentType": content_type, "Metadata": dict(metadata), **self._encryption(), **lock.options}
        options["StorageClass"] = self._settings.ARCHIVE_STORAGE_CLASS
        part = _next_part(stream, bytearray(min(self._part_bytes, stream.most_bytes)))  # to fill 8 MiB takes 3 ms
        if len(part) == self._part_bytes:
            # A large recording is not uploaded a second time only to learn that it is there.
            if self.head(key) is not None:
                stored = self._compare_parts(stream, part, key, lock)
            else:
                stored = self._store_parts(stream, part, key, options, lock)
            self._abort_others(key)
            return stored
        media = stream.finish()
        checksum = b64encode(bytes.fromhex(media.sha256)).decode()
        options["Metadata"] = {**metadata, "sha256": media.sha256}
        version, is_new = None, True
        try:
            version = self._put(key, part, checksum=checksum, **options)
        except AlreadyThereError:
            is_new = False
        return StoredObject(key, version, media, checksum, None, lock.retention, lock.until, is_new)

    def _compare_parts(self, stream: MediaStream, part: bytearray, key: str, lock: _Lock) -> StoredObject:
        """Read a stream to its end without storing it: what its upload would have had for a checksum."""
        digests = []
        while part:
            digests.append(_sha256(part))
            part = _next_part(stream, part)
        media, checksum = stream.finish(), composite_checksum(digests)
        return StoredObject(key, None, media, checksum, self._part_bytes, lock.retention, lock.until, is_new=False)

    def _store_parts(
        self, stream: MediaStream, first: bytearray, key: str, options: dict[str, Any], lock: _Lock
    ) -> StoredObject:
        target: dict[str, Any] = {"Bucket": self.bucket, "Key": key, **self._owner}
        with translated():
            upload_id = self._s3.create_multipart_upload(ChecksumAlgorithm="SHA256", **target, **options)["UploadId"]
        target["UploadId"] = upload_id
        version, is_new = None, True
        try:
            parts, media = self._upload_parts(stream, first, target)
            checksum = composite_checksum([part["ChecksumSHA256"] for part in parts])
            version = self._complete(target, parts, checksum, media.bytes)
        except AlreadyThereError:
            self._abort(target)
            is_new = False
        except BaseException:
            self._abort(target)
            raise
        return StoredObject(key, version, media, checksum, self._part_bytes, lock.retention, lock.until, is_new)

    def _upload_parts(
        self, stream: MediaStream, first: bytearray, target: Mapping[str, Any]
    ) -> tuple[list["CompletedPartTypeDef"], MediaFacts]:
        """Send the parts of a stream, each while the next one is received: two buffers, however many parts."""

        def send(number: int, part: bytearray) -> "CompletedPartTypeDef":
            digest = _sha256(part)
            with translated():
                answer = self._s3.upload_part(
                    PartNumber=number, Body=cast(bytes, part), ChecksumSHA256=digest, **target
                )
            return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": digest}

        parts: list[CompletedPartTypeDef] = []
        part, spare = first, bytearray(self._part_bytes)
        with self._beside() as beside:  # whatever happens, no part is on its way any more when this ends
            while part:
                sent = beside.submit(send, len(parts) + 1, part)
                following = _next_part(stream, spare)
                parts.append(sent.result())
                part, spare = following, part
        return parts, stream.finish()

    def _complete(
        self, target: Mapping[str, Any], parts: list["CompletedPartTypeDef"], checksum: str, size: int
    ) -> str | None:
        """Make the parts visible as one object. Raises `AlreadyThereError` when the key is taken."""
        self._refuse_taken(target["Key"])
        # An upload that is gone was completed by an attempt whose answer was lost.
        with translated(taken=TAKEN | {"NoSuchUpload"}):
            done = self._s3.complete_multipart_upload(
                MultipartUpload={"Parts": parts},
                ChecksumSHA256=checksum,
                MpuObjectSize=size,
                IfNoneMatch="*",
                **target,
            )
        return done.get("VersionId")

    def _abort(self, target: Mapping[str, Any]) -> None:
        """Throw an upload's parts away; what can't be is left to the bucket's lifecycle rule."""
        try:
            self._s3.abort_multipart_upload(**target)
        except (ClientError, BotoCoreError):
            return

    def _abort_others(self, key: str) -> None:
        """Throw away what attempts that died have left of an object that is there: it can't become visible any more."""
        with suppress(ArchiverError):  # what can't be listed is left to the daily sweep
            for upload in self._uploads(key):
                if upload["Key"] == key:
                    self._abort({"Bucket": self.bucket, "Key": key, "UploadId": upload["UploadId"], **self._owner})

    def _uploads(self, prefix: str) -> list["MultipartUploadTypeDef"]:
        """Return the uploads that are open under a prefix."""
        with translated():
            pages = self._s3.get_paginator("list_multipart_uploads")
            found = pages.paginate(Bucket=self.bucket, Prefix=prefix, **self._owner)
            return [upload for page in found for upload in page.get("Uploads", ())]

    def digest(self, key: str, version_id: str | None) -> str:
        """Re-read an object and return the lower-case hex SHA-256 of its bytes."""
        digest = hashlib.sha256()
        with self.open(key, version_id) as body:
            for block in body.iter_chunks(1024 * 1024):
                digest.update(block)
        return digest.hexdigest()

    @contextmanager
    def open(self, key: str, version_id: str | None) -> Iterator["StreamingBody"]:
        """Open an object's bytes; what goes wrong while they are read is raised as our errors, too.

        Raises `NotRestoredError` for an object in an archive tier.
        """
        with translated():
            answer = self._s3.get_object(Bucket=self.bucket, Key=key, **_version(version_id), **self._owner)
            with closing(answer["Body"]) as body:
                yield body

    def head(self, key: str, version_id: str | None = None) -> Mapping[str, Any] | None:
        """Return S3's own description of an object, checksum included; None when there is none."""
        with translated(missing_ok=True):
            return self._s3.head_object(
                Bucket=self.bucket, Key=key, ChecksumMode="ENABLED", **_version(version_id), **self._owner
            )
        return None

    def _encryption(self) -> dict[str, Any]:
        settings = self._settings
        if settings.ARCHIVE_SSE is None:
            return {}
        options: dict[str, Any] = {"ServerSideEncryption": settings.ARCHIVE_SSE}
        if settings.ARCHIVE_SSE == "aws:kms":
            options["BucketKeyEnabled"] = True
            if settings.ARCHIVE_KMS_KEY_ID:
                options["SSEKMSKeyId"] = settings.ARCHIVE_KMS_KEY_ID
        return options

    def _lock(self, started: datetime) -> _Lock:
        """Return whether retention applies and what asks for it; a date already past is left out.

        It counts from the recording's start and never ends before the bucket's default retention would.
        """
        mode, days = self._settings.ARCHIVE_OBJECT_LOCK_MODE, self._settings.ARCHIVE_RETENTION_DAYS
        if mode is None or days is None:
            return _Lock("none")
        until, now = started + timedelta(days=days), datetime.now(UTC)
        if until <= now:
            return _Lock("already past")
        asked = max(until, now + self._default_retention)
        return _Lock("applied", until, {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": asked})

    def prepare(self) -> None:
        """Learn what writes have to know of the bucket, once, so that none asks for it at a moment that counts."""
        if self._settings.ARCHIVE_OBJECT_LOCK_MODE is not None:
            _ = self._default_retention

    @cached_property
    def _default_retention(self) -> timedelta:
        """The retention that the bucket itself gives to new objects."""
        with translated(missing_ok=True):
            answer = self._s3.get_object_lock_configuration(Bucket=self.bucket, **self._owner)
            rule = answer.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
            return timedelta(days=rule.get("Days", 0) + 366 * rule.get("Years", 0))
        return timedelta(0)

    # Documents

    def read(self, key: str) -> Document | None:
        """Return a document, or None when there is none. Raises `ContentError` for what is too long to be one."""
        with translated(missing_ok=True):
            answer = self._s3.get_object(Bucket=self.bucket, Key=key, **self._owner)
            with closing(answer["Body"]) as body:
                if answer["ContentLength"] > MAX_DOCUMENT_BYTES:
                    raise ContentError("document_too_long", "the object under a document's key is no document of ours")
                return Document(key, body.read(), answer.get("VersionId"), answer["ETag"])
        return None

    def write_once(self, key: str, body: bytes, started: datetime | None = None) -> Document:
        """Write a document unless its key is taken, and return what S3 holds then: ours or the earlier one.

        With `started`, it carries the retention of the media that began then.
        """
        lock = self._lock(started).options if started else {}
        try:
            version = self._put(
                key, body, checksum=_sha256(body), ContentType="application/json", **self._encryption(), **lock
            )
        except AlreadyThereError:
            document = self.read(key)
            if document is None:
                raise TemporaryError("document_vanished", "a document was there and then was not") from None
            return document
        return Document(key, body, version, "")

    def replace(self, document: Document, body: bytes) -> bool:
        """Write a new version of a document that may change, unless somebody else has meanwhile: then False."""
        try:
            with translated(taken=TAKEN | {"NoSuchKey"}):  # S3's word when it was removed meanwhile
                self._s3.put_object(
                    Bucket=self.bucket,
                    Key=document.key,
                    Body=body,
                    ContentType="application/json",
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=_sha256(body),
                    IfMatch=document.etag,
                    **self._owner,
                    **self._encryption(),
                )
        except AlreadyThereError:
            return False
        return True

    @contextmanager
    def writing(self, key: str, content_type: str) -> Iterator[ObjectWriter]:
        """Yield a file that becomes a report when the block ends well; what was there before is replaced only then."""
        target = {"Bucket": self.bucket, "Key": key, **self._owner}
        with translated():
            writer = ObjectWriter(self._s3, target, {"ContentType": content_type, **self._encryption()})
            try:
                yield writer
                writer.commit()
            except BaseException:
                with suppress(ClientError, BotoCoreError):  # what can't be thrown away is left to the lifecycle rule
                    writer.abort()
                raise

    def remove(self, key: str) -> None:
        """Remove a document of quarantine or control; its versions stay in a versioned bucket."""
        with translated(missing_ok=True):
            self._s3.delete_object(Bucket=self.bucket, Key=key, **self._owner)

    def has_object_lock(self) -> bool:
        """Tell whether the bucket has Object Lock, without which there are no legal holds."""
        with translated(missing_ok=True):
            answer = self._s3.get_object_lock_configuration(Bucket=self.bucket, **self._owner)
            return answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"
        return False

    def set_legal_hold(self, key: str, version_id: str | None, *, on: bool) -> None:
        """Put a version of an object under a legal hold, or lift it; harmless to repeat."""
        with translated():
            self._s3.put_object_legal_hold(
                Bucket=self.bucket,
                Key=key,
                LegalHold={"Status": "ON" if on else "OFF"},
                ChecksumAlgorithm="SHA256",
                **_version(version_id),
                **self._owner,
            )

    def abort_stale_uploads(self, before: datetime) -> int:
        """Throw away the parts of our uploads that began before a moment and never ended; return how many."""
        ours = self._uploads(f"{self.prefix}recordings/account=")
        stale = [upload for upload in ours if upload["Initiated"] < before]
        for upload in stale:
            self._abort({"Bucket": self.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"], **self._owner})
        return len(stale)

    def write_empty(self, key: str) -> bool:
        """Write an empty object, whose key is all that it says; False where it is there already, which is as good.

        Raises `TemporaryError` when S3 says that it is there, and then that it is not.
        """
        try:
            self._put(key, b"", checksum=_sha256(b""), **self._encryption())
        except AlreadyThereError:
            if self.head(key) is None:
                raise TemporaryError("document_vanished", "an object was there and then was not") from None
            return False
        return True

    def listing(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Yield the keys under a prefix in order, each with the time at which it was written (UTC)."""
        for page in self.listing_pages(prefix):
            yield from page

    def listing_pages(self, prefix: str) -> Iterator[list[tuple[str, datetime]]]:
        """Yield the same a page at a time, of up to 1,000 keys: one request each."""
        with translated():
            pages = self._s3.get_paginator(s3_listing.PAGINATOR)
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix, **self._owner):
                yield s3_listing.entries(page)

    def _put(self, key: str, body: bytes | bytearray, *, checksum: str, **options: Any) -> str | None:
        """Write one object unless its key is taken. Raises `AlreadyThereError` when it is."""
        self._refuse_taken(key)
        with translated():
            answer = self._s3.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=cast(bytes, body),  # any buffer will do, which its types don't say
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=checksum,
                IfNoneMatch="*",
                **self._owner,
                **options,
            )
        return answer.get("VersionId")

    def _refuse_taken(self, key: str) -> None:
        """Look before a write with `readback`: a store without checksums may not know `If-None-Match` either."""
        if self._settings.ARCHIVE_VERIFY == "readback" and self.head(key) is not None:
            raise AlreadyThereError


def _next_part(stream: MediaStream, buffer: bytearray) -> bytearray:
    """Receive the next part into a buffer of a part's size; the last one is shorter, and nothing follows it."""
    del buffer[stream.readinto(buffer) :]
    return buffer


def _sha256(body: bytes | bytearray) -> str:
    return b64encode(hashlib.sha256(body).digest()).decode()


def composite_checksum(part_checksums: list[str]) -> str:
    """Compute S3's checksum of checksums from the parts' base64 SHA-256 digests."""
    whole = hashlib.sha256(b"".join(b64decode(checksum) for checksum in part_checksums))
    return f"{b64encode(whole.digest()).decode()}-{len(part_checksums)}"


def _version(version_id: str | None) -> dict[str, Any]:
    return {"VersionId": version_id} if version_id else {}
