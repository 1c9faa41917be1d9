"""Documents in the bucket, what is read back, and how S3's refusals are told."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from deploy.local.s3_proxy import Cut, ErrorStatus, Fault, Hook, IgnoredHeaders, S3Request
from tests.integration.workbench import KEY, LARGE, SMALL, Workbench, now, store, wav_of
from workers.archive import MAX_DOCUMENT_BYTES, Archive, Document
from workers.errors import ArchiverError, ConfigurationError, ContentError, TemporaryError


def test_a_document_is_written_once(workbench: Workbench) -> None:
    """The first writer's document stands, and everybody who comes later is given it."""
    first = workbench.archive.write_once("receipts/a.json", b'{"a":1}')
    later = workbench.archive.write_once("receipts/a.json", b'{"a":2}')
    assert (first.body, first.key) == (b'{"a":1}', "receipts/a.json")
    assert (later.body, later.version_id) == (first.body, first.version_id)
    assert later == workbench.archive.read("receipts/a.json")
    assert workbench.versions("receipts/a.json") == [first.version_id]
    head = workbench.bucket.client.head_object(Bucket=workbench.bucket.name, Key="receipts/a.json")
    assert head["ContentType"] == "application/json"


def test_a_document_that_vanishes_is_tried_again(workbench: Workbench) -> None:
    """A key that is taken at the write and free at the read is no document."""
    workbench.proxy.inject(ErrorStatus(412), "PutObject", key_contains="receipts/a.json")
    with pytest.raises(TemporaryError, match=r"^document_vanished: a document was there and then was not$"):
        workbench.archive.write_once("receipts/a.json", b"{}")


def test_what_is_not_there_is_none(workbench: Workbench) -> None:
    """A missing object is no error, nor is its removal, nor an empty listing."""
    assert workbench.archive.read("receipts/a.json") is None
    assert workbench.archive.head(KEY) is None
    workbench.archive.remove("quarantine/a.json")
    workbench.proxy.inject(ErrorStatus(404, "NoSuchKey"), "DeleteObject")  # as some stores say
    workbench.archive.remove("quarantine/a.json")
    assert list(workbench.archive.listing("receipts/")) == []


def test_a_document_changes_only_for_who_has_read_the_latest(workbench: Workbench) -> None:
    """Of many who replace the same version exactly one does; who has read an old one is told so."""
    archive = workbench.archive
    archive.write_once("control/a.json", b"0")
    read = archive.read("control/a.json")
    assert read is not None
    with ThreadPoolExecutor(6) as pool:
        replaced = list(pool.map(lambda number: archive.replace(read, b"%d" % number), range(1, 7)))
    assert replaced.count(True) == 1
    current = archive.read("control/a.json")
    assert current is not None
    assert current.body == b"%d" % (replaced.index(True) + 1)
    assert archive.replace(current, b"9")
    head = workbench.bucket.client.head_object(Bucket=workbench.bucket.name, Key="control/a.json")
    assert head["ContentType"] == "application/json"
    put = workbench.requests("control/a.json", "PutObject")[-1]
    assert (put.headers["if-match"], "x-amz-checksum-sha256" in put.headers) == (current.etag, True)
    assert put.headers["x-amz-sdk-checksum-algorithm"] == "SHA256"


def test_a_document_that_was_removed_meanwhile_is_not_replaced(workbench: Workbench) -> None:
    """To S3 there is nothing then that could match: whoever wanted to replace it reads anew."""
    workbench.archive.write_once("control/a.json", b"0")
    read = workbench.archive.read("control/a.json")
    assert read is not None
    workbench.archive.remove("control/a.json")
    assert workbench.archive.replace(read, b"1") is False
    workbench.proxy.inject(ErrorStatus(404, "NoSuchKey"), "PutObject", key_contains="control/a.json")
    assert workbench.archive.replace(read, b"1") is False
    assert workbench.bucket.body("control/a.json") is None


