"""Every fault of the S3 proxy is what a client sees and S3 does not, meets what it was meant for, and ends."""

from __future__ import annotations

import base64
import hashlib
import http.client
import itertools
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from deploy.local.processes import reserve_port, wait_until
from deploy.local.s3_proxy import (
    AnswerLost,
    Cut,
    Delay,
    DropError,
    ErrorStatus,
    Event,
    Fault,
    FlipBit,
    Headers,
    Hook,
    IgnoredHeaders,
    Reset,
    S3Proxy,
    S3Request,
    S3Response,
    Stall,
    WithoutChecksums,
    WrongChecksum,
)
from deploy.local.servers import S3Server
from deploy.local.twilio import Simulator

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEY = "recordings/RE one.wav"
BODY = bytes(range(256)) * 400
SHA256 = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
# The S3 server knows the key and checks no signature.
AUTHORIZATION = (
    f"Authorization: AWS4-HMAC-SHA256 Credential={S3Server.access_key_id}/20261122/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
)
BROKEN = (ConnectionClosedError, HTTPClientError)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    with S3Proxy(s3_server.endpoint_url) as running:
        yield running


@contextmanager
def client_of(proxy: S3Proxy, **options: Any) -> Iterator[S3Client]:
    """Yield a client that tries once and has little patience."""
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=2, **{"read_timeout": 5, **options})
    client = boto3.client(
        "s3",
        endpoint_url=proxy.url,
        region_name=S3Server.region,
        aws_access_key_id=S3Server.access_key_id,
        aws_secret_access_key=S3Server.secret_access_key,
        config=config,
    )
    yield client
    client.close()


@pytest.fixture
def s3(proxy: S3Proxy) -> Iterator[S3Client]:
    """Return a client of the proxy."""
    with client_of(proxy) as client:
        yield client


@pytest.fixture
def direct(s3_server: S3Server) -> Iterator[S3Client]:
    """Return a client of the S3 server itself: what is really there."""
    client = s3_server.client()
    yield client
    client.close()


def put(s3: S3Client, bucket: str, key: str = KEY, body: bytes = BODY, **options: Any) -> Any:
    return s3.put_object(Bucket=bucket, Key=key, Body=body, ChecksumAlgorithm="SHA256", **options)


def keys(direct: S3Client, bucket: str) -> list[str]:
    return [item["Key"] for item in direct.list_objects_v2(Bucket=bucket).get("Contents", ())]


def operations(proxy: S3Proxy) -> list[tuple[str, int | None]]:
    return [(event.operation, event.status) for event in proxy.timeline]


