"""Reading Twilio's answers: whole or not at all, and in bounded time and memory."""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
import requests
import urllib3

from workers.answers import BODY_LIMIT_S, as_json_or_text, error_code, read_body, read_json, retry_after_s
from workers.errors import TemporaryError


class Wire:
    """The body of an answer as it arrives: blocks, and perhaps an error instead of its end."""

    def __init__(self, blocks: Iterable[bytes], error: Exception | None = None) -> None:
        self._blocks = iter(blocks)
        self._error = error
        self.asked: list[int] = []

    def read1(self, amt: int, *, decode_content: bool) -> bytes:
        assert decode_content
        self.asked.append(amt)
        block = next(self._blocks, b"")
        if not block and self._error:
            raise self._error
        assert len(block) <= amt
        return block


def answer(*blocks: bytes, error: Exception | None = None, **headers: str) -> requests.Response:
    made = requests.Response()
    made.raw = Wire(blocks, error)
    made.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return made


def test_a_body_comes_whole() -> None:
    """Whatever its blocks are, all of it is returned."""
    assert read_body(answer(b"a", b"bc", b"d")) == b"abcd"
    assert read_body(answer()) == b""


@pytest.mark.parametrize(("size", "too_long"), [(10, False), (11, True)])
def test_a_body_is_bounded(size: int, too_long: bool) -> None:
    """A byte too many is noticed, and no more than that is read."""
    response = answer(*[b"x"] * size, *[b"y"] * 100)
    if not too_long:
        response = answer(*[b"x"] * size)
        assert read_body(response, 10) == b"x" * size
        return
    with pytest.raises(TemporaryError, match="twilio_answer_too_large: an answer of more than 10 bytes"):
        read_body(response, 10)
    assert len(response.raw.asked) == 11


@pytest.mark.parametrize("error", [urllib3.exceptions.ProtocolError("secret"), ConnectionResetError("secret")])
def test_a_body_that_breaks_is_temporary(error: Exception) -> None:
    """What was read until then is not used, and the error is named by its kind only."""
    with pytest.raises(TemporaryError) as caught:
        read_body(answer(b"abc", error=error))
    assert str(caught.value) == f"twilio_unreachable: {type(error).__name__}"


@pytest.mark.parametrize(("step_s", "ends"), [(BODY_LIMIT_S / 4, True), (BODY_LIMIT_S / 2, False)])
def test_a_body_that_trickles_is_given_up(step_s: float, ends: bool) -> None:
    """Bytes that come one by one, each in time, don't hold a thread for ever."""
    clock = itertools.count(0.0, step_s)
    response = answer(b"a", b"b", b"c")
    if ends:
        assert read_body(response, monotonic=lambda: next(clock)) == b"abc"
        return
    with pytest.raises(TemporaryError, match="twilio_too_slow: an answer took over 60 s"):
        read_body(response, monotonic=lambda: next(clock))


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b'{"a":', b"[" * 120_000])
def test_what_is_no_json_is_temporary_or_text(body: bytes) -> None:
    """Where JSON is wanted it is an error, where anything may come it is text."""
    told = "^twilio_answer_not_json: Twilio answered 200 with something that is not JSON$"
    with pytest.raises(TemporaryError, match=told):
        read_json(answer(body[:60_000], body[60_000:]))
    assert as_json_or_text(body) == body.decode("utf-8", "replace")
    assert as_json_or_text(b'{"a":1}') == read_json(answer(b'{"a":1}')) == {"a": 1}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"code": 16113, "status": 400}', 16113),
        (b"<TwilioResponse><RestException><Code>20404</Code></RestException></TwilioResponse>", 20404),
        (b'{"type":"about:blank","code":20003}', 20003),
        (b"<html>", None),
        (b"", None),
        (b" " * 4096 + b'{"code": 16113}', None),
    ],
)
def test_a_code_is_looked_for_where_it_would_be(body: bytes, code: int | None) -> None:
    """In any of Twilio's three shapes, within the first bytes."""
    blocks = [body[at : at + 1024] for at in range(0, len(body), 1024)]
    assert error_code(answer(*blocks)) == code


def test_an_error_that_breaks_has_no_code() -> None:
    """The status says enough."""
    assert error_code(answer(b'{"co', error=ConnectionResetError())) is None


NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("Sun, 22 Nov 2026 10:00:30 GMT", 30.0),
        ("Sunday, 22-Nov-26 10:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0.0),
        ("-7", None),
        ("7.5", None),
        ("\u0667", None),
        ("soon", None),
        ("", None),
    ],
)
def test_a_wait_is_told_in_seconds_or_by_a_date(value: str, seconds: float | None) -> None:
    """What is neither says nothing."""
    assert retry_after_s(answer(Retry_After=value), NOW) == seconds


def test_no_wait_is_none() -> None:
    """Without the header nothing is asked for."""
    assert retry_after_s(answer(), NOW) is None


def test_a_date_is_compared_with_now() -> None:
    """What is long past is no wait, and what is to come is one."""
    assert retry_after_s(answer(Retry_After="Thu, 01 Jan 2026 00:00:00 GMT")) == 0.0
    assert retry_after_s(answer(Retry_After="Fri, 01 Jan 2666 00:00:00 GMT")) or 0.0 > 0.0


def test_a_long_body_is_read_block_by_block() -> None:
    """No more than 64 KiB at once, and never more than is allowed."""
    response = answer(*[b"x" * 65536] * 3, b"y")
    assert len(read_body(response, 200_000)) == 3 * 65536 + 1
    assert response.raw.asked == [65536, 65536, 65536, 200_001 - 3 * 65536, 200_000 - 3 * 65536]
