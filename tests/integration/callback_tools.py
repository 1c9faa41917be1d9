"""Speak to the callback endpoint byte by byte, sign as Twilio does, and look at what reached the queue."""

import base64
import contextlib
import hashlib
import json
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import pytest
import redis

from app.queue import ARCHIVE_QUEUE, KEY_PREFIX
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import Account, Simulator
from deploy.local.twilio.callbacks import Key
from tests.output import OUTPUT

FORM, JSON = "application/x-www-form-urlencoded", "application/json"
PATH = "/recording-status"
PUBLIC_URL = "https://archive.example.com"
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="processes are looked at through /proc")
QUEUE = KEY_PREFIX + ARCHIVE_QUEUE


@dataclass(frozen=True)
class Answer:
    """What the server answered; `headers` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def problem(self) -> dict[str, Any]:
        """Return the body, which has to be a problem (RFC 9457)."""
        assert self.headers["content-type"] == "application/problem+json"
        read: dict[str, Any] = json.loads(self.body)
        assert read["status"] == self.status
        assert read["detail"]
        return read


class Wire:
    """A connection that sends whatever bytes it is given and stays open between requests; not for several threads."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, timeout_s: float = 20.0) -> None:
        self._port, self._tls, self._timeout_s = port, tls, timeout_s
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send(self, data: bytes, *, method: str = "POST", half_close: bool = False) -> Answer | None:
        """Send a request and return the answer, or None when the server closes without one.

        With `half_close` the end of the data is the end of what will ever come.
        """
        fresh = self._socket is None
        connection = self.connect()
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may answer before the end
                connection.sendall(data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            answer = _read_answer(connection, method)
        except ConnectionError:
            answer = None
        OUTPUT.keep("answer", str(answer))
        if answer is None or half_close or answer.headers.get("connection") == "close":
            self.close()
        if answer is None and not fresh:  # it was kept alive for too long
            return self.send(data, method=method, half_close=half_close)
        return answer

    def connect(self) -> socket.socket:
        """Return the connection, made at the first use."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=self._timeout_s)
            if self._tls is not None:
                self._socket = self._tls.wrap_socket(self._socket, server_hostname="archive.example.com")
        return self._socket


def _read_answer(connection: socket.socket, method: str) -> Answer | None:
    response = HTTPResponse(connection, method=method)
    try:
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())
    except (HTTPException, ConnectionError):
        return None
    finally:
        response.close()


def request(
    target: str, *, method: str = "POST", body: bytes = b"", headers: Mapping[str, str | None] | None = None
) -> bytes:
    """Build an HTTP/1.1 request; a header given as None is left out."""
    merged = {"Host": "archive.example.com", "Content-Length": str(len(body)) if body else None, **(headers or {})}
    lines = [
        f"{method} {target} HTTP/1.1",
        *(f"{name}: {value}" for name, value in merged.items() if value is not None),
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def callback(
    fields: Mapping[str, str] | Sequence[tuple[str, str]],
    token: str,
    *,
    query: str = "",
    headers: Mapping[str, str | None] | None = None,
) -> bytes:
    """Build a form callback as Twilio signs and sends it."""
    pairs = list(fields.items()) if isinstance(fields, Mapping) else list(fields)
    signed = Key(token).headers(f"{PUBLIC_URL}{PATH}{query}", pairs)
    body = urlencode(pairs).encode()
    return request(PATH + query, body=body, headers={"Content-Type": FORM, **signed, **(headers or {})})


def json_callback(body: bytes, token: str, *, headers: Mapping[str, str | None] | None = None) -> bytes:
    """Build a JSON callback as Twilio signs and sends it, whatever its body is."""
    target = f"{PATH}?bodySHA256={hashlib.sha256(body).hexdigest()}"
    signed = Key(token).headers(PUBLIC_URL + target)
    return request(target, body=body, headers={"Content-Type": JSON, **signed, **(headers or {})})


def query_callback(fields: Mapping[str, str], token: str) -> bytes:
    """Build a callback by GET as Twilio signs and sends it."""
    target = f"{PATH}?{urlencode(fields)}"
    return request(target, method="GET", headers=Key(token).headers(PUBLIC_URL + target))


def fields_of(account_sid: str, recording_sid: str, status: str = "completed", **more: str) -> dict[str, str]:
    """Return the fields that are always there, and `more`."""
    always = {"AccountSid": account_sid, "RecordingSid": recording_sid, "RecordingStatus": status}
    return always | more


@dataclass(frozen=True)
class Web:
    """A running endpoint and the number of its Redis database."""

    stack: Stack
    database: int

    def wire(self) -> Wire:
        return Wire(self.stack.port)

    def queued(self) -> list[dict[str, Any]]:
        """Empty the queue and return the keyword arguments of its messages, oldest first."""
        with self.stack.redis.client(self.database) as client:
            return take_messages(client)

    def log(self) -> str:
        return self.stack.web.log.read_text()

    def usage(self) -> tuple[int, int]:
        """Return how many threads and file descriptors gunicorn's workers have together."""
        folders = [Path(f"/proc/{pid}") for pid in workers_of(self.stack.web.pid)]
        tasks, descriptors = ([len(list((folder / kind).iterdir())) for folder in folders] for kind in ("task", "fd"))
        return sum(tasks), sum(descriptors)

    def connections(self) -> int:
        """Return how many connections with clients the workers have, half-closed ones included."""
        listens, held_by_nobody = "0A", "0"
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ours = [line for line in lines if int(line[1].rpartition(":")[2], 16) == self.stack.port]
        return sum(line[3] != listens and line[9] != held_by_nobody for line in ours)

    def get(self, path: str) -> Answer:
        """Ask for a path on a connection of its own."""
        with self.wire() as wire:
            answer = wire.send(request(path, method="GET"))
        assert answer is not None
        return answer


@contextlib.contextmanager
def web_process(
    accounts: Sequence[Account],
    redis_server: RedisServer,
    s3_server: S3Server | None = None,
    *,
    database: int = 0,
    **settings: str,
) -> Iterator[Web]:
    """Run the Procfile's web process under `PUBLIC_URL`."""
    with (
        Simulator(accounts=accounts) as simulator,
        Stack(
            ("web",),
            settings={"PUBLIC_URL": PUBLIC_URL, **settings},
            redis_server=redis_server,
            database=database,
            s3_server=s3_server,
            simulator=simulator,
        ) as stack,
    ):
        web = Web(stack, database)
        yield web
        if stack.web.alive:
            web.get("/metrics")


def take_messages(client: redis.Redis) -> list[dict[str, Any]]:
    """Empty the queue and return the keyword arguments of its messages, oldest first."""
    with client.pipeline() as pipeline:
        raw, _ = pipeline.lrange(QUEUE, 0, -1).delete(QUEUE).execute()
    return [arguments(message) for message in reversed(raw)]


def arguments(message: str) -> dict[str, Any]:
    """Return the keyword arguments of a message of the queue."""
    _, kwargs, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
    assert isinstance(kwargs, dict)
    return kwargs


def workers_of(master: int) -> list[int]:
    """Return the ids of gunicorn's worker processes."""
    return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]