def raw_connection(proxy: S3Proxy) -> socket.socket:
    host, port = proxy.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def raw_head(method: str, target: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", AUTHORIZATION, *headers, "", ""]).encode()


def raw_put(bucket: str, body: bytes = BODY, promised: int | None = None, key: str = "raw") -> bytes:
    return raw_head("PUT", f"/{bucket}/{key}", f"Content-Length: {len(body) if promised is None else promised}") + body


def read_to_the_end(connection: socket.socket) -> bytes:
    """Return all bytes that come until the connection ends. Raises ConnectionResetError."""
    answer = b""
    while block := connection.recv(65536):
        answer += block
    return answer


class Multipart:
    """An upload of two parts, step by step."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self.s3 = s3
        self.at: Any = {"Bucket": bucket, "Key": KEY}
        self.bodies = (bytes(5 << 20), BODY)
        self.parts: list[Any] = []

    def create(self) -> None:
        created = self.s3.create_multipart_upload(Bucket=self.at["Bucket"], Key=KEY, ChecksumAlgorithm="SHA256")
        self.at["UploadId"] = created["UploadId"]

    def upload(self) -> None:
        for number, body in enumerate(self.bodies, 1):
            part = self.s3.upload_part(PartNumber=number, Body=body, ChecksumAlgorithm="SHA256", **self.at)
            self.parts.append({"PartNumber": number, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]})

    def complete(self) -> Any:
        return self.s3.complete_multipart_upload(MultipartUpload={"Parts": self.parts}, IfNoneMatch="*", **self.at)


# Without a fault


def test_nothing_is_changed(proxy: S3Proxy, s3: S3Client, direct: S3Client, make_bucket: Callable[..., str]) -> None:
    """Objects go through in both directions byte for byte, and every operation has S3's name for it."""
    bucket = make_bucket(object_lock=True)
    put(s3, bucket, Metadata={"sha256": "x"}, IfNoneMatch="*")
    head = s3.head_object(Bucket=bucket, Key=KEY, ChecksumMode="ENABLED")
    assert (head["ContentLength"], head["ChecksumSHA256"], head["Metadata"]) == (len(BODY), SHA256, {"sha256": "x"})
    assert s3.get_object(Bucket=bucket, Key=KEY)["Body"].read() == BODY
    assert keys(s3, bucket) == keys(direct, bucket) == [KEY]
    s3.put_object_legal_hold(Bucket=bucket, Key=KEY, LegalHold={"Status": "OFF"})
    s3.delete_object(Bucket=bucket, Key=KEY)
    assert operations(proxy) == [
        ("PutObject", 200),
        ("HeadObject", 200),
        ("GetObject", 200),
        ("ListObjectsV2", 200),
        ("PutObjectLegalHold", 200),
        ("DeleteObject", 204),
    ]


def test_multipart_uploads_pass(proxy: S3Proxy, s3: S3Client, direct: S3Client, bucket: str) -> None:
    """So do uploads in parts, completed or aborted."""
    upload = Multipart(s3, bucket)
    upload.create()
    upload.upload()
    upload.complete()
    assert direct.get_object(Bucket=bucket, Key=KEY)["Body"].read() == b"".join(upload.bodies)
    upload.create()
    s3.abort_multipart_upload(**upload.at)
    assert operations(proxy) == [
        ("CreateMultipartUpload", 200),
        ("UploadPart", 200),
        ("UploadPart", 200),
        ("CompleteMultipartUpload", 200),
        ("CreateMultipartUpload", 200),
        ("AbortMultipartUpload", 204),
    ]
    assert [event.query.get("partNumber") for event in proxy.timeline[1:3]] == ["1", "2"]


@pytest.mark.parametrize(
    ("method", "target", "headers", "operation"),
    [
        ("GET", "/", {}, "ListBuckets"),
        ("PUT", "/b", {}, "CreateBucket"),
        ("PUT", "/b/", {}, "CreateBucket"),
        ("HEAD", "/b", {}, "HeadBucket"),
        ("GET", "/b", {}, "ListObjects"),
        ("GET", "/b?list-type=2&prefix=a%2F", {}, "ListObjectsV2"),
        ("GET", "/b?versions", {}, "ListObjectVersions"),
        ("GET", "/b?uploads", {}, "ListMultipartUploads"),
        ("GET", "/b?object-lock", {}, "GetObjectLockConfiguration"),
        ("GET", "/b?lifecycle", {}, "GetBucketLifecycleConfiguration"),
        ("POST", "/b?delete", {}, "DeleteObjects"),
        ("PUT", "/b/k", {}, "PutObject"),
        ("PUT", "/b/k/", {}, "PutObject"),
        ("PUT", "/b/k", {"x-amz-copy-source": "b/other"}, "CopyObject"),
        ("PUT", "/b/k?partNumber=3&uploadId=u", {}, "UploadPart"),
        ("PUT", "/b/k?partNumber=3&uploadId=u", {"x-amz-copy-source": "b/other"}, "UploadPartCopy"),
        ("PUT", "/b/k?retention", {}, "PutObjectRetention"),
        ("POST", "/b/k?uploads", {}, "CreateMultipartUpload"),
        ("POST", "/b/k?uploadId=u", {}, "CompleteMultipartUpload"),
        ("DELETE", "/b/k?uploadId=u", {}, "AbortMultipartUpload"),
        ("DELETE", "/b/k?versionId=v", {}, "DeleteObject"),
        ("GET", "/b/k?uploadId=u", {}, "ListParts"),
        ("GET", "/b/k?versionId=v", {}, "GetObject"),
        ("GET", "/b/k?attributes", {"x-amz-object-attributes": "Checksum"}, "GetObjectAttributes"),
        ("HEAD", "/b/k", {}, "HeadObject"),
        ("POST", "/b/k", {}, "Unknown"),
    ],
)
def test_operations_are_recognised(method: str, target: str, headers: dict[str, str], operation: str) -> None:
    """The operation follows from method, path, query and headers."""
    assert S3Request.parse(1, method, target, headers).operation == operation


def test_keys_are_unquoted() -> None:
    """Bucket, key and part are read from the target."""
    request = S3Request.parse(1, "PUT", "/b/a%20b/c%2Bd?partNumber=3&uploadId=u", {})
    assert (request.bucket, request.key, request.part_number) == ("b", "a b/c+d", 3)


class Recorder(BaseHTTPRequestHandler):
    """An S3 that keeps nothing: it writes down what it is sent and serves as many bytes as the key says."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, list[tuple[str, str]], int]]

    def do_GET(self) -> None:
        received = 0
        while received < int(self.headers.get("Content-Length", 0)):
            received += len(self.rfile.read1(65536))
        self.seen.append((self.command, self.path, self.headers.items(), received))
        length = int(self.path.rpartition("/")[2]) if self.command == "GET" else 0
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        for _ in range(length // 65536):
            self.wfile.write(bytes(65536))

    do_PUT = do_GET  # noqa: N815 (http.server's name)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def recorder() -> Iterator[tuple[str, type[Recorder]]]:
    handler = type("Handler", (Recorder,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
        server.shutdown()
        thread.join()


def test_s3_gets_what_was_signed() -> None:
    """Target, Host and every header but those of the connection arrive as the client wrote them."""
    headers = {
        "Host": "signed.example:1234",
        "Authorization": "AWS4-HMAC-SHA256 Signature=x",
        "X-Amz-Meta-Note": "a  b",
        "If-None-Match": "*",
        "Expect": "100-continue",
    }
    with recorder() as (url, handler), S3Proxy(url) as proxy, raw_connection(proxy) as connection:
        target = "/b/a%20b%2Bc~?partNumber=1&x=%2F&uploadId=u"
        lines = [f"PUT {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        connection.sendall("\r\n".join([*lines, "Content-Length: 3", "Connection: close", "", ""]).encode())
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert read_to_the_end(connection).startswith(b"HTTP/1.1 200 OK\r\n")
        [(method, path, received, body_bytes)] = handler.seen
        assert (method, path, body_bytes) == ("PUT", target, 3)
        expected = {name.lower(): value for name, value in headers.items() if name != "Expect"}
        assert {name.lower(): value for name, value in received} == {**expected, "content-length": "3"}
        assert "authorization" not in proxy.timeline[0].headers


def test_memory_is_bounded() -> None:
    """Bodies pass in blocks, in both directions: 64 MiB take a few MiB."""
    size = 64 << 20
    with recorder() as (url, _), S3Proxy(url) as proxy:
        connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=30)
        block = bytes(65536)
        tracemalloc.start()
        try:
            body = (block for _ in range(size // len(block)))
            connection.request("PUT", "/b/k", body, {"Content-Length": str(size)})
            connection.getresponse().read()
            connection.request("GET", f"/b/{size}")
            answer = connection.getresponse()
            while answer.read(65536):
                pass
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            connection.close()
        assert [(event.bytes_in, event.bytes_out) for event in proxy.timeline] == [(size, 0), (0, size)]
    assert peak < 6 << 20


def test_chunked_uploads_pass(proxy: S3Proxy, direct: S3Client, bucket: str) -> None:
    """A body that comes in chunks arrives whole, and the connection serves the next request."""
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=5)
    for body in ([b"first ", b"second"], [b""], [BODY, BODY]):
        name, _, value = AUTHORIZATION.partition(": ")
        connection.request("PUT", f"/{bucket}/chunks", iter(body), {name: value}, encode_chunked=True)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        assert direct.get_object(Bucket=bucket, Key="chunks")["Body"].read() == b"".join(body)
    connection.close()
    assert [event.bytes_in for event in proxy.timeline] == [12, 0, 2 * len(BODY)]


def test_an_upload_that_breaks_off_is_not_stored(proxy: S3Proxy, direct: S3Client, bucket: str) -> None:
    """When the client dies in the middle of a body, S3 does not take half of it for the whole."""
    with raw_connection(proxy) as connection:
        connection.sendall(raw_put(bucket, BODY[:1000], promised=len(BODY)))
    [event] = wait_until(lambda: proxy.timeline, timeout_s=20, what="end of the request")
    assert (event.status, event.s3_status, event.bytes_in) == (None, None, 1000)
    assert keys(direct, bucket) == []


def test_an_s3_that_is_gone_breaks_the_connection() -> None:
    """When nobody listens behind the proxy, the client's connection is closed without an answer."""
    with reserve_port() as port, S3Proxy(f"http://127.0.0.1:{port}") as proxy, client_of(proxy) as s3:
        with pytest.raises(ConnectionClosedError):
            put(s3, "bucket")
        assert operations(proxy) == [("PutObject", None)]


# The timeline


def test_the_timeline_tells_what_was_asked(proxy: S3Proxy, s3: S3Client, make_bucket: Callable[..., str]) -> None:
    """It holds condition, checksum, lock, encryption and metadata of a request, its sizes and when it was."""
    bucket = make_bucket(object_lock=True)
    before = datetime.now(UTC)
    put(
        s3,
        bucket,
        IfNoneMatch="*",
        ServerSideEncryption="AES256",
        ObjectLockLegalHoldStatus="OFF",
        Metadata={"recording-sid": "RE1"},
    )
    [event] = proxy.timeline
    asked = {
        "if-none-match": "*",
        "x-amz-checksum-sha256": SHA256,
        "x-amz-server-side-encryption": "AES256",
        "x-amz-object-lock-legal-hold": "OFF",
        "x-amz-meta-recording-sid": "RE1",
    }
    assert asked.items() <= event.headers.items()
    assert "authorization" not in event.headers
    assert (event.bucket, event.key, event.bytes_in, event.bytes_out) == (bucket, KEY, len(BODY), 0)
    assert (event.status, event.s3_status, event.faults) == (200, 200, ())
    assert before <= event.arrived <= event.time <= datetime.now(UTC)
    assert event.done_sequence is not None
    assert event.sequence < event.done_sequence < event.finished_sequence


def test_two_sides_may_share_one_order(s3_server: S3Server, bucket: str) -> None:
    """With shared numbers, what S3 has answered comes before what Twilio is asked afterwards."""
    numbers = itertools.count(1)
    with S3Proxy(s3_server.endpoint_url, numbers=numbers) as proxy, Simulator(numbers=numbers) as simulator:
        with client_of(proxy) as s3:
            put(s3, bucket)
        requests.get(f"{simulator.url}/_simulator/recordings", timeout=5)
        with client_of(proxy) as s3:
            put(s3, bucket)
        first, last = proxy.timeline
        [between] = simulator.timeline
        order = [first.sequence, first.finished_sequence, between.sequence, between.finished_sequence, last.sequence]
    assert order == sorted(order)


def test_the_timeline_holds_no_credential(proxy: S3Proxy, s3: S3Client, bucket: str) -> None:
    """Nor does it where the credentials are part of the address."""
    address = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": KEY})
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=5)
    connection.request("GET", address.removeprefix(proxy.url), headers={"X-Amz-Security-Token": "session"})
    connection.getresponse().read()
    connection.close()
    [event] = proxy.timeline
    assert event.operation == "GetObject"
    kept = repr((event.query, event.headers))
    assert not any(secret in kept for secret in ("Signature", "Expires=", "session", S3Server.access_key_id))


