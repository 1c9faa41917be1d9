"""When a request has arrived, in whatever pieces it comes: the event loop serves everybody and may not be held up."""

import time

import pytest

from app.pairs import MAX_BODY_BYTES
from app.server import MAX_HEAD_BYTES, arrival
from tests.integration.callback_tools import request

CHUNKED = {"Transfer-Encoding": "chunked"}
WHOLE = {
    "no body": request("/", method="GET"),
    "empty body": request("/", headers={"Content-Length": "0"}),
    "length": request("/", body=b"a=b\r\n\r\nc"),
    "full length": request("/", body=b"a" * MAX_BODY_BYTES),
    "another length": request("/", headers={"content-LENGTH": "0003"}, body=b"abc"),
    "expects": request("/", headers={"Expect": "100-Continue"}, body=b"abc"),
    "chunks": request("/", headers=CHUNKED) + b"5\r\n0\r\n\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n",
    "no chunk": request("/", headers=CHUNKED) + b"000 ;x\r\n\r\n",
    "trailers": request("/", headers={"Transfer-Encoding": "gzip, CHUNKED"}) + b"1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n",
    "many chunks": request("/", headers=CHUNKED) + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n",
}
NEVER_WHOLE = {
    "long head": b"A" * MAX_HEAD_BYTES * 2,
    "many lines": b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
    "many zeros": request("/", headers=CHUNKED) + b"0\r\n" * 30_000,
    "chunks that look like ends": request("/", headers=CHUNKED) + b"4\r\n\r\n\r\n\r\n" * 10_000,
    "long size of a chunk": request("/", headers=CHUNKED) + b"0" * 60_000,
    "long trailer": request("/", headers=CHUNKED) + b"0\r\n" + b"A" * 60_000,
    "announced too much": request("/", headers={"Content-Length": str(MAX_BODY_BYTES + 1)}),
    "broken chunk": request("/", headers=CHUNKED) + b"x\r\n",
    "negative chunk": request("/", headers=CHUNKED) + b"-5\r\n" + b"x" * 100,
    "bare line ends": b"GET / HTTP/1.1\n\n",
}


def pieces_until_whole(sent: bytes, size: int) -> int | None:
    """Return after how many bytes a request is taken as whole when it comes in pieces, None if never."""
    data = bytearray()
    watched = arrival(data)
    for start in range(0, len(sent), size):
        data += sent[start : start + size]
        if next(watched, None) is None:
            return len(data)
    return None


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("sent", WHOLE.values(), ids=WHOLE.keys())
def test_a_request_is_whole_with_its_last_byte(sent: bytes, size: int) -> None:
    """In pieces of any size, a request is whole when its last byte has come and not before."""
    assert pieces_until_whole(sent, size) == len(sent)
    assert pieces_until_whole(sent[:-1], size) is None


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("sent", NEVER_WHOLE.values(), ids=NEVER_WHOLE.keys())
def test_nobody_waits_for_what_can_only_be_refused(sent: bytes, size: int) -> None:
    """What is too long or breaks the rules is given on to be refused, at the latest when it is twice too long."""
    ended = pieces_until_whole(sent, size)
    assert ended is not None
    assert ended <= 2 * MAX_BODY_BYTES


@pytest.mark.parametrize("sent", [*WHOLE.values(), *NEVER_WHOLE.values()], ids=[*WHOLE.keys(), *NEVER_WHOLE.keys()])
def test_looking_at_every_byte_takes_no_time(sent: bytes) -> None:
    """Even byte for byte, a look costs the event loop microseconds (a tenth of a millisecond on a busy machine)."""
    started = time.process_time()
    pieces_until_whole(sent, 1)
    assert time.process_time() - started < 0.1 + len(sent) * 100e-6


def test_who_waits_to_be_invited_is_invited_once() -> None:
    """`Expect: 100-continue` is answered when the head has come and the body has not."""
    head, _, _ = request("/", headers={"Expect": "100-continue", "Content-Length": "3"}).partition(b"\r\n\r\n")
    data = bytearray(head)
    watched = arrival(data)
    assert next(watched) is False
    data += b"\r\n\r\n"
    assert next(watched) is True
    data += b"a"
    assert next(watched) is False
    data += b"bc"
    assert next(watched, None) is None
