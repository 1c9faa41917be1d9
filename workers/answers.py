"""Ask over HTTP, and read answers that are not media: bounded in size and in time, whatever comes."""

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import requests
import urllib3

from app.recording import utc
from workers.errors import TemporaryError

MAX_BODY_BYTES: Final = 16 * 1024 * 1024  # a page of 1000 recordings is about 2 MB
BODY_LIMIT_S: Final = 60.0  # a body that trickles never stalls, and would never end
_BLOCK_BYTES: Final = 64 * 1024
_ERROR_BYTES: Final = 4096

_ERROR_CODE: Final = re.compile(rb'"code"\s*:\s*(\d{1,6})|<Code>(\d{1,6})</Code>')


class PlainSession(requests.Session):
    """Goes where it is told and nowhere else.

    No proxy, netrc or CA bundle from the environment, or a credential would go elsewhere; and redirects are left alone,
    which requests reads and parses even where it is told not to follow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None: there is nothing to follow."""
        return None


def read_body(
    answer: requests.Response,
    max_bytes: int = MAX_BODY_BYTES,
    monotonic: Callable[[], float] = time.monotonic,
) -> bytes:
    """Return an answer's whole body. Raises `TemporaryError` when it is cut, too long, or takes too long."""
    body = _read(answer, max_bytes + 1, monotonic)
    if len(body) > max_bytes:
        raise TemporaryError("twilio_answer_too_large", f"an answer of more than {max_bytes} bytes")
    return body


def read_json(answer: requests.Response) -> Any:
    """Return what an answer says in JSON. Raises `TemporaryError` when it is something else."""
    try:
        return json.loads(read_body(answer))
    except (ValueError, RecursionError):
        raise TemporaryError("twilio_answer_not_json", "Twilio answered 200 with something that is not JSON") from None


def as_json_or_text(body: bytes) -> Any:
    """Return what a body says in JSON, or its text where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")


def error_code(answer: requests.Response) -> int | None:
    """Return Twilio's error code from any of its three shapes: JSON, an RFC 9457 problem, or XML."""
    try:
        match = _ERROR_CODE.search(_read(answer, _ERROR_BYTES))
    except TemporaryError:
        return None
    return int(match[1] or match[2]) if match else None


def retry_after_s(answer: requests.Response, now: datetime | None = None) -> float | None:
    """Return how many seconds an answer asks to wait, or None; it may name a date instead (RFC 9110, 10.2.3)."""
    value = answer.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (utc(value) - (now or datetime.now(UTC))).total_seconds())
    except ValueError:
        return None


def _read(answer: requests.Response, most: int, monotonic: Callable[[], float] = time.monotonic) -> bytes:
    deadline, body = monotonic() + BODY_LIMIT_S, bytearray()
    while len(body) < most:
        if monotonic() > deadline:
            raise TemporaryError("twilio_too_slow", f"an answer took over {BODY_LIMIT_S:.0f} s")
        try:
            block = answer.raw.read1(min(_BLOCK_BYTES, most - len(body)), decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TemporaryError("twilio_unreachable", type(error).__name__) from None
        if not block:
            break
        body += block
    return bytes(body)