def test_the_timeline_is_complete_when_the_answer_is(proxy: S3Proxy, s3: S3Client, bucket: str) -> None:
    """Whoever has an answer finds it in the timeline, in an order that tells what came first."""
    for number in range(30):
        put(s3, bucket, key=str(number))
        assert proxy.timeline[-1].key == str(number)
    assert all(a.finished_sequence < b.sequence for a, b in zip(proxy.timeline, proxy.timeline[1:], strict=False))


# Errors in S3's place


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "BadDigest"),
        (403, "AccessDenied"),
        (404, "NoSuchBucket"),
        (409, "ConditionalRequestConflict"),
        (412, "PreconditionFailed"),
        (500, "InternalError"),
        (503, "SlowDown"),
    ],
)
def test_errors(proxy: S3Proxy, s3: S3Client, direct: S3Client, bucket: str, status: int, code: str) -> None:
    """A status comes with S3's code, nothing is stored, and the next request is carried out."""
    proxy.inject(ErrorStatus(status), "PutObject")
    with pytest.raises(ClientError) as caught:
        put(s3, bucket)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert keys(direct, bucket) == []
    put(s3, bucket)
    assert [(event.status, event.s3_status, event.faults) for event in proxy.timeline] == [
        (status, None, ("ErrorStatus",)),
        (200, 200, ()),
    ]


