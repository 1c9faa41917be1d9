"""A TCP proxy that can go silent on the connections there are, or lead new ones elsewhere."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Self


class Switchboard:
    """Forwards connections to a port of this machine; use it in a `with` statement."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._silenced: set[socket.socket] = set()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, name="switchboard", daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def lead_to(self, target: int) -> None:
        """Lead new connections to another port; those that there are stay where they are."""
        self._target = target

    def silence(self) -> int:
        """Swallow from now on all that comes over the connections there are, and keep them open; return how many."""
        with self._lock:
            self._silenced |= self._open
            return len(self._silenced) // 2

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                thread = threading.Thread(target=self._forward, args=(source, sink), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        for data in _received(source):
            if source in self._silenced:
                continue
            try:
                sink.sendall(data)
            except OSError:
                break
        with contextlib.suppress(OSError):
            if source not in self._silenced:
                sink.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
        source.close()


def _received(source: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            data = source.recv(64 * 1024)
        except OSError:
            return
        if not data:
            return
        yield data
