"""gunicorn's gthread worker, made safe against slow clients.

gthread reads a request in the thread that will answer it and waits for a client to close in the thread that serves
everybody: as many slow clients as there are threads, or one that doesn't close, hold up every callback. Here the
event loop collects requests, and a thread gets one only when all of it has arrived and there is room for its answer:
nobody's slowness takes a thread.
"""

import re
import select
import selectors
import socket
import time
from bisect import insort
from collections.abc import Callable, Iterator
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
from app.queue import arrived_at

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_LINE_BYTES: Final = 8 * 1024
# From the first look at a connection to the end of its request.
ARRIVAL_LIMIT_S: Final = 10.0
# From the last answer to the client's closing; gunicorn's own value.
_LINGER_LIMIT_S: Final = 2.0
# The kernel calls a socket writable when a third of its buffer is free, which holds every answer of ours; its own
# default may grow to megabytes.
_WRITE_BUFFER_BYTES: Final = 64 * 1024
_WRITE_LIMIT_S: Final = 1.0
_READ_BYTES: Final = 8 * 1024  # larger ones, allocated and cut to size again and again, fragment memory

_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"(?im)^content-length:[ \t]*([0-9]{1,18})[ \t]*\r?$")
_CHUNKED: Final = re.compile(rb"(?im)^transfer-encoding:.*chunked")
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
    """Gives threads whole requests. Connections that wait for their client are in `pending_conns`, by `timeout`.

    gthread closes those whose `timeout` (`time.monotonic()`) is past, and counts them in `worker_connections`.
    """

    def enqueue_req(self, conn: TConn) -> None:
        """Collect the next request of a connection, new or kept alive."""
        if not conn.initialized:
            conn.initialized = conn.data_ready = True
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _WRITE_BUFFER_BYTES)
            conn.parser = RequestParser(self.cfg, (), conn.client)
            conn.parser.unreader = Arrived()
        conn.arrived = bytearray(conn.parser.unreader.take_buffered())
        conn.arrival = arrival(conn.arrived)
        conn.sock.setblocking(False)
        with suppress(BlockingIOError):  # a closed one will be seen to be
            conn.arrived += _receive(conn.sock)
        if not (conn.arrived and self._look(conn)):
            self._await(conn, selectors.EVENT_READ, self._collect, ARRIVAL_LIMIT_S)
        elif _has_room(conn.sock):
            self._give(conn)  # as nearly always; the event loop's other steps take as long as an answer
        else:
            self._await(conn, selectors.EVENT_WRITE, self._begin, ARRIVAL_LIMIT_S)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept connections or leave them to others; at the end take those that wait, and let the rest be refused.

        gthread keeps its listeners until its last connection has ended: whoever connected meanwhile would wait for
        that, and be reset. A refused connection is tried elsewhere, or again, at once.
        """
        super().set_accept_enabled(enabled)
        while self.sockets and not (enabled or self.alive):
            listener = self.sockets.pop()
            before = -1
            while before < self.nr_conns < self.worker_connections:
                before = self.nr_conns
                self.accept(listener)
            listener.close()

    def murder_pending(self) -> None:
        """Close connections whose time is over; with no place left, that is the oldest of those that crowd."""
        if self.nr_conns >= self.worker_connections:
            if crowd := max(self.pending_conns, self.keepalived_conns, key=len):
                crowd[0].timeout = 0.0
            self.murder_keepalived()
        super().murder_pending()

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
            conn.sock.setblocking(False)
            self._await(conn, selectors.EVENT_READ, self._discard, _LINGER_LIMIT_S)

    def handle_request(self, request: Any, conn: TConn) -> bool:
        """Answer a request that has arrived; it knows since when."""
        arrived_at.set(conn.arrived_at)
        request._expected_100_continue = False  # whoever waited for it has been told
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

    def _await(self, conn: TConn, event: int, act: Callable[[TConn, socket.socket], None], limit_s: float) -> None:
        conn.timeout = time.monotonic() + limit_s
        insort(self.pending_conns, conn, key=lambda other: other.timeout)
        self.poller.register(conn.sock, event, partial(act, conn))

    def _collect(self, conn: TConn, client: socket.socket) -> None:
        with suppress(BlockingIOError):
            data = _receive(client)
            conn.arrived += data
            if not data:
                self._drop(conn)
            elif self._look(conn):
                self.poller.modify(conn.sock, selectors.EVENT_WRITE, partial(self._begin, conn))

    def _look(self, conn: TConn) -> bool:
        """Tell whether a request has arrived; a client that waits for a word of ours gets it."""
        waits_for_us = next(conn.arrival, None)
        if waits_for_us:
            with suppress(OSError):
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        conn.arrived_at = time.monotonic()
        return waits_for_us is None

    def _begin(self, conn: TConn, _client: socket.socket) -> None:
        self._release(conn)
        self._give(conn)

    def _give(self, conn: TConn) -> None:
        """Give a thread what has arrived, now that there is room for the answer."""
        conn.parser.unreader.unread(bytes(conn.arrived))
        del conn.arrived, conn.arrival
        super().enqueue_req(conn)

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


def arrival(data: bytearray) -> Iterator[bool]:
    """Watch a request arrive in `data`: look at it when resumed, and end when it is whole or can only be refused.

    Yields whether the client now waits for `100 Continue`. What was looked at once is not looked at again, however
    small the pieces are that come: this is the event loop, which serves everybody.
    """
    searched = 0
    while (head_end := data.find(_END, searched)) < 0:
        if len(data) > MAX_HEAD_BYTES or data.endswith(b"\n\n"):
            return
        searched = max(0, len(data) - len(_END))
        yield False
    head, body_start = bytes(data[:head_end]), head_end + len(_END)
    expects = _EXPECTS.search(head) is not None
    for _ in _body_arrival(data, head, body_start):
        yield expects
        expects = False


def _body_arrival(data: bytearray, head: bytes, start: int) -> Iterator[None]:
    if length := _LENGTH.search(head):
        size = int(length[1])
        while size <= MAX_BODY_BYTES and len(data) < start + size:
            yield
    elif _CHUNKED.search(head):
        yield from _chunks_arrival(data, start)


def _chunks_arrival(data: bytearray, start: int) -> Iterator[None]:
    """Go from chunk to chunk to the last one, and to the empty line that ends its trailers."""
    place, size = start, -1
    while len(data) <= start + MAX_BODY_BYTES:
        line_end = data.find(b"\r\n" if size else _END, place)
        if line_end < 0:
            if len(data) > place + MAX_LINE_BYTES:
                return
            yield
        elif size == 0 or (size := _size_of_chunk(data[place:line_end])) < 0:
            return
        else:
            place = line_end + size + 4 if size else line_end


def _size_of_chunk(line: bytearray) -> int:
    """Return the size that a chunk announces in bytes; it is negative when the line breaks the rules."""
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        return -1


def _has_room(client: socket.socket) -> bool:
    """Tell whether an answer can be written without waiting for the client."""
    asked = select.poll()
    asked.register(client, select.POLLOUT)
    return bool(asked.poll(0))


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