def test_the_code_can_be_chosen(proxy: S3Proxy, s3: S3Client, bucket: str) -> None:
    """Any code, and Retry-After."""
    proxy.inject(ErrorStatus(400, "RequestTimeout", retry_after=7))
    with pytest.raises(ClientError) as caught:
        put(s3, bucket)
    assert caught.value.response["Error"]["Code"] == "RequestTimeout"
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "7"


def test_head_has_no_error_page(proxy: S3Proxy, s3: S3Client, bucket: str) -> None:
    """The answer to HEAD has no body, so its status is all that a client learns."""
    proxy.inject(ErrorStatus(403), "HeadObject")
    with pytest.raises(ClientError) as caught:
        s3.head_object(Bucket=bucket, Key=KEY)
    assert caught.value.response["Error"]["Code"] == "403"
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=bucket, Key=KEY)


def test_complete_may_fail_with_200(proxy: S3Proxy, s3: S3Client, direct: S3Client, bucket: str) -> None:
    """CompleteMultipartUpload answers 200 with an error in its body, as S3 documents."""
    upload = Multipart(s3, bucket)
    upload.create()
    upload.upload()
    proxy.inject(ErrorStatus(200, "InternalError"), "CompleteMultipartUpload")
    with pytest.raises(ClientError, match="InternalError"):
        upload.complete()
    assert keys(direct, bucket) == []
    upload.complete()
    assert keys(direct, bucket) == [KEY]


# Which requests


def test_a_fault_meets_what_it_is_for(proxy: S3Proxy, s3: S3Client, bucket: str) -> None:
    """Operation and key narrow it down; others pass and don't count."""
    fault = proxy.inject(ErrorStatus(), "PutObject", key_contains="receipts/", times=None)
    put(s3, bucket, key="recordings/1")
    with pytest.raises(ClientError):
        s3.get_object(Bucket=bucket, Key="receipts/1")
    for _ in range(2):
        with pytest.raises(ClientError, match="InternalError"):
            put(s3, bucket, key="receipts/1")
    assert (fault.seen, fault.hits) == (2, 2)
    fault.remove()
    put(s3, bucket, key="receipts/1")
    assert fault.hits == 2


