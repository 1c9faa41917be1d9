"""Carry requests from `TwilioApi` to the Twilio in memory, and its answers back as they come over a wire."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import ProtocolError

from tests.model.schedule import Call
from tests.model.twilio import Answer, Request, Twilio

Gate = Callable[[Call, Callable[[], Any]], Any]


class _Body(BytesIO):
    """A body that comes from a connection, which may break before its end: as urllib3 gives one that is not encoded."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body if answer.broken_at is None else answer.body[: answer.broken_at])
        self.chunked = answer.framing == "chunked"
        # Where only the end of the connection ends a body, a cut may look like an end.
        self._breaks = answer.broken_at is not None and not (answer.silent and answer.framing == "close")

    def read(self, amount: int | None = -1, decode_content: bool = False) -> bytes:
        return self._checked(super().read(amount))

    def read1(self, amount: int | None = -1, decode_content: bool = False) -> bytes:
        return self._checked(super().read1(-1 if amount is None else amount))

    def _checked(self, block: bytes) -> bytes:
        if not block and self._breaks:
            raise ProtocolError("Connection broken")
        return block


class _Response(requests.Response):
    """A response whose body is read from its `raw` and nowhere else."""

    def __init__(self, url: str, answer: Answer, headers: dict[str, str]) -> None:
        self.status_code, self.url, self.headers = answer.status, url, CaseInsensitiveDict(headers)
        self._content, self._content_consumed, self.encoding = False, False, None
        self.raw = _Body(answer)


class Wire(requests.Session):
    """A session of requests. `gate` decides when a request is carried out, and what becomes of its answer.

    What requests and urllib3 themselves would do to both on their way is left out where it changes nothing: it takes
    longer than all that the product does.
    """

    def __init__(self, twilio: Twilio, gate: Gate) -> None:
        self._twilio = twilio
        self._gate = gate

    def request(
        self,
        method: str,
        url: str,
        params: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        auth: tuple[str, str] | None = None,
        **_: Any,
    ) -> requests.Response:
        path = urlsplit(url).path
        asked = Request(method, path, dict(params), basic_auth(*auth) if isinstance(auth, tuple) else "")
        call = Call("twilio", f"{method} {what(path)}", path.rpartition("Accounts/")[2])
        answer: Answer = self._gate(call, lambda: self._twilio.answer(asked))
        headers = dict(answer.headers)
        if answer.framing == "length":
            headers["Content-Length"] = str(len(answer.body))
        elif answer.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        response = _Response(url, answer, headers)
        if "Content-Encoding" in headers:
            response.raw = urllib3.HTTPResponse(
                body=response.raw,
                headers=headers,
                status=answer.status,
                preload_content=False,
                decode_content=False,
                request_method=method,
            )
        return response


@cache
def basic_auth(user: str, password: str) -> str:
    """Return the header that carries credentials."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


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
