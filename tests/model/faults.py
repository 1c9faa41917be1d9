"""What can go wrong in a call: before it is carried out, after, or in its answer; and that the caller dies.

Errors have the very shapes in which botocore, requests and the queue raise them.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Any

import requests
from botocore.exceptions import (
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from app.queue import QueueUnavailableError
from tests.model import audio
from tests.model.hints import HintLostError
from tests.model.s3 import s3_error
from tests.model.schedule import Call
from tests.model.twilio import Answer, error_answer

_URL = "https://archive.s3.eu-central-1.amazonaws.com/"
_ERROR_PAGE = b"<html><body><h1>502 Bad Gateway</h1></body></html>\n"
_NOT_TAKEN = "the queue did not take the message: TimeoutError"


class Moment(Enum):
    """When a fault strikes."""

    BEFORE = "before"  # instead of the call
    AFTER = "after"  # it was carried out, and the caller does not learn that
    TWICE = "twice"  # the client repeated it by itself, because the first answer was lost
    ANSWER = "answer"  # in what is answered


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `strike` raises, or (of an answer) returns what comes instead; without it the caller dies."""

    name: str
    moment: Moment
    strike: Callable[[Call, Any], Any] | None

    @property
    def is_crash(self) -> bool:
        return self.strike is None

    def __str__(self) -> str:
        return f"{self.name} ({self.moment.value})"


def _raising(make: Callable[[Call], Exception]) -> Callable[[Call, Any], Any]:
    def strike(call: Call, _answer: Any) -> Any:
        raise make(call)

    return strike


def _answering(status: int, code: int, retry_after_s: int | None = None) -> Callable[[Call, Any], Any]:
    def strike(call: Call, _answer: Any) -> Answer:
        return error_answer(call.target, status, code, retry_after_s)

    return strike


def _changed(change: Callable[[Answer], Answer]) -> Callable[[Call, Any], Any]:
    return lambda _call, answer: change(answer) if answer.status == 200 else answer


def _ended(answer: Answer, number: int) -> Answer:
    if answer.status != 200:
        return answer
    return replace(answer, broken_at=number * 7919 % max(1, len(answer.body)), silent=True)


CRASHES = (Fault("crash", Moment.BEFORE, None), Fault("crash", Moment.AFTER, None))


def _s3(status: int, code: str) -> Callable[[Call, Any], Any]:
    return _raising(lambda call: s3_error(status, code, call.operation))


class _CutBody:
    """A body of S3 that breaks off: nothing of it may be used."""

    def read(self, _amount: int | None = None) -> bytes:
        raise ResponseStreamingError(error="Connection broken: IncompleteRead")

    def iter_chunks(self, _size: int = 1024) -> Any:
        yield b"part"
        raise IncompleteReadError(actual_bytes=4, expected_bytes=8)

    def close(self) -> None:
        """Like a real one."""


_S3_FAULTS = (
    Fault("500", Moment.BEFORE, _s3(500, "InternalError")),
    Fault("503", Moment.BEFORE, _s3(503, "SlowDown")),
    Fault("timeout", Moment.BEFORE, _s3(400, "RequestTimeout")),
    Fault("unreachable", Moment.BEFORE, _raising(lambda _: EndpointConnectionError(endpoint_url=_URL))),
    Fault("no connection", Moment.BEFORE, _raising(lambda _: ConnectTimeoutError(endpoint_url=_URL))),
    Fault("access denied", Moment.BEFORE, _s3(403, "AccessDenied")),
)
_S3_CHANGE_FAULTS = (
    Fault("500", Moment.AFTER, _s3(500, "InternalError")),
    Fault("answer lost", Moment.AFTER, _raising(lambda _: ReadTimeoutError(endpoint_url=_URL))),
    Fault("repeated", Moment.TWICE, lambda _call, answer: answer),
)
_S3_WRITE_FAULTS = (
    Fault("409", Moment.BEFORE, _s3(409, "ConditionalRequestConflict")),
    Fault("damaged on the way", Moment.BEFORE, _s3(400, "BadDigest")),
)
_S3_BODY_FAULTS = (Fault("body cut", Moment.ANSWER, lambda _call, answer: answer | {"Body": _CutBody()}),)

