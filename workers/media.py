"""The media stream: bound, hashed and checked while it flows from Twilio to S3.

Nothing is accepted before `finish`: until then nobody may commit what was read.
"""

import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import urllib3

from workers.containers import Ciphertext, Container, Mp3, Wav, plausible_ciphertext_seconds
from workers.errors import ContentError, TemporaryError
from workers.twilio_api import MediaAnswer

_BLOCK_BYTES: Final = 256 * 1024
TOTAL_LIMIT_S: Final = 45 * 60.0  # below the queue's visibility timeout; the longest recording is under 3 GB
_AUDIO_TYPES: Final = {
    "wav": {"audio/x-wav", "audio/wav", "audio/wave", "audio/vnd.wave"},
    "mp3": {"audio/mpeg", "audio/mp3"},
}
_UNTYPED: Final = {"", "application/octet-stream", "binary/octet-stream"}
CONTENT_TYPES: Final = {"wav": "audio/x-wav", "mp3": "audio/mpeg"}


@dataclass(frozen=True, slots=True)
class Expected:
    """What Twilio's resource and the rung of the ladder say about the media. `duration_s` in seconds."""

    extension: str
    requested_channels: int | None
    resource_channels: int | None
    duration_s: int | None
    encrypted: bool


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What was received, completely: size in bytes, lower-case hex SHA-256, and what the audio says of itself."""

    bytes: int
    sha256: str
    channels: int | None
    sample_rate: int | None
    duration_seconds: float | None


class LengthUnprovenError(TemporaryError):
    """A body that may have been cut where the connection ended; a second one with the same `facts` proves it whole."""

    def __init__(self, facts: MediaFacts) -> None:
        super().__init__("media_length_unproven", "neither Twilio nor the audio says how long the media is")
        self.facts = facts


class MediaStream:
    """Twilio's bytes, in order. `readinto` until it returns nothing, then `finish`."""

    def __init__(
        self,
        answer: MediaAnswer,
        expected: Expected,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        earlier: MediaFacts | None = None,
    ) -> None:
        """Take an open download; `earlier` is what another one gave, whose length nothing proved either.

        Raises `ContentError` when its content type can't be audio.
        """
        types = _AUDIO_TYPES[expected.extension] | _UNTYPED
        if answer.content_type not in types:
            raise ContentError("not_audio", f"Twilio served {answer.content_type}")
        self._answer = answer
        self._expected = expected
        self._earlier = earlier
        self._monotonic = monotonic
        self._deadline = monotonic() + TOTAL_LIMIT_S
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._ended = False
        self._container: Container = (
            Ciphertext() if expected.encrypted else Mp3() if expected.extension == "mp3" else Wav()
        )

    @property
    def most_bytes(self) -> int:
        """The size of a buffer that all of it fits in, with room for a byte more than was announced, a fault."""
        announced = self._answer.content_length
        return sys.maxsize if announced is None else announced + 1

    def readinto(self, buffer: bytearray) -> int:
        """Receive the next bytes into a buffer of the caller's, and return how many: fewer than fit only at the end.

        The stream keeps no copy. Raises `TemporaryError` when the connection breaks, stalls or takes too long, and
        `ContentError` when the bytes can't be the expected audio.
        """
        size = 0
        with memoryview(buffer) as view:
            while size < len(buffer) and not self._ended:
                block = self._receive(min(_BLOCK_BYTES, len(buffer) - size))
                if not block:
                    self._ended = True
                    break
                self._sha256.update(block)
                self._bytes += len(block)
                self._container.feed(block)
                view[size : size + len(block)] = block
                size += len(block)
        return size

    def _receive(self, limit: int) -> bytes:
        if self._monotonic() > self._deadline:
            raise TemporaryError("media_too_slow", f"the download took over {TOTAL_LIMIT_S:.0f} s")
        try:
            return self._answer.body.read1(limit, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TemporaryError("media_interrupted", type(error).__name__) from None

    def finish(self) -> MediaFacts:
        """Judge the complete body and return its facts.

        Raises `TemporaryError` when fewer or more bytes came than were announced, `ContentError` when the audio
        disagrees with the resource (channels with the rung asked, duration by over a second and 1 %), and
        `LengthUnprovenError` when a body ended with the connection, nothing in it says that it is whole, and it is
        not the same as `earlier`.
        """
        announced = self._answer.content_length
        if announced is not None and announced != self._bytes:
            raise TemporaryError("media_interrupted", f"{self._bytes} of {announced} bytes came")
        audio = self._container.finish(self._bytes)
        asked = self._expected.requested_channels
        if asked is not None and audio.channels is not None and audio.channels != asked:
            raise ContentError("channels_differ", f"{asked} channels were asked for and {audio.channels} came")
        self._check_duration(audio.duration_seconds)
        facts = MediaFacts(
            bytes=self._bytes,
            sha256=self._sha256.hexdigest(),
            channels=audio.channels,
            sample_rate=audio.sample_rate,
            duration_seconds=None if audio.duration_seconds is None else round(audio.duration_seconds, 3),
        )
        proven = audio.length_proven or announced is not None or self._answer.body.chunked
        if not proven and facts != self._earlier:
            raise LengthUnprovenError(facts)
        return facts

    def _check_duration(self, measured_s: float | None) -> None:
        stated_s = self._expected.duration_s
        if stated_s is None:
            return
        if measured_s is None:
            # Ciphertext: the channels inside can't be seen. Where the rung and the resource agree there is one layout,
            # so that half of a recording in two channels does not pass as a whole one in one.
            asked, stored = self._expected.requested_channels, self._expected.resource_channels
            layouts = {asked, stored} if asked and stored else {1, 2}
            fits = any(_close(plausible_ciphertext_seconds(self._bytes, count), stated_s) for count in layouts)
        else:
            fits = _close(measured_s, stated_s)
        if not fits:
            raise ContentError("duration_differs", f"Twilio states {stated_s} s and other audio came")


def _close(measured_s: float, stated_s: int) -> bool:
    return abs(measured_s - stated_s) <= max(1.0, 0.01 * stated_s)
