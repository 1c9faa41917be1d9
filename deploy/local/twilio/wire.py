"""Turn an answer into the pieces that go over the wire, cut, framed and interrupted as it says. No socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus

from .messages import NOTHING, Block, Response

Piece = tuple[Block, int]


def pieces(response: Response, method: str) -> Iterator[Piece | Callable[[], object]]:
    """Yield what goes over the wire (with its share of the body, in bytes) and what to call in between."""
    pauses = sorted(response.pauses, key=lambda pause: pause[0])
    while pauses and pauses[0][0] == NOTHING:
        yield pauses.pop(0)[1]
    if response.cut_at == NOTHING:
        return
    bodiless = method == "HEAD" or response.status in (204, 304)
    yield _head(response), 0
    if bodiless:
        return
    end = response.body.length if response.cut_at is None else min(response.cut_at, response.body.length)
    position = 0
    for block in response.body.blocks():
        view = memoryview(block)
        while view:
            while pauses and pauses[0][0] <= position:
                yield pauses.pop(0)[1]
            stop = min([end, *(offset for offset, _ in pauses[:1])])
            part, view = view[: stop - position], view[stop - position :]
            if part:
                yield _framed(part, response.framing), len(part)
            position += len(part)
            if position == end:
                view = view[:0]
        if position == end:
            break
    for _, call in pauses:
        yield call
    if response.framing == "chunked" and response.cut_at is None:
        yield b"0\r\n\r\n", 0


def _head(response: Response) -> bytes:
    headers = dict(response.headers)
    if response.framing == "close":
        headers["Connection"] = "close"
    elif response.framing == "chunked":
        headers["Transfer-Encoding"] = "chunked"
    elif response.status != 204:
        headers["Content-Length"] = str(response.body.length)
    lines = [f"HTTP/1.1 {response.status} {_reason(response.status)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _framed(part: memoryview, framing: str) -> Block:
    return b"".join((b"%x\r\n" % len(part), part, b"\r\n")) if framing == "chunked" else part


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
