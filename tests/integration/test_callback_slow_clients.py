"""Clients that are slow on purpose: nobody else waits for them, and they are sent away."""

import contextlib
import secrets
import selectors
import signal
import socket
import statistics
import threading
import time
from collections.abc import Iterator

import pytest

from app.server import ARRIVAL_LIMIT_S
from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.twilio import Account
from tests.integration.callback_tools import FORM, PATH, Web, callback, fields_of, needs_proc, request, web_process

MAIN = Account(sid="AC" + "a1" * 16, auth_tokens=["main-token"])
BODY = {"Content-Type": FORM, "Content-Length": "1000"}
CHUNKS = {"Content-Type": FORM, "Transfer-Encoding": "chunked"}
HEAD = request(PATH, headers=BODY)
# How a slow client begins, and what it sends after that, a byte a second.
KINDS: dict[str, tuple[bytes, bytes]] = {
    "says nothing": (b"", b""),
    "slow request line": (b"P", b"OST /recording-status HTTP/1.1\r\n"),
    "slow headers": (HEAD[:40], HEAD[40:]),
    "slow body": (HEAD, b"A" * 1000),
    "slow chunks": (request(PATH, headers=CHUNKS) + b"1\r\nA\r\n", b"1\r\nA\r\n" * 100),
    "slow size of a chunk": (request(PATH, headers=CHUNKS), b"0" * 1000),
    "body too large": (request(PATH, headers=BODY | {"Content-Length": "1000000"}), b"A" * 1000),
    "doesn't close": (request("/healthz", method="GET", headers={"Connection": "close"}), b""),
    "doesn't close after an error": (b"nonsense\r\n\r\n", b"A" * 1000),
}
OF_EACH_KIND = 10
DELAY_S = 0.1
PAIRS = 40
NEVER_READING = 40


@pytest.fixture(scope="module")
def web(redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> Iterator[Web]:
    """Return the endpoint as the Procfile starts it: two workers."""
    with web_process([MAIN], redis_server, s3_server, database=next(databases)) as web:
        yield web


@pytest.fixture(scope="module")
def twin(redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> Iterator[Web]:
    """Return another such endpoint, which nobody plagues: what else this machine does delays both alike."""
    with web_process([MAIN], redis_server, s3_server, database=next(databases)) as web:
        yield web


class SlowClients:
    """Connections that send a byte a second, until the server closes them; use it in a `with` statement."""

    def __init__(self, web: Web) -> None:
        self._selector = selectors.DefaultSelector()
        self._left: dict[socket.socket, Iterator[bytes]] = {}
        self.started = time.monotonic()
        for first, then in KINDS.values():
            for _ in range(OF_EACH_KIND):
                client = socket.create_connection(("127.0.0.1", web.stack.port), timeout=5)
                client.sendall(first)
                client.setblocking(False)
                self._left[client] = iter(then[place : place + 1] for place in range(len(then)))
                self._selector.register(client, selectors.EVENT_READ)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._trickle)

    def __enter__(self) -> "SlowClients":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        for client in self._left:
            client.close()

    @property
    def connected(self) -> int:
        """How many connections the server has not closed."""
        return len(self._left)

    def _trickle(self) -> None:
        while not self._stopping.wait(1.0):
            for client, rest in list(self._left.items()):
                with contextlib.suppress(OSError):
                    client.send(next(rest, b""))
            self._forget_closed()

    def _forget_closed(self) -> None:
        """Forget what the server has closed altogether; a half-closed connection still counts."""
        for key, _ in self._selector.select(timeout=0):
            client = key.fileobj
            assert isinstance(client, socket.socket)
            if _is_gone(client):
                self._selector.unregister(client)
                self._left.pop(client, None)
                client.close()


def _is_gone(client: socket.socket) -> bool:
    try:
        while client.recv(65536):
            pass
        client.send(b"A")  # after a half-close this arrives; after a close it is answered with a reset
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def _is_refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def seconds_of_a_callback(web: Web) -> float:
    started = time.monotonic()
    with web.wire() as wire:
        answer = wire.send(callback(fields_of(MAIN.sid, f"RE{secrets.token_hex(16)}"), "main-token"))
    assert answer is not None
    assert answer.status == 204
    return time.monotonic() - started


def delay_seconds(web: Web, twin: Web) -> float:
    """Return how much longer callbacks take here than at the twin, on average and in turns."""
    return statistics.fmean(seconds_of_a_callback(web) - seconds_of_a_callback(twin) for _ in range(PAIRS))


def test_slow_clients_delay_nobody(web: Web, twin: Web) -> None:
    """With ten slow clients of each kind, callbacks take no 100 ms longer; after the limit no slow client is left."""
    delay_seconds(web, twin)  # by now every thread has its connection to Redis
    with SlowClients(web) as slow:
        assert delay_seconds(web, twin) < DELAY_S
        wait_until(lambda: time.monotonic() - slow.started > 1.5, timeout_s=20, what="that all have sent more")
        assert delay_seconds(web, twin) < DELAY_S
        assert slow.connected > 2 * 8  # more than there are threads
        wait_until(lambda: slow.connected == 0, timeout_s=ARRIVAL_LIMIT_S + 5, what="the end of all slow clients")
    assert delay_seconds(web, twin) < DELAY_S


def test_idle_connections_delay_nobody(web: Web, twin: Web) -> None:
    """Connections that are kept alive and used now and then take no thread from others."""
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(web.wire()) for _ in range(50)]
        for wire in idle:
            answer = wire.send(request("/healthz", method="GET"))
            assert answer is not None
            assert answer.headers["connection"] == "keep-alive"
        assert delay_seconds(web, twin) < DELAY_S
        for wire in idle:
            answer = wire.send(request("/healthz", method="GET"))
            assert answer is not None
            assert answer.status == 200


