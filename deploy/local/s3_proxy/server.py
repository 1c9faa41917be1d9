"""Accept connections on a port of 127.0.0.1, a thread for each, and break them all at once."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread

_POLL_S = 0.02
_RESET = struct.pack("ii", 1, 0)


class Server(ThreadingHTTPServer):
    """A server that serves from its creation until `stop`."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        self._asked: set[socket.socket] = set()
        self._changed = Condition()
        self._stopped = False
        self._without_fin: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), handler)
        self._thread = Thread(target=self.serve_forever, args=(_POLL_S,), name="s3-proxy", daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Bind without the reverse look-up of http.server."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def stop(self) -> None:
        """Refuse connections from now on and break those that are open.

        What S3 was asked already it carries out, and its answer is still waited for: nobody could tell otherwise.
        """
        self.shutdown()
        self.server_close()
        self._thread.join()
        with self._changed:
            self._stopped = True
            _break(self._open)

    def wait(self, timeout_s: float) -> None:
        """Wait for no more answers of S3 and until the threads of all connections have ended, or the time is over."""
        with self._changed:
            _break(self._asked)
            self._changed.wait_for(lambda: not self._open, timeout_s)

    @contextmanager
    def asking(self, connection: socket.socket) -> Iterator[None]:
        """Ask S3 over a connection for the length of a block. Raises ConnectionError around it when stopped."""
        with self._changed:
            self._check_up()
            self._asked.add(connection)
        try:
            yield
        finally:
            with self._changed:
                self._asked.discard(connection)
        self._check_up()

    def reset(self, connection: socket.socket) -> None:
        """Let a client's connection end with a reset when its handler returns."""
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._without_fin.add(connection)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        with self._changed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close a connection, politely unless it is to be reset."""
        if request in self._without_fin:
            self._without_fin.discard(request)
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def close_request(self, request: socket.socket) -> None:  # type: ignore[override]
        super().close_request(request)
        self._closed(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing when a client has gone away; anything else is a bug and is printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def _check_up(self) -> None:
        if self._stopped:
            raise ConnectionError("the proxy is down")

    def _closed(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.discard(connection)
            self._changed.notify_all()


def _break(connections: Iterable[socket.socket]) -> None:
    for each in connections:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
