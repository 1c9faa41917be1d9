"""Media in the bucket: whole or in parts, written once, and only when nothing is in doubt."""

import hashlib
import io
import threading
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
import urllib3

from deploy.local.s3_proxy import AnswerLost, ErrorStatus, Fault, Hook, S3Request, S3Response
from tests.integration.workbench import KEY, LARGE, METADATA, SMALL, Workbench, now, refusal, store, stream_of, wav_of
from workers.archive import PART_BYTES, composite_checksum
from workers.errors import ConfigurationError, ContentError, TemporaryError
from workers.media import Expected, MediaStream
from workers.twilio_api import MediaAnswer
from workers.verification import verify


def whole_and_parts(body: bytes) -> tuple[str, str]:
    """Return S3's two checksums of a body: of the whole, and of the digests of its parts."""
    parts = [hashlib.sha256(body[at : at + PART_BYTES]).digest() for at in range(0, len(body), PART_BYTES)]
    composite = b64encode(hashlib.sha256(b"".join(parts)).digest()).decode()
    return b64encode(hashlib.sha256(body).digest()).decode(), f"{composite}-{len(parts)}"


# Parts


@pytest.mark.parametrize("size", [45, PART_BYTES - 1])
def test_what_is_shorter_than_a_part_is_one_put(workbench: Workbench, size: int) -> None:
    """The object has the bytes, the content type, the metadata and S3's own SHA-256 of the whole."""
    body = wav_of(size)
    stored = store(workbench.archive, body)
    head = workbench.archive.head(KEY)
    assert head is not None
    assert workbench.bucket.body(KEY) == body
    assert workbench.operations(KEY)[:1] == ["PutObject"]
    assert head["ChecksumSHA256"] == stored.checksum == whole_and_parts(body)[0]
    assert head["ContentType"] == "audio/x-wav"
    assert head["Metadata"] == {**METADATA, "sha256": hashlib.sha256(body).hexdigest()}
    assert (stored.version_id, stored.part_bytes, stored.retention) == (head["VersionId"], None, "none")
    assert {event.headers["x-amz-checksum-mode"] for event in workbench.requests(KEY, "HeadObject")} == {"ENABLED"}
    assert (stored.media.bytes, stored.media.sha256) == (size, hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("size", [PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 2 * PART_BYTES + 1])
def test_a_whole_part_or_more_is_a_multipart_upload(workbench: Workbench, size: int) -> None:
    """Every part but the last is of part size, and S3 reports the checksum of checksums that was expected."""
    body = wav_of(size)
    stored = store(workbench.archive, body)
    head = workbench.archive.head(KEY)
    assert head is not None
    assert workbench.bucket.body(KEY) == body
    parts = [event.bytes_in for event in workbench.requests(KEY, "UploadPart")]
    assert parts == [min(PART_BYTES, size - at) for at in range(0, size, PART_BYTES)]
    numbers = [event.query["partNumber"] for event in workbench.requests(KEY, "UploadPart")]
    assert numbers == [str(number) for number in range(1, len(parts) + 1)]
    assert head["ChecksumSHA256"] == stored.checksum == whole_and_parts(body)[1]
    assert (head["ContentType"], head["Metadata"]) == ("audio/x-wav", METADATA)
    assert (stored.version_id, stored.part_bytes, stored.retention) == (head["VersionId"], PART_BYTES, "none")
    assert (stored.media.bytes, stored.media.sha256) == (size, hashlib.sha256(body).hexdigest())
    verify(workbench.archive, workbench.settings, stored)


def test_every_write_is_conditional_and_checked_by_s3(workbench: Workbench) -> None:
    """Each request that makes something visible says `If-None-Match: *`, and each body comes with its SHA-256."""
    archive = workbench.archive
    store(archive, SMALL)
    store(archive, LARGE, f"{KEY}-2")
    archive.write_once("receipts/a.json", b"{}", now())
    archive.write_empty("index/a")
    writes = [event for event in workbench.requests() if event.method in ("PUT", "POST")]
    visible = [event for event in writes if event.operation in ("PutObject", "CompleteMultipartUpload")]
    assert len(visible) == 4
    assert {event.headers.get("if-none-match") for event in visible} == {"*"}
    bodies = [event for event in writes if event.operation != "CreateMultipartUpload"]
    assert all("x-amz-checksum-sha256" in event.headers for event in bodies)
    puts = workbench.requests(operation="PutObject")
    assert {event.headers.get("x-amz-sdk-checksum-algorithm") for event in puts} == {"SHA256"}
    (created,) = workbench.requests(operation="CreateMultipartUpload")
    (completed,) = workbench.requests(operation="CompleteMultipartUpload")
    assert created.headers["x-amz-checksum-algorithm"] == "SHA256"
    assert completed.headers["x-amz-checksum-sha256"] == whole_and_parts(LARGE)[1]
    assert completed.headers["x-amz-mp-object-size"] == str(len(LARGE))


def test_no_write_asks_first_whether_its_body_is_wanted(workbench: Workbench) -> None:
    """To ask would cost each of a recording's documents a round trip more."""
    archive = workbench.archive
    store(archive, SMALL)
    store(archive, LARGE, f"{KEY}-2")
    archive.write_empty("index/a")
    archive.write_once("control/a.json", b"{}", now())
    document = archive.read("control/a.json")
    assert document is not None
    assert archive.replace(document, b"{ }")
    writes = [event for event in workbench.requests() if event.method in ("PUT", "POST")]
    assert {event.operation for event in writes} >= {"PutObject", "UploadPart", "CompleteMultipartUpload"}
    assert not any("expect" in event.headers for event in writes)


def test_composite_checksum_is_the_one_of_s3s_documentation() -> None:
    """The checksum of checksums is the SHA-256 of the parts' raw digests, and the number of parts."""
    parts = [b64encode(hashlib.sha256(part).digest()).decode() for part in (b"one", b"two")]
    raw = hashlib.sha256(hashlib.sha256(b"one").digest() + hashlib.sha256(b"two").digest()).digest()
    assert composite_checksum(parts) == f"{b64encode(raw).decode()}-2"


# Races


def at_the_same_moment(workbench: Workbench, operation: str, count: int) -> None:
    """Hold the next `count` such requests until all of them have come."""
    barrier = threading.Barrier(count)

    def meet(_request: S3Request) -> None:
        barrier.wait(20)

    workbench.proxy.inject(Hook(before=meet), operation, key_contains=KEY, times=count)


@pytest.mark.parametrize(
    ("body", "operation", "count"), [(SMALL, "PutObject", 8), (LARGE, "CompleteMultipartUpload", 3)]
)
def test_one_of_many_writers_wins_and_the_others_adopt(
    workbench: Workbench, body: bytes, operation: str, count: int
) -> None:
    """Of writers that race for one key exactly one writes, and all of them end with the same verified version."""
    at_the_same_moment(workbench, operation, count)
    archive = workbench.archive
    with ThreadPoolExecutor(count) as pool:
        stored = list(pool.map(lambda _: store(archive, body), range(count)))
    (version,) = workbench.versions(KEY)
    assert sorted(each.version_id or "" for each in stored) == [""] * (count - 1) + [version]
    assert all(each.is_new is (each.version_id == version) for each in stored)
    assert {verify(archive, workbench.settings, each).version_id for each in stored} == {version}
    assert workbench.uploads() == []


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["one part", "two parts"])
def test_an_earlier_attempt_of_ours_is_adopted(workbench: Workbench, body: bytes) -> None:
    """A second attempt leaves what is there alone, expects the same checksum of it, and uploads no parts again."""
    first = store(workbench.archive, body)
    uploaded = workbench.operations(KEY)
    second = store(workbench.archive, body)
    assert second == replace(first, version_id=None, is_new=False)
    assert verify(workbench.archive, workbench.settings, second).version_id == first.version_id
    assert len(workbench.versions(KEY)) == 1
    again = workbench.operations(KEY)[len(uploaded) :]
    assert "UploadPart" not in again
    assert again[0] == ("PutObject" if body is SMALL else "HeadObject")


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["one part", "two parts"])
def test_foreign_content_is_neither_overwritten_nor_adopted(workbench: Workbench, body: bytes) -> None:
    """What somebody else has put under the key stays, and verification refuses it."""
    workbench.overwrite(KEY, b"not ours")
    stored = store(workbench.archive, body)
    with pytest.raises(ContentError, match="archive_differs"):
        verify(workbench.archive, workbench.settings, stored)
    assert workbench.bucket.body(KEY) == b"not ours"
    assert len(workbench.versions(KEY)) == 1