def test_a_fault_may_skip(proxy: S3Proxy, s3: S3Client, bucket: str) -> None:
    """It meets the third and the fourth request where two are skipped."""
    proxy.inject(ErrorStatus(503), "UploadPart", skip=2, times=2)
    upload = Multipart(s3, bucket)
    upload.create()
    upload.upload()
    for _ in range(2):
        with pytest.raises(ClientError, match="SlowDown"):
            upload.upload()
    upload.upload()


def test_a_fault_may_be_a_matter_of_chance(proxy: S3Proxy, s3: S3Client, bucket: str) -> None:
    """What is asked about each request decides; a request that it lets pass does not count as a hit."""
    answers = iter([False, True, False])
    fault = proxy.inject(ErrorStatus(), "PutObject", times=None, when=lambda: next(answers))
    put(s3, bucket)
    with pytest.raises(ClientError, match="InternalError"):
        put(s3, bucket)
    put(s3, bucket)
    assert (fault.seen, fault.hits) == (3, 1)


def test_faults_add_up(proxy: S3Proxy, s3: S3Client, direct: S3Client, bucket: str) -> None:
    """Several faults meet one request in the order of their injection."""
    put(direct, bucket)
    proxy.inject(Headers({"x-amz-storage-class": "GLACIER", "ETag": None}))
    proxy.inject(WithoutChecksums())
    head = s3.head_object(Bucket=bucket, Key=KEY, ChecksumMode="ENABLED")
    assert head["StorageClass"] == "GLACIER"
    assert "ETag" not in head
    assert "ChecksumSHA256" not in head
    assert proxy.timeline[-1].faults == ("Headers", "WithoutChecksums")


def test_clear_faults_removes_all(proxy: S3Proxy, s3: S3Client, bucket: str) -> None:
    """Afterwards everything passes."""
    proxy.inject(ErrorStatus(), times=None)
    proxy.clear_faults()
    put(s3, bucket)


def test_operations_are_spelled_right(proxy: S3Proxy) -> None:
    """A fault for an operation that S3 does not know would never meet anything: it is refused."""
    with pytest.raises(ValueError, match="PutObjekt"):
        proxy.inject(ErrorStatus(), "PutObjekt")


def test_one_fault_meets_one_of_many(proxy: S3Proxy, bucket: str) -> None:
    """Of sixteen simultaneous requests exactly one meets a fault that is injected once."""
    fault = proxy.inject(ErrorStatus(500), "PutObject")
    barrier = threading.Barrier(16)

    def ask(number: int) -> int:
        barrier.wait()
        with raw_connection(proxy) as connection:
            connection.sendall(raw_put(bucket, key=str(number)))
            return int(connection.recv(65536).split()[1])

    with ThreadPoolExecutor(16) as pool:
        statuses = sorted(pool.map(ask, range(16)))
    assert statuses == [200] * 15 + [500]
    assert fault.hits == 1
    assert len({event.sequence for event in proxy.timeline}) == 16


# Time


@pytest.mark.parametrize("carried_out", [False, True])
def test_a_stall_is_a_timeout(proxy: S3Proxy, direct: S3Client, bucket: str, carried_out: bool) -> None:
    """The client waits in vain; S3 has carried the request out, or has not."""
    stall = proxy.inject(Stall(carried_out=carried_out), "PutObject")
    with client_of(proxy, read_timeout=0.2) as s3, pytest.raises(ReadTimeoutError):
        put(s3, bucket)
    assert stall.hits == 1
    assert keys(direct, bucket) == ([KEY] if carried_out else [])
    stall.release()
    [event] = wait_until(lambda: proxy.timeline, timeout_s=20, what="end of the request")
    assert (event.s3_status, event.bytes_in) == (200 if carried_out else None, len(BODY))
    assert keys(direct, bucket) == ([KEY] if carried_out else [])


@pytest.mark.parametrize(("carried_out", "status"), [(False, 503), (True, 200)])
def test_a_stall_ends_when_released(proxy: S3Proxy, bucket: str, carried_out: bool, status: int) -> None:
    """Who has waited gets the late answer, or 503 where nothing was carried out."""
    stall = proxy.inject(Stall(carried_out=carried_out))
    with raw_connection(proxy) as connection:
        connection.sendall(raw_put(bucket))
        wait_until(lambda: stall.hits, timeout_s=20, what="the stall")
        assert proxy.timeline == []
        stall.release()
        assert connection.recv(12) == f"HTTP/1.1 {status}".encode()


def test_a_stall_may_end_by_itself(proxy: S3Proxy, s3: S3Client, bucket: str) -> None:
    """After some seconds the answer comes."""
    proxy.inject(Stall(carried_out=True, seconds=0.2), "PutObject")
    began = time.monotonic()
    put(s3, bucket)
    assert time.monotonic() - began >= 0.2


def test_a_delay_goes_on(proxy: S3Proxy, s3: S3Client, bucket: str) -> None:
    """After its seconds the request is carried out."""
    proxy.inject(Delay(0.1), "PutObject")
    started = time.monotonic()
    put(s3, bucket)
    assert time.monotonic() - started >= 0.1
    [event] = proxy.timeline
    assert event.time - event.arrived >= timedelta(seconds=0.1)


