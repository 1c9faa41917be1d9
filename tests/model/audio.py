"""The media of recordings, made once per process and told apart by a number: WAV, MP3 and ciphertext."""

import struct
from functools import lru_cache
from random import Random

RATE = 8000
MARK = b"spoken-word-"  # in every second sample block: what must not be in any log
_FRAME_BYTES, _FRAME_S = 288, 0.072  # MPEG-2.5 layer III, 32 kbit/s at 8 kHz
_HEADER_BYTES, _TAG_BYTES = 44, 16


@lru_cache(maxsize=512)
def wav(number: int, channels: int, seconds: float, *, streamed: bool = False) -> bytes:
    """Return a WAV file of 8 kHz and 16 bit; with `streamed` its header does not say how long it is."""
    data = _noise(number, channels, int(seconds * RATE) * channels * 2)
    sizes = (0xFFFFFFFF, 0xFFFFFFFF) if streamed else (len(data) + 36, len(data))
    fmt = struct.pack("<IHHIIHH", 16, 1, channels, RATE, RATE * channels * 2, channels * 2, 16)
    return b"RIFF" + struct.pack("<I", sizes[0]) + b"WAVEfmt " + fmt + b"data" + struct.pack("<I", sizes[1]) + data


@lru_cache(maxsize=512)
def mp3(number: int, channels: int, seconds: float) -> bytes:
    """Return a run of MP3 frames; what is in them is noise."""
    head = bytes((0xFF, 0xE3, 0x48, 0xC0 if channels == 1 else 0x00))
    frames = round(seconds / _FRAME_S)
    noise = _noise(number, channels, frames * (_FRAME_BYTES - len(head)))
    step = _FRAME_BYTES - len(head)
    return b"".join(head + noise[at * step : (at + 1) * step] for at in range(frames))


@lru_cache(maxsize=512)
def ciphertext(number: int, channels: int, seconds: float) -> bytes:
    """Return what an encrypted WAV file looks like: uniform bytes, as many as the file and its tag have."""
    size = _HEADER_BYTES + int(seconds * RATE) * channels * 2 + _TAG_BYTES
    return Random(f"cipher {number} {channels}").randbytes(size)


def _noise(number: int, channels: int, size: int) -> bytes:
    mark = MARK + f"{number:06}-{channels}".encode()
    return (mark + Random(f"{number} {channels}").randbytes(max(0, size - len(mark))))[:size]