def test_foreign_content_that_comes_during_the_upload_stays(workbench: Workbench) -> None:
    """A key that is taken between the look and the commit makes the upload vanish, and verification refuses it."""

    def take(_request: S3Request) -> None:
        workbench.overwrite(KEY, b"not ours")

    workbench.proxy.inject(Hook(before=take), "CompleteMultipartUpload", key_contains=KEY)
    stored = store(workbench.archive, LARGE)
    assert stored.version_id is None
    assert stored.checksum == whole_and_parts(LARGE)[1]
    assert workbench.uploads() == []
    with pytest.raises(ContentError, match="archive_differs"):
        verify(workbench.archive, workbench.settings, stored)


@pytest.mark.parametrize(
    ("body", "operation"), [(SMALL, "PutObject"), (LARGE, "CompleteMultipartUpload")], ids=["one part", "two parts"]
)
def test_a_commit_whose_answer_was_lost_is_adopted(workbench: Workbench, body: bytes, operation: str) -> None:
    """The client's own repetition finds the key taken (or the upload gone), and the object is as good as written."""
    workbench.proxy.inject(AnswerLost(), operation, key_contains=KEY)
    stored = store(workbench.archive, body)
    (version,) = workbench.versions(KEY)
    assert verify(workbench.archive, workbench.settings, stored).version_id == version


