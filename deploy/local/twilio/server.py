"""Speak HTTP/1.1 over loopback: read a request, deliver an answer exactly as its Response says."""

from __future__ import annotations

import selectors
import socket
import struct
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from . import routes
from .journal import Event, Served
from .messages import NOTHING, Request, Response
from .wire import Piece, pieces

if TYPE_CHECKING:
    from .simulator import Simulator

STOP_TIMEOUT_S = 5.0
_RESET = struct.pack("ii", 1, 0)


class Server(ThreadingHTTPServer):
    """A thread per connection, bound to 127.0.0.1; stops at once, whatever its clients do."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, simulator: Simulator, port: int) -> None:
        self.simulator = simulator
        self._connections: set[socket.socket] = set()
        self.accepted = 0
        self._changed = Condition()
        self._thread: Thread | None = None
        self._stop, self._stopped = socket.socketpair()
        self.without_fin: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        """Bind without the reverse look-up of http.server."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread = Thread(target=self._serve, name="twilio-simulator", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            while all(key.fileobj is self.socket for key, _ in selector.select()):
                with suppress(OSError):  # the client has gone away before it was accepted
                    self.process_request(*self.get_request())

    def stop(self) -> None:
        """Stop accepting, break every connection and wait until its thread has ended."""
        self._stop.close()  # which makes the other end readable
        if self._thread:
            self._thread.join()
        self._stopped.close()
        self.server_close()
        deadline = monotonic() + STOP_TIMEOUT_S
        with self._changed:
            while self._connections and monotonic() < deadline:
                for connection in self._connections:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                self._changed.wait(0.1)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        with self._changed:
            self._connections.add(request)
            self.accepted += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close a connection, politely unless it is to be reset."""
        if request in self.without_fin:
            self.without_fin.discard(request)
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def close_request(self, request: socket.socket) -> None:  # type: ignore[override]
        super().close_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing when a client has gone away; anything else is a bug and is printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        simulator = self.server.simulator
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        target = urlsplit(self.path)
        endpoint, parts = routes.match(self.command, target.path)
        request = Request(
            simulator=simulator,
            sequence=simulator.journal.number(),
            method=self.command,
            path=target.path,
            query=dict(parse_qsl(target.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            endpoint=endpoint,
            parts=parts,
        )
        response, faults = simulator.respond(request)
        self._deliver(request, response, tuple(type(fault).__name__ for fault in faults))
        for fault in faults:
            fault.done(request)

    do_POST = do_DELETE = do_PUT = do_HEAD = do_GET  # noqa: N815 (http.server's names)

    def _deliver(self, request: Request, response: Response, faults: tuple[str, ...]) -> None:
        """Send the answer piece by piece; the journal knows of it before its last piece leaves."""
        pending: Piece = (b"", 0)
        sent, recorded = 0, False

        def send(piece: Piece) -> None:
            nonlocal sent
            if piece[0]:
                self.connection.sendall(piece[0])
                sent += piece[1]

        complete = response.cut_at is None
        try:
            for piece in pieces(response, self.command):
                send(pending)
                pending = (b"", 0)
                if isinstance(piece, tuple):
                    pending = piece
                else:
                    piece()
            self._record(request, response, faults, sent + pending[1], complete)
            recorded = True
            send(pending)
        except OSError:
            complete = False
            if recorded:
                self.server.simulator.journal.take_back(request.sequence, sent)
            else:
                self._record(request, response, faults, sent, complete)
        if not complete or response.framing == "close":
            self._close(reset=response.reset)

    def _record(
        self, request: Request, response: Response, faults: tuple[str, ...], body_bytes: int, complete: bool
    ) -> None:
        served = None
        is_media = request.endpoint in ("media", "cdn") and "recording_sid" in request.parts
        if is_media and request.method == "GET" and response.status == 200 and complete:
            served = Served(
                sequence=request.sequence,
                recording_sid=request.parts["recording_sid"],
                requested_channels=request.requested_channels,
                format=request.parts.get("extension", "wav"),
                body=response.body,
                faults=faults,
            )
        event = Event(
            sequence=request.sequence,
            kind="request",
            method=request.method,
            path=request.path,
            query=request.query,
            endpoint=request.endpoint,
            account_sid=request.account_sid,
            recording_sid=request.recording_sid,
            status=None if response.cut_at == NOTHING else response.status,
            body_bytes=body_bytes,
            complete=complete,
            faults=faults,
            authorized="authorization" in request.headers,
        )
        self.server.simulator.journal.append(event, served)

    def _close(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:
            with suppress(OSError):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.server.without_fin.add(self.connection)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: the journal is the log."""