def test_a_removed_document_is_gone_and_may_be_written_again(workbench: Workbench) -> None:
    """Quarantine and control documents come and go; their versions stay."""
    workbench.archive.write_once("quarantine/a.json", b"1")
    workbench.archive.remove("quarantine/a.json")
    assert workbench.archive.read("quarantine/a.json") is None
    assert workbench.archive.write_once("quarantine/a.json", b"2").body == b"2"
    assert len(workbench.versions("quarantine/a.json")) == 2


def test_an_empty_object_may_be_written_twice(workbench: Workbench) -> None:
    """The index says all with its keys: a second time changes nothing, and says that it is not the first."""
    assert [workbench.archive.write_empty("index/a") for _ in range(2)] == [True, False]
    assert workbench.bucket.body("index/a") == b""
    assert len(workbench.versions("index/a")) == 1


def test_an_empty_object_that_vanishes_is_tried_again(workbench: Workbench) -> None:
    """S3's word that a key is taken is not enough: without the index, nobody finds the recording's day."""
    workbench.proxy.inject(ErrorStatus(412), "PutObject", key_contains="index/a")
    with pytest.raises(TemporaryError, match=r"^document_vanished: an object was there and then was not$"):
        workbench.archive.write_empty("index/a")


class SmallPages(Fault):
    """Let S3 list two keys a page."""

    def forward(self, request: S3Request) -> S3Request:
        return replace(request, target=f"{request.target}&max-keys=2")


def test_a_listing_goes_on_to_its_end(workbench: Workbench) -> None:
    """All keys under a prefix come in order with their times, over as many pages as there are."""
    for number in range(5):
        workbench.archive.write_empty(f"index/a/{number}")
    workbench.archive.write_empty("index/b")
    pages = workbench.proxy.inject(SmallPages(), "ListObjectsV2", times=None)
    listed = list(workbench.archive.listing("index/a/"))
    assert [key for key, _ in listed] == [f"index/a/{number}" for number in range(5)]
    assert all(abs(written - now()) < timedelta(minutes=1) for _, written in listed)
    assert pages.hits == 3


# Reading again


def test_a_version_is_read_and_described_by_its_id(workbench: Workbench) -> None:
    """Without a version the current one is meant, with one that one."""
    workbench.overwrite(KEY, b"old")
    workbench.overwrite(KEY, b"newer")
    new, old = workbench.versions(KEY)
    archive = workbench.archive
    assert archive.digest(KEY, None) == archive.digest(KEY, new) == hashlib.sha256(b"newer").hexdigest()
    assert archive.digest(KEY, old) == hashlib.sha256(b"old").hexdigest()
    described = [archive.head(KEY, version) for version in (None, new, old)]
    assert [head and head["ContentLength"] for head in described] == [5, 5, 3]


def test_a_long_object_is_read_to_its_end(workbench: Workbench) -> None:
    """The digest is that of all bytes, and a body that ends early is an error."""
    workbench.overwrite(KEY, LARGE)
    assert workbench.archive.digest(KEY, None) == hashlib.sha256(LARGE).hexdigest()
    workbench.proxy.inject(Cut(-1), key_contains=KEY)
    with pytest.raises(TemporaryError, match="s3_unreachable"):
        workbench.archive.digest(KEY, None)


def test_a_store_without_conditions_is_looked_at_before_each_write(workbench: Workbench) -> None:
    """With `readback` nothing is overwritten even where the store ignores `If-None-Match`."""
    workbench.proxy.inject(IgnoredHeaders({"if-none-match"}), times=None)
    bench = workbench.under(ARCHIVE_VERIFY="readback")
    assert store(bench.archive, SMALL).version_id is not None
    assert store(bench.archive, wav_of(5_000)).version_id is None
    assert bench.archive.write_once("receipts/a.json", b"1").body == b"1"
    assert bench.archive.write_once("receipts/a.json", b"2").body == b"1"
    assert workbench.bucket.body(KEY) == SMALL
    assert len(workbench.versions("receipts/a.json")) == 1


