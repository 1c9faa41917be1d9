"""Answer in S3's place, hold requests up, break connections, call hooks (damaged answers are in answer_faults)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from threading import Event
from typing import ClassVar

from .messages import DropError, S3Request, S3Response

_CODES = {
    200: "InternalError",  # CompleteMultipartUpload may fail after its status line
    400: "BadDigest",
    403: "AccessDenied",
    404: "NoSuchBucket",
    409: "ConditionalRequestConflict",
    412: "PreconditionFailed",
    500: "InternalError",
    503: "SlowDown",
}


class Fault:
    """Change what becomes of a request: `instead` may answer in S3's place, `change` may alter the answer.

    Several faults on one request apply in the order in which they were injected. Each step may raise `DropError`,
    which ends the exchange there. `operation` is what a fault is for when the injection does not say so.
    """

    operation: ClassVar[str | None] = None

    def instead(self, request: S3Request) -> S3Response | None:
        """Answer instead of carrying the request out, or return None; nothing of its body has been read."""
        return None

    def forward(self, request: S3Request) -> S3Request:
        """Change what S3 is asked."""
        return request

    def change(self, request: S3Request, response: S3Response) -> S3Response:
        """Change the answer; the request has been read to its end, and carried out unless `instead` has answered."""
        return response

    def done(self, request: S3Request) -> None:
        """Act after the last byte of the answer has been sent."""

    def release(self) -> None:
        """Let go of whatever this fault holds up."""


@dataclass(frozen=True)
class ErrorStatus(Fault):
    """Answer with an error; the code is the usual one of the status where it is not given.

    Status 200 is an error after the status line, which CompleteMultipartUpload is documented to give.
    """

    status: int = 500
    code: str = ""
    retry_after: str | int | None = None

    def instead(self, request: S3Request) -> S3Response | None:
        code = self.code or _CODES.get(self.status, "InternalError")
        page = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>Injected</Message></Error>'
        headers = {"content-type": "application/xml", "x-amz-request-id": f"INJECTED{request.sequence:08}"}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        return S3Response(self.status, headers).with_body(page.encode())


@dataclass(frozen=True)
class Delay(Fault):
    """Read nothing of the body for some seconds (None: until released), then carry the request out."""

    seconds: float | None = None
    released: Event = field(default_factory=Event, repr=False)

    def instead(self, request: S3Request) -> S3Response | None:
        self.released.wait(self.seconds)
        return None

    def release(self) -> None:
        self.released.set()


@dataclass(frozen=True)
class Stall(Fault):
    """Read the request to its end and answer nothing until released or closed, or for some seconds.

    What was carried out gets its answer then, what was not gets 503.
    """

    carried_out: bool = False
    seconds: float | None = None
    released: Event = field(default_factory=Event, repr=False)

    def instead(self, request: S3Request) -> S3Response | None:
        return None if self.carried_out else ErrorStatus(503).instead(request)

    def change(self, request: S3Request, response: S3Response) -> S3Response:
        self.released.wait(self.seconds)
        return response

    def release(self) -> None:
        self.released.set()


@dataclass(frozen=True)
class Reset(Fault):
    """Reset the connection, before or after the body has been read; nothing is carried out."""

    after_body: bool = False

    def instead(self, request: S3Request) -> S3Response | None:
        if self.after_body:
            return S3Response(503)
        raise DropError(reset=True)

    def change(self, request: S3Request, response: S3Response) -> S3Response:
        raise DropError(reset=True)


@dataclass(frozen=True)
class AnswerLost(Fault):
    """Carry the request out, then close the connection (or reset it) without an answer."""

    reset: bool = False

    def change(self, request: S3Request, response: S3Response) -> S3Response:
        raise DropError(reset=self.reset)


@dataclass(frozen=True)
class IgnoredHeaders(Fault):
    """Forward without some headers, as to a store that ignores them: if-none-match, x-amz-object-lock-mode."""

    names: Collection[str]

    def forward(self, request: S3Request) -> S3Request:
        ignored = {name.lower() for name in self.names}
        return replace(request, headers={name: each for name, each in request.headers.items() if name not in ignored})


@dataclass(frozen=True)
class Hook(Fault):
    """Call something at a point of a request, such as what ends a process in a crash test.

    `before` is called before anything of the request is carried out or read, `after` when it has been carried out
    but nothing is answered, and `sent` after the last byte of the answer. A response that `before` or `after` returns
    takes the place of the answer. Either may raise `DropError` to end the exchange there: a `before` that kills the
    client should, or what the client has sent already is carried out all the same.
    """

    before: Callable[[S3Request], S3Response | None] | None = None
    after: Callable[[S3Request, S3Response], S3Response | None] | None = None
    sent: Callable[[S3Request], object] | None = None

    def instead(self, request: S3Request) -> S3Response | None:
        return self.before(request) if self.before else None

    def change(self, request: S3Request, response: S3Response) -> S3Response:
        return (self.after(request, response) if self.after else None) or response

    def done(self, request: S3Request) -> None:
        if self.sent:
            self.sent(request)