def test_an_upload_that_is_gone_at_its_commit_was_committed(workbench: Workbench) -> None:
    """Where S3 says at the repetition that there is no such upload, the first commit did it."""
    workbench.proxy.inject(AnswerLost(), "CompleteMultipartUpload", key_contains=KEY)
    workbench.proxy.inject(ErrorStatus(404, "NoSuchUpload"), "CompleteMultipartUpload", key_contains=KEY, skip=1)
    stored = store(workbench.archive, LARGE)
    (version,) = workbench.versions(KEY)
    assert verify(workbench.archive, workbench.settings, stored).version_id == version


# Doubt


class Breaking(io.BytesIO):
    """A connection that ends with an exception."""

    def __init__(self, body: bytes, error: BaseException) -> None:
        super().__init__(body)
        self._error = error

    def read1(self, size: int | None = -1, /) -> bytes:
        block = super().read1(-1 if size is None else size)
        if not block:
            raise self._error
        return block


@dataclass
class Doubt:
    """A reason to commit nothing: a stream that ends badly, or a request that S3 refuses."""

    error: type[BaseException]
    announced: int | None = None
    duration_s: int | None = None
    breaks_with: BaseException | None = None
    refused: str | None = None

    def stream(self) -> MediaStream:
        if self.breaks_with is None:
            return stream_of(LARGE, announced=self.announced, duration_s=self.duration_s)
        wire = Breaking(LARGE, self.breaks_with)
        response = urllib3.HTTPResponse(body=wire, status=200, preload_content=False)
        return MediaStream(MediaAnswer("audio/x-wav", None, response), Expected("wav", None, None, None, False))


DOUBTS = {
    "shorter than announced": Doubt(TemporaryError, announced=len(LARGE) + 1),
    "another duration": Doubt(ContentError, duration_s=1),
    "a broken connection": Doubt(TemporaryError, breaks_with=ConnectionResetError()),
    "an interruption": Doubt(KeyboardInterrupt, breaks_with=KeyboardInterrupt()),
    "a part refused": Doubt(ConfigurationError, refused="UploadPart"),
    "the commit refused": Doubt(ConfigurationError, refused="CompleteMultipartUpload"),
}


@pytest.mark.parametrize("doubt", DOUBTS.values(), ids=DOUBTS.keys())
def test_doubt_leaves_neither_object_nor_upload(workbench: Workbench, doubt: Doubt) -> None:
    """Whatever goes wrong before the commit, nothing is visible, nothing is left, and the error is passed on."""
    if doubt.refused:
        workbench.proxy.inject(refusal(carried_out=False), doubt.refused, key_contains=KEY)
    with pytest.raises(doubt.error):
        workbench.archive.store(doubt.stream(), KEY, "audio/x-wav", METADATA, now())
    assert workbench.operations(KEY)[-1] == "AbortMultipartUpload"
    assert workbench.uploads() == []
    assert workbench.versions(KEY) == []