def test_a_delay_reads_nothing(proxy: S3Proxy, direct: S3Client, bucket: str) -> None:
    """Without seconds it lasts until released, and the body waits at the client, which may run into its timeout."""
    delay = proxy.inject(Delay())
    with raw_connection(proxy) as connection:
        connection.settimeout(0.2)
        body = bytes(32 << 20)
        with pytest.raises(TimeoutError):
            connection.sendall(raw_put(bucket, body))
    delay.release()
    [event] = wait_until(lambda: proxy.timeline, timeout_s=20, what="end of the request")
    assert event.status is None
    assert event.bytes_in < len(body)
    assert keys(direct, bucket) == []


def test_closing_lets_everything_go(s3_server: S3Server, bucket: str) -> None:
    """The end of the block ends whatever is held up, at once, and leaves no thread behind."""
    threads = threading.active_count()
    with ThreadPoolExecutor(3) as pool:
        started = time.monotonic()
        with S3Proxy(s3_server.endpoint_url) as proxy:
            stalls = [proxy.inject(fault) for fault in (Stall(), Stall(carried_out=True), Delay())]

            def ask() -> bytes:
                with raw_connection(proxy) as connection:
                    connection.sendall(raw_put(bucket))
                    return connection.recv(1)

            for stall in stalls:
                pool.submit(ask)
                wait_until(partial(getattr, stall, "hits"), timeout_s=20, what="the stall")
        assert time.monotonic() - started < 4
    wait_until(lambda: threading.active_count() <= threads, timeout_s=20, what="end of the threads")


# Broken connections


@pytest.mark.parametrize("after_body", [False, True])
def test_a_reset(proxy: S3Proxy, s3: S3Client, direct: S3Client, bucket: str, after_body: bool) -> None:
    """The connection is reset before or after the body, and nothing is carried out."""
    proxy.inject(Reset(after_body=after_body), times=2)
    with raw_connection(proxy) as connection, suppress(BrokenPipeError):
        connection.sendall(raw_put(bucket))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(BROKEN):
        put(s3, bucket)
    assert keys(direct, bucket) == []
    assert [(event.status, event.s3_status) for event in proxy.timeline] == [(None, None)] * 2
    assert [event.bytes_in for event in proxy.timeline] == [len(BODY) * after_body] * 2


LOST: dict[str, Callable[[Multipart], object]] = {
    "CreateMultipartUpload": lambda upload: upload.create(),
    "UploadPart": lambda upload: upload.upload(),
    "CompleteMultipartUpload": lambda upload: upload.complete(),
}


@pytest.mark.parametrize("operation", LOST)
def test_the_answers_of_a_multipart_upload_are_lost(
    proxy: S3Proxy, s3: S3Client, direct: S3Client, bucket: str, operation: str
) -> None:
    """The step was carried out, and the client sees a closed connection."""
    proxy.inject(AnswerLost(), operation)
    upload = Multipart(s3, bucket)
    for name, step in LOST.items():
        if name == operation:
            with pytest.raises(ConnectionClosedError):
                step(upload)
            break
        step(upload)
    last = proxy.timeline[-1]
    assert (last.operation, last.status, last.s3_status, last.faults) == (operation, None, 200, ("AnswerLost",))
    assert keys(direct, bucket) == ([KEY] if operation == "CompleteMultipartUpload" else [])
    uploads = direct.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert len(uploads) == (operation != "CompleteMultipartUpload")


def test_the_answers_of_single_requests_are_lost(proxy: S3Proxy, s3: S3Client, direct: S3Client, bucket: str) -> None:
    """The same for PutObject, HeadObject, GetObject, ListObjectsV2 and DeleteObject."""
    fault = proxy.inject(AnswerLost(), times=None)
    with pytest.raises(ConnectionClosedError):
        put(s3, bucket)
    assert keys(direct, bucket) == [KEY]
    for ask in (s3.head_object, s3.get_object, s3.delete_object):
        with pytest.raises(ConnectionClosedError):
            ask(Bucket=bucket, Key=KEY)
    with pytest.raises(ConnectionClosedError):
        keys(s3, bucket)
    assert keys(direct, bucket) == []
    assert fault.hits == 5
    assert all(event.status is None and event.s3_status for event in proxy.timeline)


def test_an_answer_may_be_lost_by_a_reset(proxy: S3Proxy, direct: S3Client, bucket: str) -> None:
    """With `reset` the client sees just that."""
    proxy.inject(AnswerLost(reset=True))
    with raw_connection(proxy) as connection:
        connection.sendall(raw_put(bucket))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert keys(direct, bucket) == ["raw"]


# Answers that are not S3's


