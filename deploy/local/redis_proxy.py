"""A proxy in front of a Redis server that shows every exchange to a watcher before and after it, on loopback.

An exchange is what a client sends at once (a command, or a transaction) and all replies to it: clients of Redis wait
for these before they send more.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from select import select
from threading import Lock, Thread
from typing import Literal, Self

from deploy.local.processes import reserve_port
from deploy.local.s3_proxy import DropError

Point = Literal["before", "after", "sent"]

_BLOCK_BYTES = 65536
_AGGREGATES = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}  # values per counted element
_STRINGS = (b"$", b"=", b"!")


@dataclass
class Exchange:
    """What one client has sent at once, and the replies; `name` is that of its commands, such as `MULTI LPUSH EXEC`."""

    sequence: int
    commands: tuple[tuple[bytes, ...], ...]
    replies: bytes = field(default=b"", repr=False)

    @property
    def name(self) -> str:
        return " ".join(words[0].decode("ascii", "replace").upper() for words in self.commands)


Watch = Callable[[Exchange, Point], None]


class RedisProxy:
    """A proxy in front of the Redis server on `port`; use it in a `with` statement.

    `watch` is called in the thread of a connection: `before` anything of the exchange is carried out, `after` that but
    before the client gets its replies, and when they have been `sent`. It may wait, and raise `DropError` to end the
    connection there. A client that goes away is gone for Redis at once.
    """

    def __init__(self, port: int, watch: Watch) -> None:
        self._target = port
        self._watch = watch
        self._numbers = count(1)
        self._lock = Lock()
        self._open: set[socket.socket] = set()
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            port = resources.enter_context(reserve_port())
            self._listener = resources.enter_context(closing(socket.socket()))
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", port))
            self._listener.listen(256)
            self.port = port
            Thread(target=self._accept, name="redis-proxy", daemon=True).start()
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # which wakes whoever accepts
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._resources.close()

    def url(self, database: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                Thread(target=self._serve, args=(client,), name="redis-proxy", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with ExitStack() as stack, suppress(OSError, DropError):
            stack.enter_context(self._opened(client))
            server = stack.enter_context(self._opened(socket.create_connection(("127.0.0.1", self._target))))
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pending = b""
            while block := self._receive(client, server):
                pending += block
                commands = list(_commands(pending))
                if sum(size for _, size in commands) == len(pending):
                    self._exchange(client, server, tuple(words for words, _ in commands), pending)
                    pending = b""

    def _exchange(
        self, client: socket.socket, server: socket.socket, commands: tuple[tuple[bytes, ...], ...], sent: bytes
    ) -> None:
        with self._lock:
            exchange = Exchange(next(self._numbers), commands)
        self._watch(exchange, "before")
        server.sendall(sent)
        while _replies(exchange.replies) < len(commands):
            exchange.replies += self._receive(server, client)
        self._watch(exchange, "after")
        client.sendall(exchange.replies)
        self._watch(exchange, "sent")

    def _receive(self, wanted: socket.socket, other: socket.socket) -> bytes:
        """Return what comes from one side, b"" at its end. Raises ConnectionError when the other side ends first."""
        while True:
            readable, _, _ = select([wanted, other], [], [])
            if wanted in readable:
                return wanted.recv(_BLOCK_BYTES)
            if not other.recv(_BLOCK_BYTES, socket.MSG_PEEK):
                raise ConnectionError("the other side has gone away")
            raise ConnectionError("the other side does not wait for its turn")

    @contextmanager
    def _opened(self, connection: socket.socket) -> Iterator[socket.socket]:
        """Close a connection at the end of the block, which `__exit__` can bring about."""
        with self._lock:
            self._open.add(connection)
        with closing(connection):
            try:
                yield connection
            finally:
                with self._lock:
                    self._open.discard(connection)


def _commands(data: bytes) -> Iterator[tuple[tuple[bytes, ...], int]]:
    """Yield each complete command, as words, with its size in bytes."""
    at = 0
    while (end := _end(data, at)) is not None:
        yield tuple(_words(data[at:end])), end - at
        at = end


def _words(command: bytes) -> Iterator[bytes]:
    """Yield the words of a command, which is an array of strings with their lengths."""
    at = command.index(b"\r\n") + 2
    while at < len(command):
        line = command.index(b"\r\n", at)
        start, size = line + 2, int(command[at + 1 : line])
        yield command[start : start + size]
        at = start + size + 2


def _replies(data: bytes) -> int:
    """Count the complete replies; what the server says unasked is none."""
    at, replies = 0, 0
    while (end := _end(data, at)) is not None:
        replies += data[at : at + 1] != b">"
        at = end
    return replies


def _end(data: bytes, at: int) -> int | None:
    """Return where the value (of RESP 2 or 3) that starts at a place ends; None if it is not all there."""
    line = data.find(b"\r\n", at)
    if line < 0:
        return None
    kind, end = data[at : at + 1], line + 2
    if kind in _STRINGS:
        size = int(data[at + 1 : line])
        end += size + 2 if size >= 0 else 0
        return end if end <= len(data) else None
    following: int | None = end
    for _ in range(max(0, int(data[at + 1 : line])) * _AGGREGATES[kind] if kind in _AGGREGATES else 0):
        following = None if following is None else _end(data, following)
    return following
