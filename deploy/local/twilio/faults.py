"""Answer in Twilio's place, or call hooks: the faults of requests (those of bodies are in media_faults)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, Literal

from .errors import ApiError, Shape
from .messages import Bytes, Request, Response

Place = int | float  # in a body: bytes from its start, negative from its end, or (a float) a share of it


def offset(place: Place, length: int) -> int:
    """Turn a place into an offset of a body of `length` bytes; `NOTHING` is left to those who mean it."""
    if isinstance(place, float):
        return int(length * place)
    return min(place, length) if place >= 0 else max(0, length + place)


class Fault:
    """Change the answer to a request: `instead` may answer in Twilio's place, `change` may alter the answer.

    Several faults on one request apply in the order in which they were injected. `endpoint` is what a fault
    is for when the match does not say so; None is every endpoint.
    """

    endpoint: ClassVar[str | None] = None

    def instead(self, request: Request) -> Response | None:
        """Answer instead of carrying the request out, or return None. May raise ApiError."""
        return None

    def change(self, request: Request, response: Response) -> Response:
        """Change the answer, or what is done while it is delivered; the request has been carried out."""
        return response

    def done(self, request: Request) -> None:
        """Act after the last byte of the answer has been sent."""

    def release(self) -> None:
        """Let go of whatever this fault holds up."""


@dataclass(frozen=True)
class ErrorStatus(Fault):
    """Answer with an error in one of Twilio's shapes (as the path asks where `shape` is None).

    `retry_after` is a number of seconds or an HTTP date.
    """

    status: int = 500
    code: int = 20500
    shape: Shape | None = None
    retry_after: str | int | None = None
    message: str = ""

    def instead(self, request: Request) -> Response | None:
        error = ApiError(self.status, self.code, self.message)
        response = Response.error(error, self.shape or request.error_shape)
        return response if self.retry_after is None else response.with_headers(Retry_After=str(self.retry_after))


def throttled(retry_after: str | int | None = None) -> ErrorStatus:
    """Answer 429 (20429), which means not processed."""
    return ErrorStatus(429, 20429, retry_after=retry_after)


@dataclass(frozen=True)
class NotReady(Fault):
    """Answer 404 as for media that is not there yet: as often as injected, or until a time (aware UTC)."""

    until: datetime | None = None
    endpoint: ClassVar[str | None] = "media"

    def instead(self, request: Request) -> Response | None:
        if self.until is not None and request.simulator.store.clock() >= self.until:
            return None
        raise ApiError(404, 20404)


_PAGES = {
    "xml": ("application/xml", ApiError(404, 20404).render("xml")[1]),
    "json": ("application/json", ApiError(404, 20404).render("json")[1]),
    "html": ("text/html; charset=utf-8", b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>\n"),
    "empty": ("text/plain", b""),
}


@dataclass(frozen=True)
class ErrorPage(Fault):
    """Answer 200 with an error page, under its own content type or in disguise (`content_type`)."""

    kind: Literal["xml", "json", "html", "empty"] = "xml"
    content_type: str | None = None
    endpoint: ClassVar[str | None] = "media"

    def instead(self, request: Request) -> Response | None:
        content_type, page = _PAGES[self.kind]
        return Response(200, {"Content-Type": self.content_type or content_type}, Bytes(page))


@dataclass(frozen=True)
class Redirect(Fault):
    """Answer with a redirect; `to` may hold {url}, {path}, {query}, {account_sid}, {recording_sid}.

    Without `to` it leads to the simulator's own content host, where media needs no credentials and refuses
    them (as a presigned address does).
    """

    to: str = "{url}/_cdn/{account_sid}/{recording_sid}.{extension}?{query}"
    status: int = 307
    endpoint: ClassVar[str | None] = "media"

    def instead(self, request: Request) -> Response | None:
        location = self.to.format(
            url=request.simulator.url,
            path=request.path,
            query="&".join(f"{name}={value}" for name, value in request.query.items()),
            account_sid=request.account_sid,
            recording_sid=request.recording_sid,
            extension=request.parts.get("extension", "wav"),
        )
        return Response(self.status, {"Location": location})


@dataclass(frozen=True)
class Hook(Fault):
    """Call something at a point of a request, such as what ends a process in a crash test.

    `before` is called before the request is carried out, `after` when it has been but nothing is answered,
    `during` when the answer's body has come to the place `at`, and `sent` after its last byte. A Response
    that `before` or `after` returns takes the place of the answer; an ApiError that `before` raises too.
    """

    before: Callable[[Request], Response | None] | None = None
    after: Callable[[Request, Response], Response | None] | None = None
    during: Callable[[Request], object] | None = None
    at: Place = 0.5
    sent: Callable[[Request], object] | None = None

    def instead(self, request: Request) -> Response | None:
        return self.before(request) if self.before else None

    def change(self, request: Request, response: Response) -> Response:
        if self.after:
            response = self.after(request, response) or response
        if during := self.during:
            pause = (offset(self.at, response.body.length), lambda: during(request))
            response = replace(response, pauses=(*response.pauses, pause))
        return response

    def done(self, request: Request) -> None:
        if self.sent:
            self.sent(request)
