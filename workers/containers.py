"""What audio looks like from the inside: WAV, MP3, and Twilio's ciphertext, checked block by block as they arrive.

Each checker is fed every byte in order and says at the end what the audio is. None keeps more than a few kilobytes.
Sources: RIFF/WAVE (Microsoft, "Multiple Channel Audio Data and WAVE Files"), MPEG-1/2 audio frame headers
(ISO 11172-3 and 13818-3), Twilio's "Voice Recording Encryption".
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Final, Protocol

from workers.errors import ContentError

_HEADER_LIMIT_BYTES: Final = 64 * 1024
_GCM_TAG_BYTES: Final = 16
_WAV_HEADER_BYTES: Final = 44
_WAV_BYTES_PER_SECOND: Final = 16_000  # one channel of 8 kHz, 16 bit
_SAMPLE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What a complete body turned out to be. `length_proven`: its own sizes agree with the bytes received."""

    channels: int | None
    sample_rate: int | None
    duration_seconds: float | None
    length_proven: bool


class Container(Protocol):
    """A checker of one format."""

    def feed(self, block: bytes) -> None:
        """Look at the next bytes. Raises `ContentError` as soon as they can't be of this format."""

    def finish(self, total_bytes: int) -> AudioFacts:
        """Judge the complete body of `total_bytes`. Raises `ContentError` when something is missing or left over."""


class Wav:
    """RIFF/WAVE: chunks until `data`; sizes must agree with what came, unless they are a streamer's placeholders."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._format: tuple[int, int, int] | None = None  # channels, samples per second, bytes per second
        self._riff_size = 0
        self._data_start: int | None = None
        self._data_size = 0

    def feed(self, block: bytes) -> None:
        """See `Container`."""
        if self._data_start is not None:
            return
        self._head += block[: _HEADER_LIMIT_BYTES - len(self._head)]
        self._parse()
        if self._data_start is None and len(self._head) >= _HEADER_LIMIT_BYTES:
            raise ContentError("wav_without_data", "no data chunk in the first 64 KiB")
        if self._data_start is not None:
            self._head.clear()

    def _parse(self) -> None:
        head = self._head
        if head[:4] != b"RIFF"[: len(head)] or (len(head) > 8 and head[8:12] != b"WAVE"[: len(head) - 8]):
            raise ContentError("not_audio", "the body does not begin like a WAV file")
        if len(head) < 12:
            return
        self._riff_size = int.from_bytes(head[4:8], "little")
        at = 12
        while len(head) >= at + 8:
            name, size = bytes(head[at : at + 4]), int.from_bytes(head[at + 4 : at + 8], "little")
            if name == b"data":
                if self._format is None:
                    raise ContentError("wav_malformed", "the data chunk comes before the fmt chunk")
                self._data_start, self._data_size = at + 8, size
                return
            if name == b"fmt " and len(head) >= at + 8 + 16:
                channels, rate, per_second = (
                    int.from_bytes(head[at + start : at + stop], "little")
                    for start, stop in ((10, 12), (12, 16), (16, 20))
                )
                if size < 16 or not (channels and rate and per_second):
                    raise ContentError("wav_malformed", "the fmt chunk is not usable")
                self._format = (channels, rate, per_second)
            at += 8 + size + size % 2

    def finish(self, total_bytes: int) -> AudioFacts:
        """See `Container`."""
        if self._data_start is None or self._format is None:
            raise ContentError("media_cut", "the body ends inside the WAV header")
        proven = self._riff_size + 8 == total_bytes
        if not proven and not _is_placeholder(self._riff_size):
            raise ContentError("media_cut", "the RIFF size and the bytes received differ")
        data_bytes = total_bytes - self._data_start
        if self._data_size > data_bytes and not _is_placeholder(self._data_size):
            raise ContentError("media_cut", "the data chunk is longer than what was received")
        if 0 < self._data_size < data_bytes:
            data_bytes = self._data_size  # other chunks may follow the audio
        channels, rate, per_second = self._format
        return AudioFacts(channels, rate, data_bytes / per_second, proven)


def _is_placeholder(size: int) -> bool:
    """Tell whether a RIFF size is what writers put that can't seek back (ffmpeg, sox), not a length."""
    return size == 0 or size >= 0xFFFFFF00 or 0x7FFFF000 <= size <= 0x7FFFFFFF


