"""gunicorn's gthread worker, made safe against slow clients.

gthread reads a request in the thread that will answer it and waits for a client to close in the thread that serves
everybody: as many slow clients as there are threads, or one that doesn't close, hold up every callback. Here the
event loop collects requests, and a thread gets one only when all of it has arrived: nobody's slowness takes a thread.
"""

import re
import selectors
import socket
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import structlog
from gunicorn.http import RequestParser
from gunicorn.http.errors import ExpectationFailed, LimitRequestHeaders, LimitRequestLine, NoMoreData, ParseException
from gunicorn.http.unreader import Unreader
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import TConn, ThreadWorker

from app.pairs import MAX_BODY_BYTES
from app.problems import problem

MAX_HEAD_BYTES: Final = 64 * 1024
# From the first look at a connection to the end of its request, and from an answer to the client's closing.
ARRIVAL_LIMIT_S: Final = 10.0
# An answer fits into the kernel's buffer, unless its client never reads.
_WRITE_LIMIT_S: Final = 1.0
_READ_BYTES: Final = 64 * 1024

_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_LENGTH: Final = re.compile(rb"(?im)^content-length:[ \t]*([0-9]{1,18})[ \t]*\r?$")
_CHUNKED: Final = re.compile(rb"(?im)^transfer-encoding:.*chunked")
_LAST_CHUNK: Final = re.compile(rb"(?:^|\r\n)0+[ \t]*(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*\r\n")
_EXPECTS: Final = re.compile(rb"(?im)^expect:[ \t]*100-continue[ \t]*\r?$")

_MENDS: Final = {
    HTTPStatus.BAD_REQUEST: "this is not HTTP/1.1 as RFC 9112 defines it; look at what is between the client and here",
    HTTPStatus.REQUEST_URI_TOO_LONG: "shorten the URL",
    HTTPStatus.EXPECTATION_FAILED: "expect nothing but 100-continue",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "send fewer or shorter header fields",
    HTTPStatus.INTERNAL_SERVER_ERROR: "a fault of this service; its log says more",
}

log = structlog.get_logger()


class Arrived(Unreader):  # type: ignore[misc] # gunicorn has no types
    """What has arrived of a connection. Whoever wants more is told that there is none, and never waits."""

    def chunk(self, size_hint: int | None = None) -> bytes:
        raise NoMoreData


class BufferingWorker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """Gives threads whole requests. Connections that wait for anything are in `pending_conns`, oldest first.

    gthread closes those whose `timeout` (`time.monotonic()`) is past, and counts them in `worker_connections`.
    """

    def enqueue_req(self, conn: TConn) -> None:
        """Collect the next request of a connection, new or kept alive."""
        if not conn.initialized:
            conn.initialized = conn.data_ready = True
            conn.parser = RequestParser(self.cfg, (), conn.client)
            conn.parser.unreader = Arrived()
        conn.invited = False
        self._await(conn, self._collect)
        self._collect(conn, conn.sock)  # a request may have come together with the one before

    def finish_request(self, conn: TConn, future: Future[bool]) -> None:
        """Keep the connection, or leave it to its client to close: bytes on their way would undo our answer."""
        if not future.cancelled() and future.exception() is None and future.result():
            super().finish_request(conn, future)
            return
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:  # the client was faster
            self.nr_conns -= 1
            conn.close()
        else:
            self._await(conn, self._discard)

    def handle_request(self, request: Any, conn: TConn) -> bool:
        conn.sock.settimeout(_WRITE_LIMIT_S)
        try:
            return bool(super().handle_request(request, conn))
        except TimeoutError:
            return False

    def handle_error(self, _request: Any, client: socket.socket, _address: Any, error: Exception) -> None:
        """Answer what is no HTTP; neither the answer nor the log repeats any of it."""
        status = _status_of(error)
        if status is HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request_failed", exc_info=error)
        else:
            log.info("request_unreadable", error=type(error).__name__, status=status.value)
        body = problem(status, _MENDS[status]).get_data()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n"
            f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with suppress(OSError):
            write_nonblock(client, head.encode("ascii") + body)

    def _await(self, conn: TConn, on_readable: Any) -> None:
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + ARRIVAL_LIMIT_S
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(on_readable, conn))

    def _collect(self, conn: TConn, client: socket.socket) -> None:
        buffer = conn.parser.unreader.buf
        buffer.seek(0, 2)
        with suppress(BlockingIOError):
            data = _receive(client)
            if not data:
                self._drop(conn)
                return
            buffer.write(data)
        arrived = buffer.getvalue()
        if is_whole(arrived):
            self._release(conn)
            super().enqueue_req(conn)
        elif not conn.invited and b"\r\n\r\n" in arrived and _EXPECTS.search(arrived):
            conn.invited = True
            with suppress(OSError):
                client.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _discard(self, conn: TConn, client: socket.socket) -> None:
        with suppress(BlockingIOError):
            if not _receive(client):
                self._drop(conn)

    def _drop(self, conn: TConn) -> None:
        self._release(conn)
        self.nr_conns -= 1
        conn.close()

    def _release(self, conn: TConn) -> None:
        self.poller.unregister(conn.sock)
        self.pending_conns.remove(conn)


def is_whole(arrived: bytes) -> bool:
    """Tell whether a request has arrived to its end, or to a point where it can only be refused."""
    head, end, body = arrived.partition(b"\r\n\r\n")
    if not end:
        return len(head) > MAX_HEAD_BYTES or _BARE_LF.search(head) is not None
    if length := _LENGTH.search(head):
        return int(length[1]) > MAX_BODY_BYTES or len(body) >= int(length[1])
    if _CHUNKED.search(head):
        return len(body) > MAX_BODY_BYTES or _LAST_CHUNK.search(body) is not None
    return True


def _receive(client: socket.socket) -> bytes:
    """Return what is there, empty when the client has closed. Raises `BlockingIOError` when nothing is there."""
    try:
        return client.recv(_READ_BYTES)
    except BlockingIOError:
        raise
    except OSError:
        return b""


def _status_of(error: Exception) -> HTTPStatus:
    match error:
        case LimitRequestLine():
            return HTTPStatus.REQUEST_URI_TOO_LONG
        case LimitRequestHeaders():
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        case ExpectationFailed():
            return HTTPStatus.EXPECTATION_FAILED
        case ParseException():
            return HTTPStatus.BAD_REQUEST
    return HTTPStatus.INTERNAL_SERVER_ERROR