def test_doubt_about_one_part_sends_nothing(workbench: Workbench) -> None:
    """A short body that is not complete is never sent to S3."""
    with pytest.raises(TemporaryError, match="media_interrupted"):
        workbench.archive.store(stream_of(SMALL, announced=5_000), KEY, "audio/x-wav", METADATA, now())
    assert workbench.requests(KEY) == []


def test_an_abort_that_fails_hides_no_error(workbench: Workbench) -> None:
    """When even the abort is refused, the first error is the one that is passed on."""
    workbench.proxy.inject(refusal(carried_out=False), "AbortMultipartUpload", key_contains=KEY)
    with pytest.raises(ContentError, match="duration_differs"):
        workbench.archive.store(DOUBTS["another duration"].stream(), KEY, "audio/x-wav", METADATA, now())
    assert workbench.uploads() == [KEY]


class OneAPage(Fault):
    """Let S3 list one upload a page."""

    def forward(self, request: S3Request) -> S3Request:
        return replace(request, target=f"{request.target}&max-uploads=1")


def test_stale_uploads_of_ours_are_thrown_away(workbench: Workbench) -> None:
    """Uploads of recordings under our prefix that are old enough are aborted; others are left alone."""
    client, name = workbench.bucket.client, workbench.bucket.name
    ours = [f"mine/recordings/account=AC/{number}.wav" for number in (1, 2)]
    keys = [*ours, "mine/other/3.wav", "mine/recordings/4.zip", "recordings/account=AC/5.wav"]
    for key in keys:
        client.create_multipart_upload(Bucket=name, Key=key)
    archive = workbench.under(ARCHIVE_PREFIX="mine").archive
    pages = workbench.proxy.inject(OneAPage(), "ListMultipartUploads", times=None)
    assert archive.abort_stale_uploads(now() - timedelta(hours=1)) == 0
    assert pages.hits == 2
    assert sorted(workbench.uploads()) == sorted(keys)
    assert archive.abort_stale_uploads(now() + timedelta(hours=1)) == 2
    assert sorted(workbench.uploads()) == sorted(keys[2:])
    assert archive.abort_stale_uploads(now() + timedelta(hours=1)) == 0


@pytest.mark.parametrize("is_there", [False, True], ids=["stored now", "stored before"])
def test_an_object_leaves_no_other_upload_of_its_key(workbench: Workbench, is_there: bool) -> None:
    """What dead attempts have left goes as soon as the object is there; uploads under other keys stay."""
    client, name = workbench.bucket.client, workbench.bucket.name
    if is_there:
        store(workbench.archive, LARGE)
    for key in (KEY, KEY, KEY + "x"):
        client.create_multipart_upload(Bucket=name, Key=key)
    store(workbench.archive, LARGE)
    assert workbench.uploads() == [KEY + "x"]
    assert workbench.bucket.body(KEY) == LARGE


def test_uploads_that_cannot_be_listed_are_left_to_the_sweep(workbench: Workbench) -> None:
    """A refusal to list what else is open does not keep a recording from being stored."""
    workbench.proxy.inject(refusal(carried_out=False), "ListMultipartUploads")
    stored = store(workbench.archive, LARGE)
    assert (stored.is_new, workbench.bucket.body(KEY)) == (True, LARGE)


# Stores without versions


def echoed(_request: S3Request, response: S3Response) -> S3Response:
    """Answer as a store without versions does."""
    return replace(response, headers={k: v for k, v in response.headers.items() if k != "x-amz-version-id"})


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["one part", "two parts"])
def test_a_store_without_versions_names_none(workbench: Workbench, body: bytes) -> None:
    """Where S3 gives no version there is none, and what was stored verifies nevertheless."""
    workbench.proxy.inject(Hook(after=echoed), times=None)
    stored = store(workbench.archive, body)
    assert stored.version_id is None
    assert verify(workbench.archive, workbench.settings, stored).version_id is None
    workbench.archive.write_once("receipts/a.json", b"{}")
    document = workbench.archive.read("receipts/a.json")
    assert document is not None
    assert document.version_id is None