# MPEG audio, layer III: kbit/s by bitrate index and samples per second by rate index.
_KBITS_V1: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_V2: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MPEG1: Final = 3
_MONO: Final = 3


class Mp3:
    """MPEG audio layer III: an optional ID3v2 tag, then frames without a gap to the last byte."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._skip_bytes = 0
        self._started = False
        self._frames = 0
        self._seconds = 0.0
        self._channels: int | None = None
        self._rate: int | None = None

    def feed(self, block: bytes) -> None:
        """See `Container`."""
        self._pending += block
        at = 0
        while True:
            step = min(self._skip_bytes, len(self._pending) - at)
            at += step
            self._skip_bytes -= step
            if self._skip_bytes or len(self._pending) - at < 10:
                break
            self._skip_bytes = self._next(bytes(self._pending[at : at + 10]))
        del self._pending[:at]

    def _next(self, head: bytes) -> int:
        """Return the size in bytes of the tag or frame that begins with `head`."""
        if not self._started and head[:3] == b"ID3":
            self._started = True
            return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        self._started = True
        return self._frame(head)

    def _frame(self, head: bytes) -> int:
        version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
        bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
        if head[0] != 0xFF or head[1] < 0xE0 or version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
            raise ContentError("not_audio", "the body is not a run of MP3 frames")
        layout = (1 if head[3] >> 6 == _MONO else 2, _RATES[version][rate])
        if self._frames and layout != (self._channels, self._rate):
            raise ContentError("not_audio", "the MP3 frames differ in channels or sample rate")
        self._channels, self._rate = layout
        samples = 1152 if version == _MPEG1 else 576
        kbits = (_KBITS_V1 if version == _MPEG1 else _KBITS_V2)[bitrate]
        self._frames += 1
        self._seconds += samples / self._rate
        return samples // 8 * kbits * 1000 // self._rate + (head[2] >> 1 & 1)

    def finish(self, total_bytes: int) -> AudioFacts:
        """See `Container`."""
        if self._skip_bytes or self._pending:
            raise ContentError("media_cut", "the body ends inside an MP3 frame")
        if not self._frames:
            raise ContentError("not_audio", "the body has no MP3 frame")
        return AudioFacts(self._channels, self._rate, self._seconds, length_proven=False)


class Ciphertext:
    """AES-256-GCM output: no header, as long as the WAV inside plus a tag of 16 bytes, and without any pattern."""

    def __init__(self) -> None:
        self._sample = bytearray()

    def feed(self, block: bytes) -> None:
        """See `Container`."""
        self._sample += block[: _SAMPLE_BYTES - len(self._sample)]

    def finish(self, total_bytes: int) -> AudioFacts:
        """See `Container`."""
        if total_bytes < _WAV_HEADER_BYTES + _GCM_TAG_BYTES:
            raise ContentError("media_cut", "the body is too short to hold an encrypted WAV file and its tag")
        if bytes(self._sample[:4]) == b"RIFF" or _looks_patterned(bytes(self._sample)):
            raise ContentError("not_ciphertext", "the recording is said to be encrypted and the body is not")
        return AudioFacts(None, None, None, length_proven=False)


def _looks_patterned(sample: bytes) -> bool:
    """Tell whether a sample has too little entropy for ciphertext.

    Uniform bytes have 8 - 255 / (2 n ln 2) bits on average: 7.82 for 1 KiB, where text has under 6 and speech
    in 16 bit under 7.5. Below 1 KiB there is too little to measure, but text (an error page) is still told: 60
    uniform bytes are valid UTF-8 less than once in 10^14.
    """
    if len(sample) < 1024:
        return _is_text(sample)
    counts = Counter(sample).values()
    entropy_bits = -sum(count / len(sample) * math.log2(count / len(sample)) for count in counts)
    return entropy_bits < 7.6


def _is_text(sample: bytes) -> bool:
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def plausible_ciphertext_seconds(total_bytes: int, channels: int) -> float:
    """Return how many seconds of Twilio's WAV an encrypted body of `total_bytes` can hold."""
    return max(0, total_bytes - _GCM_TAG_BYTES - _WAV_HEADER_BYTES) / (_WAV_BYTES_PER_SECOND * channels)