@pytest.mark.parametrize("fault", [WrongChecksum(), WithoutChecksums()])
def test_checksums_of_answers(proxy: S3Proxy, s3: S3Client, bucket: str, fault: Fault) -> None:
    """PutObject, HeadObject and GetObject answer with another checksum of the same form, or with none."""
    proxy.inject(fault, times=None)
    wrong = isinstance(fault, WrongChecksum)
    stored = put(s3, bucket)
    seen = s3.head_object(Bucket=bucket, Key=KEY, ChecksumMode="ENABLED")
    for answer in (stored, seen):
        checksum = answer.get("ChecksumSHA256")
        assert (checksum is not None) == wrong
        assert checksum != SHA256
        assert checksum is None or len(base64.b64decode(checksum, validate=True)) == 32
    got = s3.get_object(Bucket=bucket, Key=KEY)["Body"]
    if wrong:
        with pytest.raises(FlexibleChecksumError):
            got.read()
    else:
        assert got.read() == BODY


@pytest.mark.parametrize("fault", [WrongChecksum(), WithoutChecksums()])
def test_checksums_of_multipart_answers(proxy: S3Proxy, s3: S3Client, bucket: str, fault: Fault) -> None:
    """The answer to CompleteMultipartUpload has its checksum in XML: that one too."""
    upload = Multipart(s3, bucket)
    upload.create()
    upload.upload()
    proxy.inject(fault, "CompleteMultipartUpload")
    told = upload.complete().get("ChecksumSHA256")
    truth = s3.head_object(Bucket=bucket, Key=KEY, ChecksumMode="ENABLED")["ChecksumSHA256"]
    assert truth.endswith("-2")
    if isinstance(fault, WrongChecksum):
        assert told != truth
        assert told.endswith("-2")
    else:
        assert told is None


def test_headers_are_set_and_removed(proxy: S3Proxy, s3: S3Client, bucket: str) -> None:
    """Any header of an answer can be another one, or be missing."""
    proxy.inject(Headers({"x-amz-version-id": None, "ETag": '"other"'}), "PutObject")
    answer = put(s3, bucket)
    assert "VersionId" not in answer
    assert answer["ETag"] == '"other"'


def test_headers_of_requests_are_ignored(proxy: S3Proxy, s3: S3Client, direct: S3Client, bucket: str) -> None:
    """A store that does not know If-None-Match overwrites in silence; what was asked is in the timeline still."""
    put(direct, bucket, body=b"first")
    proxy.inject(IgnoredHeaders({"If-None-Match"}))
    put(s3, bucket, IfNoneMatch="*")
    assert direct.get_object(Bucket=bucket, Key=KEY)["Body"].read() == BODY
    assert proxy.timeline[0].headers["if-none-match"] == "*"
    with pytest.raises(ClientError, match="PreconditionFailed"):
        put(s3, bucket, IfNoneMatch="*")


