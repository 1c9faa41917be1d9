"""Carry a request to S3 and its answer back, block by block, with the faults that it meets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, responses
from http.server import BaseHTTPRequestHandler
from typing import Any

from deploy.local.injections import Injections

from .faults import Fault
from .messages import DropError, S3Request, S3Response
from .server import Server
from .timeline import Progress, Timeline

BLOCK_BYTES = 256 * 1024
# RFC 9110, section 7.6.1: what concerns one connection only.
_HOP_BY_HOP = frozenset({"connection", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})


@dataclass(frozen=True)
class Wiring:
    """What all connections share: the S3 server's address, the faults and the record."""

    host: str
    port: int
    injections: Injections[Fault, S3Request]
    timeline: Timeline


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def __init__(self, wiring: Wiring, *of_the_server: Any) -> None:
        self._wiring = wiring
        super().__init__(*of_the_server)

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = S3Request.parse(self._wiring.timeline.number(), self.command, self.path, headers)
        faults = self._wiring.injections.take(request)
        progress = Progress(faults=tuple(type(fault).__name__ for fault in faults))
        try:
            with ExitStack() as resources:
                response = self._answer(request, faults, progress, resources)
                for fault in faults:
                    response = fault.change(request, response)
                self._deliver(request, response, progress)
        except (DropError, OSError, HTTPException) as error:
            self._wiring.timeline.append(request, progress)
            self.close_connection = True
            if isinstance(error, DropError) and error.reset:
                self.server.reset(self.connection)
            return
        for fault in faults:
            fault.done(request)

    do_POST = do_DELETE = do_PUT = do_HEAD = do_GET  # noqa: N815 (http.server's names)

    def handle_expect_100(self) -> bool:
        """Leave the word to `_body`: a client is asked for its body when the body is wanted."""
        return True

    def _answer(self, request: S3Request, faults: list[Fault], progress: Progress, resources: ExitStack) -> S3Response:
        """Return the answer of the first fault that gives one, else S3's; the body has been read then."""
        response = next(filter(None, (fault.instead(request) for fault in faults)), None)
        if response:
            for _ in self._body(progress):
                pass
            return response
        for fault in faults:
            request = fault.forward(request)
        return self._forward(request, progress, resources)

    def _forward(self, request: S3Request, progress: Progress, resources: ExitStack) -> S3Response:
        connection = HTTPConnection(self._wiring.host, self._wiring.port)
        resources.callback(connection.close)
        connection.connect()
        with self.server.asking(connection.sock):
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name not in _HOP_BY_HOP:
                    connection.putheader(name, value)
            if self._chunked:
                connection.putheader("transfer-encoding", "chunked")
            connection.endheaders()
            body = self._body(progress)
            for block in _chunks(body) if self._chunked else body:
                connection.send(block)
            answer = connection.getresponse()
            resources.callback(answer.close)
            progress.s3_status = answer.status
            progress.done_sequence = self._wiring.timeline.number()
        headers = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}

        def blocks() -> Iterator[bytes]:
            yield from iter(partial(answer.read, BLOCK_BYTES), b"")
            if answer.length:
                raise DropError  # S3 has promised more

        return S3Response(answer.status, headers, blocks())

    # The client's side

    @property
    def _chunked(self) -> bool:
        return "chunked" in self.headers.get("Transfer-Encoding", "").lower()

    def _body(self, progress: Progress) -> Iterator[bytes]:
        """Yield the request's body as it comes in. Raises ConnectionError when the client leaves before its end."""
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        sizes = self._chunk_sizes() if self._chunked else iter([int(self.headers.get("Content-Length") or 0)])
        for size in sizes:
            while size:
                block = self.rfile.read1(min(size, BLOCK_BYTES))
                if not block:
                    raise ConnectionError("the client has gone away")
                size -= len(block)
                progress.bytes_in += len(block)
                yield block

    def _chunk_sizes(self) -> Iterator[int]:
        """Yield the size of each chunk, whose data is to be read before the next size; trailers are dropped."""
        while line := self.rfile.readline(BLOCK_BYTES):
            size = int(line.partition(b";")[0], 16)
            yield size
            end = self.rfile.readline(BLOCK_BYTES)
            if size == 0:
                while end.strip():
                    end = self.rfile.readline(BLOCK_BYTES)
                return
        raise ConnectionError("the client has gone away")

    def _deliver(self, request: S3Request, response: S3Response, progress: Progress) -> None:
        """Send the answer piece by piece; the timeline knows of it before its last piece leaves."""
        progress.status = response.status
        pending, share = b"", 0
        try:
            for piece, body_bytes in self._pieces(response):
                self.connection.sendall(pending)
                progress.bytes_out += share
                pending, share = piece, body_bytes
        except DropError:
            self.connection.sendall(pending)
            progress.bytes_out += share
            raise
        progress.bytes_out += share
        self._wiring.timeline.append(request, progress)
        with suppress(OSError):  # a client that has gone away is found out at its next request
            self.connection.sendall(pending)

    def _pieces(self, response: S3Response) -> Iterator[tuple[bytes, int]]:
        """Yield what goes over the wire, each piece with its share of the body in bytes."""
        without_body = self.command == "HEAD" or response.status in (204, 304)
        chunked = not without_body and "content-length" not in response.headers
        headers = {**response.headers, **({"transfer-encoding": "chunked"} if chunked else {})}
        lines = [f"HTTP/1.1 {response.status} {responses.get(response.status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        yield "\r\n".join([*lines, "", ""]).encode("latin-1"), 0
        if without_body:
            return
        for block in response.blocks:
            yield (b"%x\r\n%b\r\n" % (len(block), block) if chunked else block), len(block)
        if chunked:
            yield b"0\r\n\r\n", 0

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: the timeline is the log."""


def _chunks(blocks: Iterable[bytes]) -> Iterator[bytes]:
    for block in blocks:
        yield b"%x\r\n%b\r\n" % (len(block), block)
    yield b"0\r\n\r\n"
