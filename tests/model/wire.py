"""Carry requests from `TwilioApi` to the Twilio in memory, and its answers back as they come over a wire."""

from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ProtocolError

from tests.model.schedule import Call
from tests.model.twilio import Answer, Request, Twilio

Gate = Callable[[Call, Callable[[], Any]], Any]


class _Body(BytesIO):
    """A body that comes from a connection, which may break before its end."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body if answer.broken_at is None else answer.body[: answer.broken_at])
        # Where only the end of the connection ends a body, a cut may look like an end.
        self._breaks = answer.broken_at is not None and not (answer.silent and answer.framing == "close")

    def read(self, amount: int | None = -1, /) -> bytes:
        return self._checked(super().read(amount))

    def read1(self, amount: int | None = -1, /) -> bytes:
        return self._checked(super().read1(-1 if amount is None else amount))

    def _checked(self, block: bytes) -> bytes:
        if not block and self._breaks:
            raise ProtocolError("Connection broken")
        return block


class Wire(HTTPAdapter):
    """An adapter of requests. `gate` decides when a request is carried out, and what becomes of its answer."""

    def __init__(self, twilio: Twilio, gate: Gate) -> None:
        super().__init__()
        self._twilio = twilio
        self._gate = gate

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        url = urlsplit(str(request.url))
        asked = Request(
            str(request.method), url.path, dict(parse_qsl(url.query)), str(request.headers.get("Authorization", ""))
        )
        call = Call("twilio", f"{asked.method} {what(asked.path)}", asked.path.rpartition("Accounts/")[2])
        answer: Answer = self._gate(call, lambda: self._twilio.answer(asked))
        headers = dict(answer.headers)
        if answer.framing == "length":
            headers["Content-Length"] = str(len(answer.body))
        elif answer.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        raw = urllib3.HTTPResponse(
            body=_Body(answer),
            headers=headers,
            status=answer.status,
            preload_content=False,
            decode_content=False,
            request_method=asked.method,
        )
        return self.build_response(request, raw)


def what(path: str) -> str:
    """Say in a word what a path means."""
    rest = path.partition("/Accounts/")[2].partition("/")[2]
    if not rest:
        return "accounts"
    if rest.endswith("/Transcriptions.json"):
        return "transcriptions"
    if rest.endswith("/AddOnResults.json"):
        return "addons"
    if rest == "Recordings.json":
        return "list"
    return "resource" if rest.endswith(".json") else "media"