def test_a_store_without_conditions_is_looked_at_before_a_commit(workbench: Workbench) -> None:
    """With `readback` a key that is taken while the parts are sent is not overwritten by their commit."""
    workbench.proxy.inject(IgnoredHeaders({"if-none-match"}), times=None)
    bench = workbench.under(ARCHIVE_VERIFY="readback")

    def take(_request: S3Request) -> None:
        workbench.overwrite(KEY, LARGE)

    workbench.proxy.inject(Hook(before=take), "UploadPart", key_contains=KEY)
    stored = store(bench.archive, LARGE)
    assert stored.version_id is None
    assert len(workbench.versions(KEY)) == 1
    assert workbench.uploads() == []


def test_what_is_too_long_for_a_document_is_not_read(workbench: Workbench) -> None:
    """A foreign object under a document's key takes no memory, however long it is."""
    key = "receipts/a.json"
    workbench.overwrite(key, b" " * MAX_DOCUMENT_BYTES)
    document = workbench.archive.read(key)
    assert document is not None
    assert len(document.body) == MAX_DOCUMENT_BYTES
    workbench.overwrite(key, b" " * (MAX_DOCUMENT_BYTES + 1))
    for act in (lambda: workbench.archive.read(key), lambda: workbench.archive.write_once(key, b"{}")):
        with pytest.raises(ContentError, match="document_too_long"):
            act()
    assert workbench.requests(key, "GetObject")[-1].bytes_out < MAX_DOCUMENT_BYTES


# Errors


ASKED: list[tuple[str, Callable[[Archive], object]]] = [
    ("PutObject", lambda archive: store(archive, SMALL)),
    ("PutObject", lambda archive: archive.write_once(KEY, b"{}")),
    ("PutObject", lambda archive: archive.write_empty(KEY)),
    ("PutObject", lambda archive: archive.replace(Document(KEY, b"{}", None, '"etag"'), b"[]")),
    ("GetObject", lambda archive: archive.read(KEY)),
    ("GetObject", lambda archive: archive.digest(KEY, None)),
    ("HeadObject", lambda archive: archive.head(KEY)),
    ("DeleteObject", lambda archive: archive.remove(KEY)),
    ("ListObjectsV2", lambda archive: list(archive.listing(KEY))),
    ("ListMultipartUploads", lambda archive: archive.abort_stale_uploads(now())),
    ("CreateMultipartUpload", lambda archive: store(archive, LARGE)),
]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (ErrorStatus(403), ConfigurationError),
        (ErrorStatus(400, "BadDigest"), TemporaryError),
        (ErrorStatus(409), TemporaryError),
    ],
)
def test_refusals_become_our_errors(workbench: Workbench, fault: ErrorStatus, error: type[ArchiverError]) -> None:
    """Whatever is asked of S3, a refusal says what the caller must do, and nothing of the request."""
    for operation, act in ASKED:
        if operation == "HeadObject" and fault.code:
            continue  # the answer to a HEAD has no body, so no code
        injection = workbench.proxy.inject(fault, operation, times=None)
        with pytest.raises(ArchiverError) as caught:
            act(workbench.archive)
        injection.remove()
        assert type(caught.value) is error
        assert operation in caught.value.detail
        assert workbench.bucket.name not in str(caught.value)


def test_a_bucket_that_does_not_exist_is_no_missing_document(workbench: Workbench) -> None:
    """A missing bucket must not look like a recording without a receipt."""
    archive = workbench.under(ARCHIVE_BUCKET=f"{workbench.bucket.name}-2").archive
    with pytest.raises(ConfigurationError):
        archive.read("receipts/a.json")


def test_patience_with_s3_is_bounded(workbench: Workbench) -> None:
    """The client gives up within a task's time, and has connections for all threads of a worker."""
    config = workbench.under(CELERY_CONCURRENCY="7").archive.client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (5, 20.0)
    assert config.retries["mode"] == "standard"
    assert config.retries["total_max_attempts"] == 3
    assert (config.max_pool_connections, config.tcp_keepalive) == (14, True)


def test_an_s3_that_is_away_is_temporary(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listening is an error that passes."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    archive = workbench.under().archive
    with pytest.raises(TemporaryError, match="s3_unreachable"):
        archive.read("receipts/a.json")