@pytest.mark.parametrize("first", [b"", request("/healthz", method="GET")], ids=["silent", "kept alive"])
def test_who_crowds_makes_room(redis_server: RedisServer, s3_server: S3Server, first: bytes) -> None:
    """With as many idle connections as there may be, the oldest gives way to a callback at once."""
    few = {"WEB_CONCURRENCY": "1", "GUNICORN_CMD_ARGS": "--worker-connections 20"}
    with web_process([MAIN], redis_server, s3_server, **few) as web, contextlib.ExitStack() as stack:
        for _ in range(50):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", web.stack.port), timeout=5))
            client.sendall(first)
            if first:
                assert client.recv(1024).startswith(b"HTTP/1.1 200 ")
        assert seconds_of_a_callback(web) < ARRIVAL_LIMIT_S / 2


@needs_proc
def test_who_never_reads_is_sent_away(web: Web, twin: Web) -> None:
    """More clients than threads that ask and ask and never read an answer delay nobody, and lose their connections."""
    asked = request("/metrics", method="GET") * 500
    with contextlib.ExitStack() as stack:
        for _ in range(NEVER_READING):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", web.stack.port))
            client.setblocking(False)
            client.send(asked)
        wait_until(lambda: web.connections() >= NEVER_READING, timeout_s=20, what="the connections")
        assert delay_seconds(web, twin) < DELAY_S
        wait_until(lambda: web.connections() == 0, timeout_s=60, what="the end of the connections")


def test_what_has_begun_is_answered_before_the_end(redis_server: RedisServer, s3_server: S3Server) -> None:
    """When the process is told to stop, a request on its way is still taken, and whoever comes then is refused."""
    fields = fields_of(MAIN.sid, f"RE{secrets.token_hex(16)}")
    data = callback(fields, "main-token")
    process = web_process([MAIN], redis_server, s3_server, WEB_CONCURRENCY="1")  # so that what answers gets the signal
    with process as web, web.wire() as wire:
        connection = wire.connect()
        connection.sendall(data[:-10])
        web.get("/healthz")  # by now the first part has been read
        web.stack.web.signal(signal.SIGTERM)
        wait_until(lambda: "Handling signal: term" in web.log(), timeout_s=20, what="the beginning of the end")
        wait_until(lambda: _is_refused(web.stack.port), timeout_s=20, what="that connections are refused")
        connection.sendall(data[-10:])
        answer = b"".join(iter(lambda: connection.recv(1024), b""))
        assert answer.startswith(b"HTTP/1.1 204 ")
        assert b"\r\nConnection: close\r\n" in answer
        wire.close()
        wait_until(lambda: not web.stack.web.alive, timeout_s=10, what="the end")
        assert web.stack.web.returncode == 0
