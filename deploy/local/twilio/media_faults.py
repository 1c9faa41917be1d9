"""Damage a body or its delivery: stalls, cuts, resets, other framing, other bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any, ClassVar

from .audio import SAMPLE_RATE, Mp3, Wav
from .encryption import Encrypted
from .faults import Fault, Place, offset
from .messages import NOTHING, Block, Body, Framing, Request, Response


@dataclass(frozen=True)
class Stall(Fault):
    """Hold the answer back before its status line (`at` None) or at a place of the body.

    It ends after `seconds`, when released, or when the simulator stops.
    """

    at: Place | None = None
    seconds: float | None = None
    released: Event = field(default_factory=Event, repr=False)

    def change(self, request: Request, response: Response) -> Response:
        place = NOTHING if self.at is None else offset(self.at, response.body.length)
        pause = (place, lambda: self.released.wait(self.seconds))
        return replace(response, pauses=(*response.pauses, pause))

    def release(self) -> None:
        self.released.set()


@dataclass(frozen=True)
class Trickle(Fault):
    """Send the body in steps of `step_bytes` with a pause before each: never a stall, but never done either."""

    step_bytes: int
    pause_s: float
    released: Event = field(default_factory=Event, repr=False)
    endpoint: ClassVar[str | None] = "media"

    def change(self, request: Request, response: Response) -> Response:
        places = range(0, response.body.length, self.step_bytes)
        pauses = tuple((place, lambda: self.released.wait(self.pause_s)) for place in places)
        return replace(response, pauses=(*response.pauses, *pauses))

    def release(self) -> None:
        self.released.set()


@dataclass(frozen=True)
class Cut(Fault):
    """Close the connection at a place of the body, in silence or with a reset.

    With `framing="length"` the Content-Length has promised more; with "close" nothing gives the cut away;
    with "chunked" the last chunk is missing.
    """

    at: Place
    framing: Framing = "length"
    reset: bool = False
    endpoint: ClassVar[str | None] = "media"

    def change(self, request: Request, response: Response) -> Response:
        cut_at = offset(self.at, response.body.length)
        return replace(response, cut_at=cut_at, framing=self.framing, reset=self.reset)


@dataclass(frozen=True)
class AnswerLost(Fault):
    """Carry the request out, then close the connection (or reset it) without an answer."""

    reset: bool = False

    def change(self, request: Request, response: Response) -> Response:
        return replace(response, cut_at=NOTHING, reset=self.reset)


@dataclass(frozen=True)
class Deliver(Fault):
    """Deliver chunked, or delimited by closing the connection, without Content-Length."""

    framing: Framing
    endpoint: ClassVar[str | None] = "media"

    def change(self, request: Request, response: Response) -> Response:
        return replace(response, framing=self.framing)


@dataclass(frozen=True)
class Headers(Fault):
    """Set headers of the answer, such as Content-Type or ETag; None removes one."""

    values: Mapping[str, str | None]

    def change(self, request: Request, response: Response) -> Response:
        headers = {**response.headers, **self.values}
        return replace(response, headers={name: value for name, value in headers.items() if value is not None})


@dataclass(frozen=True)
class Gzip(Fault):
    """Compress the body (in memory) although identity was asked."""

    endpoint: ClassVar[str | None] = "media"

    def change(self, request: Request, response: Response) -> Response:
        return response.gzipped()


@dataclass(frozen=True)
class OtherAudio(Fault):
    """Serve sound audio that is not what was asked: other channels, another length or other bytes.

    With none of the three given it is other bytes of the same shape.
    """

    channels: int | None = None
    seconds: float | None = None
    seed: str = "other"
    endpoint: ClassVar[str | None] = "media"

    def change(self, request: Request, response: Response) -> Response:
        return replace(response, body=self._other(response.body))

    def _other(self, body: Body) -> Body:
        if isinstance(body, Encrypted):
            return replace(body, plaintext=self._other(body.plaintext))
        if not isinstance(body, Wav | Mp3):
            return body
        changes: dict[str, Any] = {}
        if self.channels is not None:
            changes["channels"] = self.channels
        if self.seconds is not None:
            changes["frames"] = round(self.seconds * SAMPLE_RATE)
        return replace(body, **(changes or {"seed": body.seed + self.seed}))


@dataclass(frozen=True)
class PlaceholderSizes(Fault):
    """Serve the WAV with the sizes of a streamed file (0xFFFFFFFF) in its header, which is legal."""

    endpoint: ClassVar[str | None] = "media"

    def change(self, request: Request, response: Response) -> Response:
        body = response.body
        return replace(response, body=replace(body, placeholder=True)) if isinstance(body, Wav) else response


@dataclass(frozen=True)
class Flipped(Body):
    """A body with one bit of one byte changed."""

    body: Body
    at: int

    @property
    def length(self) -> int:  # type: ignore[override]
        return self.body.length

    def blocks(self) -> Iterator[Block]:
        position = 0
        for block in self.body.blocks():
            if position <= self.at < position + len(block):
                changed = bytearray(block)
                changed[self.at - position] ^= 1
                block = bytes(changed)
            position += len(block)
            yield block


@dataclass(frozen=True)
class FlipBit(Fault):
    """Change one bit at a place of the body."""

    at: Place
    endpoint: ClassVar[str | None] = "media"

    def change(self, request: Request, response: Response) -> Response:
        return replace(response, body=Flipped(response.body, offset(self.at, response.body.length)))
