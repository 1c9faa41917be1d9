"""The media of recordings, made once per process and told apart by a number: WAV, MP3 and ciphertext."""

import struct
from array import array
from functools import lru_cache
from random import Random

RATE = 8000
MARK = b"spoken-word-"  # in every second sample block: what must not be in any log
_MONO = 0xC0  # in the fourth byte of an MPEG frame
_FRAME_BYTES, _FRAME_S = 288, 0.072  # MPEG-2.5 layer III, 32 kbit/s at 8 kHz
_HEADER_BYTES, _TAG_BYTES = 44, 16


@lru_cache(maxsize=512)
def wav(number: int, channels: int, seconds: float, *, streamed: bool = False) -> bytes:
    """Return a WAV file of 8 kHz and 16 bit; with `streamed` its header does not say how long it is."""
    data = _noise(number, channels, int(seconds * RATE) * channels * 2)
    return _wav(data, channels, (0xFFFFFFFF, 0xFFFFFFFF) if streamed else None)


@lru_cache(maxsize=512)
def mp3(number: int, channels: int, seconds: float) -> bytes:
    """Return a run of MP3 frames; what is in them is noise."""
    head = bytes((0xFF, 0xE3, 0x48, _MONO if channels == 1 else 0x00))
    frames = round(seconds / _FRAME_S)
    noise = _noise(number, channels, frames * (_FRAME_BYTES - len(head)))
    step = _FRAME_BYTES - len(head)
    return b"".join(head + noise[at * step : (at + 1) * step] for at in range(frames))


@lru_cache(maxsize=512)
def ciphertext(number: int, channels: int, seconds: float) -> bytes:
    """Return what an encrypted WAV file looks like: uniform bytes, as many as the file and its tag have."""
    size = _HEADER_BYTES + int(seconds * RATE) * channels * 2 + _TAG_BYTES
    return Random(f"cipher {number} {channels}").randbytes(size)


def with_other_channels(body: bytes) -> bytes:
    """Return audio of the same duration in two channels instead of one, or in one instead of two."""
    if not body.startswith(b"RIFF"):
        other = bytearray(body)
        for at in range(3, len(other), _FRAME_BYTES):
            other[at] ^= _MONO
        return bytes(other)
    samples = array("h", body[_HEADER_BYTES:])
    if body[22] == 2:
        return _wav(samples[::2].tobytes(), 1)
    both = array("h", bytes(4 * len(samples)))
    both[::2] = both[1::2] = samples
    return _wav(both.tobytes(), 2)


def of_another_length(body: bytes) -> bytes:
    """Return audio that is whole and twice as long."""
    if not body.startswith(b"RIFF"):
        return 2 * body
    return _wav(2 * body[_HEADER_BYTES:], body[22])


def _wav(data: bytes, channels: int, sizes: tuple[int, int] | None = None) -> bytes:
    riff, size = sizes or (len(data) + 36, len(data))
    fmt = struct.pack("<IHHIIHH", 16, 1, channels, RATE, RATE * channels * 2, channels * 2, 16)
    return b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + fmt + b"data" + struct.pack("<I", size) + data


def _noise(number: int, channels: int, size: int) -> bytes:
    mark = MARK + f"{number:06}-{channels}".encode()
    return (mark + Random(f"{number} {channels}").randbytes(max(0, size - len(mark))))[:size]
