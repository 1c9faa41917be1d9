"""Hold one HTTP request, one answer, and the bodies that are streamed without being held in memory."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from .errors import ApiError, Shape, shape_for

if TYPE_CHECKING:
    from .simulator import Simulator

Block = bytes | memoryview
Framing = Literal["length", "chunked", "close"]
NOTHING = -1  # as `cut_at`: not even the status line is sent


class Body:
    """Give the bytes of an answer, block by block and as often as asked, always the same.

    `length` is in bytes and exact.
    """

    length: int

    def blocks(self) -> Iterator[Block]:
        """Yield the bytes in order, in blocks of any size."""
        raise NotImplementedError

    @property
    def sha256(self) -> str:
        """Hash the whole body (lower-case hex); remembered, as equal bodies have equal bytes."""
        return _sha256(self)

    def read(self) -> bytes:
        """Return the whole body at once."""
        return b"".join(self.blocks())


@lru_cache(maxsize=100_000)
def _sha256(body: Body) -> str:
    digest = hashlib.sha256()
    for block in body.blocks():
        digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class Bytes(Body):
    """A short body that is simply there."""

    data: bytes = b""

    @property
    def length(self) -> int:  # type: ignore[override]
        return len(self.data)

    def blocks(self) -> Iterator[Block]:
        if self.data:
            yield self.data


@dataclass(frozen=True)
class Request:
    """One request as the routes understood it.

    `endpoint` is one of accounts, account, list, resource, media, cdn, delete, start, update, transcriptions,
    addons, control, method (not allowed there) or unknown; `requested_channels` is the query parameter as an integer,
    or None.
    """

    simulator: Simulator
    sequence: int
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    endpoint: str
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def account_sid(self) -> str | None:
        return self.parts.get("account_sid")

    @property
    def recording_sid(self) -> str | None:
        return self.parts.get("recording_sid")

    @property
    def requested_channels(self) -> int | None:
        value = self.query.get("RequestedChannels", "")
        return int(value) if value.isdigit() else None

    @property
    def error_shape(self) -> Shape:
        return self.simulator.error_shape or shape_for(self.path)


@dataclass(frozen=True)
class Response:
    """One answer and how it is delivered.

    `cut_at` closes the connection after that many bytes of the body (`NOTHING`: before the status line),
    with a reset if `reset`. Each pause is an offset in the body (`NOTHING`: before the status line) and
    what to call when the bytes before it have been sent.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = field(default_factory=Bytes)
    framing: Framing = "length"
    cut_at: int | None = None
    reset: bool = False
    pauses: tuple[tuple[int, Callable[[], object]], ...] = ()

    @classmethod
    def json(cls, payload: Any, status: int = 200) -> Response:
        """Answer with JSON."""
        return cls(status, {"Content-Type": "application/json"}, Bytes(json.dumps(payload).encode()))

    @classmethod
    def error(cls, error: ApiError, shape: Shape) -> Response:
        """Answer with one of Twilio's errors."""
        content_type, body = error.render(shape)
        headers = {"Content-Type": content_type}
        if error.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="Twilio API"'
        return cls(error.status, headers, Bytes(body))

    def with_headers(self, **headers: str) -> Response:
        """Add or replace headers; an underscore stands for a hyphen."""
        added = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **added})

    def gzipped(self) -> Response:
        """Compress the body (it is held in memory) and say so."""
        return replace(self.with_headers(Content_Encoding="gzip"), body=Bytes(gzip.compress(self.body.read(), mtime=0)))
