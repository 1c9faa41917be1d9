"""Hold one request to S3, one answer, and the way in which an exchange ends without an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, unquote, urlsplit

from .operations import recognise


class DropError(Exception):
    """Raised to end an exchange here and now: the connection is closed, or reset."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__("reset" if reset else "closed")
        self.reset = reset


@dataclass(frozen=True)
class S3Request:
    """One path-style request, without its body.

    `target` is what the client wrote, `operation` S3's name of what it asks for. Header names are in lower case.
    """

    sequence: int
    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    operation: str
    bucket: str
    key: str
    query: Mapping[str, str]

    @classmethod
    def parse(cls, sequence: int, method: str, target: str, headers: Mapping[str, str]) -> S3Request:
        """Understand the head of a request."""
        parts = urlsplit(target)
        bucket, _, key = parts.path.removeprefix("/").partition("/")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        operation = recognise(method, bool(bucket), bool(key), query, headers)
        return cls(sequence, method, target, headers, operation, unquote(bucket), unquote(key), query)

    @property
    def part_number(self) -> int | None:
        number = self.query.get("partNumber", "")
        return int(number) if number.isdigit() else None


@dataclass(frozen=True)
class S3Response:
    """One answer; `blocks` are its body, to be iterated once. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    blocks: Iterable[bytes] = field(default=(), repr=False)

    @property
    def length(self) -> int:
        """The bytes of the body as announced; 0 where they are not."""
        return int(self.headers.get("content-length", 0))

    def with_body(self, body: bytes) -> S3Response:
        """Replace the body by one that is there."""
        return replace(self, headers={**self.headers, "content-length": str(len(body))}, blocks=(body,))
