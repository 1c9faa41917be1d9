"""Damage S3's answers: other headers, other checksums, other bytes, fewer bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from deploy.local.twilio.faults import Place, offset

from .faults import Fault
from .messages import DropError, S3Request, S3Response

_CHECKSUM_HEADER = re.compile(r"x-amz-checksum-(crc32|crc32c|crc64nvme|sha1|sha256)")
_CHECKSUM_ELEMENT = re.compile(rb"<(Checksum(?:CRC32|CRC32C|CRC64NVME|SHA1|SHA256))>([^<]*)</\1>")


@dataclass(frozen=True)
class Headers(Fault):
    """Set headers of the answer; None removes one."""

    values: Mapping[str, str | None]

    def change(self, request: S3Request, response: S3Response) -> S3Response:
        headers = {**response.headers, **{name.lower(): value for name, value in self.values.items()}}
        return replace(response, headers={name: value for name, value in headers.items() if value is not None})


@dataclass(frozen=True)
class WrongChecksum(Fault):
    """Echo another checksum than S3 has, in headers and XML, also where the request has one and S3 echoes none."""

    def change(self, request: S3Request, response: S3Response) -> S3Response:
        known = {**request.headers, **response.headers} if response.status < 300 else response.headers
        wrong = {name: _other(value) for name, value in known.items() if _CHECKSUM_HEADER.fullmatch(name)}

        def other(match: re.Match[bytes]) -> bytes:
            return b"<%b>%b</%b>" % (match[1], _other(match[2].decode()).encode(), match[1])

        return _with_elements(replace(response, headers={**response.headers, **wrong}), other)


@dataclass(frozen=True)
class WithoutChecksums(Fault):
    """Answer as a store that keeps no checksums: none in headers or XML."""

    def change(self, request: S3Request, response: S3Response) -> S3Response:
        headers = {name: value for name, value in response.headers.items() if not name.startswith("x-amz-checksum-")}
        return _with_elements(replace(response, headers=headers), lambda match: b"")


def _other(checksum: str) -> str:
    """Return another checksum of the same form (base64, perhaps with a number of parts)."""
    return ("B" if checksum.startswith("A") else "A") + checksum[1:]


def _with_elements(response: S3Response, change: Callable[[re.Match[bytes]], bytes]) -> S3Response:
    """Change the checksums in the body of an answer to one of the operations that answer with XML."""
    if response.headers.get("content-type") != "application/xml":
        return response
    return response.with_body(_CHECKSUM_ELEMENT.sub(change, b"".join(response.blocks)))


@dataclass(frozen=True)
class FlipBit(Fault):
    """Change one bit at a place of the answer's body."""

    at: Place
    operation: ClassVar[str | None] = "GetObject"

    def change(self, request: S3Request, response: S3Response) -> S3Response:
        place = min(offset(self.at, response.length), response.length - 1)
        return replace(response, blocks=_flipped(response.blocks, place))


def _flipped(blocks: Iterable[bytes], place: int) -> Iterator[bytes]:
    position = 0
    for block in blocks:
        if position <= place < position + len(block):
            changed = bytearray(block)
            changed[place - position] ^= 1
            yield bytes(changed)
        else:
            yield block
        position += len(block)


@dataclass(frozen=True)
class Cut(Fault):
    """Close the connection (or reset it) at a place of the answer's body, whose length has promised more."""

    at: Place
    reset: bool = False
    operation: ClassVar[str | None] = "GetObject"

    def change(self, request: S3Request, response: S3Response) -> S3Response:
        return replace(response, blocks=self._until(response.blocks, offset(self.at, response.length)))

    def _until(self, blocks: Iterable[bytes], end: int) -> Iterator[bytes]:
        for block in blocks:
            yield block[:end]
            end -= len(block[:end])
            if end == 0:
                raise DropError(reset=self.reset)