_TWILIO_FAULTS = (
    Fault("500", Moment.BEFORE, _answering(500, 20500)),
    Fault("503", Moment.BEFORE, _answering(503, 20503, 3)),
    Fault("429", Moment.BEFORE, _answering(429, 20429, 2)),
    Fault("401", Moment.BEFORE, _answering(401, 20003)),
    Fault("unreachable", Moment.BEFORE, _raising(lambda _: requests.ConnectionError("refused: " + _URL))),
    Fault("timeout", Moment.BEFORE, _raising(lambda _: requests.ReadTimeout("timed out: " + _URL))),
)
_TWILIO_DELETE_FAULTS = (
    Fault("500", Moment.AFTER, _answering(500, 20500)),
    Fault("answer lost", Moment.AFTER, _raising(lambda _: requests.ReadTimeout("timed out: " + _URL))),
)
_TWILIO_JSON_FAULTS = (
    Fault("error page", Moment.ANSWER, _changed(lambda _: Answer(200, {"Content-Type": "text/html"}, _ERROR_PAGE))),
    Fault("cut", Moment.ANSWER, _changed(lambda answer: replace(answer, broken_at=len(answer.body) // 2))),
    Fault("short", Moment.ANSWER, _changed(lambda answer: replace(answer, body=answer.body[: len(answer.body) // 3]))),
)
_TWILIO_NOT_YET = (Fault("not there yet", Moment.BEFORE, _answering(404, 20404)),)
_TWILIO_MEDIA_FAULTS = (
    Fault("400", Moment.BEFORE, _answering(400, 20001)),  # a gateway's, that says nothing of channels
    Fault("cut", Moment.ANSWER, _changed(lambda answer: replace(answer, broken_at=len(answer.body) // 2))),
    Fault("cut at once", Moment.ANSWER, _changed(lambda answer: replace(answer, broken_at=0))),
    Fault("cut in the end", Moment.ANSWER, _changed(lambda answer: replace(answer, broken_at=len(answer.body) - 1))),
    # A cut does not come twice at the same byte, so this one never does.
    Fault("ends early", Moment.ANSWER, lambda call, answer: _ended(answer, call.number)),
)

QUEUE_FAULTS = (
    Fault("unavailable", Moment.BEFORE, _raising(lambda _: QueueUnavailableError(_NOT_TAKEN))),
    Fault("answer lost", Moment.AFTER, _raising(lambda _: QueueUnavailableError(_NOT_TAKEN))),
)
HINT_FAULTS = (
    Fault("unavailable", Moment.BEFORE, _raising(lambda _: HintLostError())),
    Fault("answer lost", Moment.AFTER, _raising(lambda _: HintLostError())),
)

_WRITES = ("put_object", "complete_multipart_upload", "upload_part")


def faults_of(call: Call) -> tuple[Fault, ...]:
    """Return every fault that a call can meet, without crashes."""
    if call.service == "s3":
        changes = call.operation.partition("_")[0] not in ("get", "head", "list")
        return (
            _S3_FAULTS
            + (_S3_CHANGE_FAULTS if changes else ())
            + (_S3_WRITE_FAULTS if call.operation in _WRITES else ())
            + (_S3_BODY_FAULTS if call.operation == "get_object" else ())
        )
    if call.service == "twilio":
        method, what = call.operation.split()
        if method == "DELETE":
            return _TWILIO_FAULTS + _TWILIO_DELETE_FAULTS
        if what == "media":
            return _TWILIO_FAULTS + _TWILIO_NOT_YET + _TWILIO_MEDIA_FAULTS
        return _TWILIO_FAULTS + _TWILIO_JSON_FAULTS + (_TWILIO_NOT_YET if what == "resource" else ())
    return QUEUE_FAULTS if call.service == "queue" else HINT_FAULTS


# What is wrong with the content itself: a fault of the recording, and counted as one.


def _other_type(answer: Answer) -> Answer:
    return Answer(200, {"Content-Type": "application/xml"}, error_answer("x", 404, 20404).body)


def _disguised(answer: Answer) -> Answer:
    return replace(_other_type(answer), headers=dict(answer.headers))


@lru_cache(maxsize=512)
def _gzipped(body: bytes) -> bytes:
    return gzip.compress(body, 1, mtime=0)


def _compressed(answer: Answer) -> Answer:
    return replace(answer, headers={**answer.headers, "Content-Encoding": "gzip"}, body=_gzipped(answer.body))


DAMAGE: Mapping[str, Callable[[Answer], Answer]] = {
    "error page": _other_type,
    "error page in disguise": _disguised,
    "compressed": _compressed,
    "too short": lambda answer: replace(answer, body=answer.body[: len(answer.body) // 50]),
    "twice": lambda answer: replace(answer, body=answer.body * 8),
    "empty": lambda answer: replace(answer, body=b""),
    "other length": lambda answer: replace(answer, body=audio.of_another_length(answer.body)),
    "other channels": lambda answer: replace(answer, body=audio.with_other_channels(answer.body)),
}