@pytest.mark.parametrize(("at", "place"), [(0, 0), (0.5, len(BODY) // 2), (-1, len(BODY) - 1), (1.0, len(BODY) - 1)])
def test_one_bit_is_flipped(proxy: S3Proxy, direct: S3Client, bucket: str, at: float, place: int) -> None:
    """GetObject gives one changed byte, at the place that was asked for."""
    put(direct, bucket)
    proxy.inject(FlipBit(at), times=2)
    with client_of(proxy, response_checksum_validation="when_required") as s3:
        got = s3.get_object(Bucket=bucket, Key=KEY)["Body"].read()
    assert [index for index in range(len(BODY)) if got[index] != BODY[index]] == [place]
    with client_of(proxy) as s3, pytest.raises(FlexibleChecksumError):
        s3.get_object(Bucket=bucket, Key=KEY)["Body"].read()


@pytest.mark.parametrize("at", [0, 1, 0.5, -1])
def test_a_body_is_cut(proxy: S3Proxy, s3: S3Client, direct: S3Client, bucket: str, at: float) -> None:
    """GetObject breaks off at a place, after exactly the bytes before it."""
    put(direct, bucket, key="raw")
    proxy.inject(Cut(at), times=2)
    with pytest.raises((IncompleteReadError, ResponseStreamingError)):
        s3.get_object(Bucket=bucket, Key="raw")["Body"].read()
    with raw_connection(proxy) as connection:
        connection.sendall(raw_head("GET", f"/{bucket}/raw"))
        body = read_to_the_end(connection).partition(b"\r\n\r\n")[2]
    expected = int(len(BODY) * at) if isinstance(at, float) else at % len(BODY)
    assert body == BODY[:expected]
    assert proxy.timeline[-1].bytes_out == expected


def test_a_cut_may_be_a_reset(proxy: S3Proxy, direct: S3Client, bucket: str) -> None:
    """With `reset` the client is not left in doubt."""
    put(direct, bucket, key="raw")
    proxy.inject(Cut(0.5, reset=True))
    with raw_connection(proxy) as connection:
        connection.sendall(raw_head("GET", f"/{bucket}/raw"))
        with pytest.raises(ConnectionResetError):
            read_to_the_end(connection)


# Hooks


def test_hooks_are_called_in_turn(proxy: S3Proxy, s3: S3Client, direct: S3Client, bucket: str) -> None:
    """Before a request is carried out, after it, and after its answer, with what the request is."""
    seen: list[tuple[str, str, str, list[str]]] = []
    sent = threading.Event()

    def note(point: str) -> Callable[..., None]:
        def hook(request: S3Request, response: S3Response | None = None) -> None:
            seen.append((point, request.operation, request.key, keys(direct, bucket)))
            if point == "sent":
                sent.set()

        return hook

    proxy.inject(Hook(before=note("before"), after=note("after"), sent=note("sent")))
    put(s3, bucket)
    assert sent.wait(5)
    assert seen == [
        ("before", "PutObject", KEY, []),
        ("after", "PutObject", KEY, [KEY]),
        ("sent", "PutObject", KEY, [KEY]),
    ]


def test_a_hook_may_drop(proxy: S3Proxy, s3: S3Client, direct: S3Client, bucket: str) -> None:
    """A hook that raises `DropError` ends the exchange there: nothing is carried out, or nothing answered."""

    def drop(*_: object) -> None:
        raise DropError

    proxy.inject(Hook(before=drop))
    with pytest.raises(BROKEN):
        put(s3, bucket)
    assert keys(direct, bucket) == []
    proxy.inject(Hook(after=drop))
    with pytest.raises(ConnectionClosedError):
        put(s3, bucket)
    assert keys(direct, bucket) == [KEY]


def test_a_hook_may_answer(proxy: S3Proxy, s3: S3Client, bucket: str) -> None:
    """A response that a hook returns takes the place of S3's."""
    proxy.inject(Hook(before=lambda request: S3Response(418).with_body(b"")), "PutObject")
    proxy.inject(Hook(after=lambda request, response: S3Response(200, {"etag": '"hook"'})), "HeadObject")
    with pytest.raises(ClientError, match="418"):
        put(s3, bucket)
    assert s3.head_object(Bucket=bucket, Key=KEY)["ETag"] == '"hook"'


# An outage


def test_an_outage_and_its_end(proxy: S3Proxy, s3: S3Client, bucket: str) -> None:
    """While down, connections are refused and old ones broken; afterwards the same address works."""
    url = proxy.url
    put(s3, bucket)
    with raw_connection(proxy) as connection:
        connection.sendall(raw_put(bucket))
        assert connection.recv(12) == b"HTTP/1.1 200"
        proxy.down()
        assert read_to_the_end(connection).endswith(b"\r\n")  # the end of the answer, then of the connection
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            raw_connection(proxy)
    with pytest.raises(EndpointConnectionError):
        put(s3, bucket)
    proxy.down()
    proxy.up()
    proxy.up()
    assert proxy.url == url
    put(s3, bucket)
    assert [event.status for event in proxy.timeline] == [200, 200, 200]


def test_an_outage_breaks_what_is_under_way(proxy: S3Proxy, direct: S3Client, bucket: str) -> None:
    """A request that is held up ends with the outage, and is not carried out later."""
    delay = proxy.inject(Delay())
    with raw_connection(proxy) as connection:
        connection.sendall(raw_put(bucket))
        wait_until(lambda: delay.hits, timeout_s=20, what="the delay")
        proxy.down()
        assert read_to_the_end(connection) == b""
    delay.release()
    events: list[Event] = wait_until(lambda: proxy.timeline, timeout_s=20, what="end of the request")
    assert (events[0].status, events[0].s3_status) == (None, None)
    assert keys(direct, bucket) == []


def test_an_outage_takes_nothing_back(bucket: str) -> None:
    """What S3 was asked before is carried out, which the timeline knows, and the client does not."""
    with (
        socket.create_server(("127.0.0.1", 0)) as late,
        S3Proxy(f"http://127.0.0.1:{late.getsockname()[1]}") as proxy,
        raw_connection(proxy) as connection,
    ):
        connection.sendall(raw_put(bucket))
        accepted, _ = late.accept()
        with accepted:
            assert accepted.recv(1)
            proxy.down()
            assert read_to_the_end(connection) == b""
            accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            events: list[Event] = wait_until(lambda: proxy.timeline, timeout_s=20, what="end of the request")
    assert (events[0].status, events[0].s3_status) == (None, 200)
    assert events[0].done_sequence is not None


def test_a_paused_s3_is_no_obstacle(bucket: str) -> None:
    """The proxy closes at once even while S3 owes it an answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
        started = time.monotonic()
        with S3Proxy(f"http://127.0.0.1:{silent.getsockname()[1]}") as proxy:

            def ask() -> bytes:
                with raw_connection(proxy) as connection:
                    connection.sendall(raw_put(bucket))
                    return connection.recv(1)

            asked = pool.submit(ask)
            accepted, _ = silent.accept()
            assert accepted.recv(1)
        assert asked.result() == b""
        accepted.close()
        assert time.monotonic() - started < 4
