"""Make the audio of a recording: real speech, looped to any length, different for every SID."""

from __future__ import annotations

import hashlib
import struct
import wave
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import lameenc

from .messages import Block, Body

CLIPS = Path(__file__).parent.parent / "audio"
SAMPLE_RATE = 8000
HEADER_BYTES = 44
BLOCK_BYTES = 1 << 20
MARKED_FRAMES = 128
PLACEHOLDER = 0xFFFFFFFF
MP3_KBPS = 32
MP3_LOOP_S = 60


@lru_cache(maxsize=2)
def _conversation(channels: int) -> bytes:
    """Return some seconds of a call that loops: the caller speaks on the left, then the agent on the right.

    They never speak at once, so the one-channel downmix is one voice after the other.
    """
    caller, agent = (_samples(CLIPS / f"{name}.wav") for name in ("caller", "agent"))
    if channels == 1:
        return (caller + agent).tobytes()
    frames = len(caller) + len(agent)
    both = array("h", bytes(frames * 4))
    both[0 : 2 * len(caller) : 2] = caller
    both[2 * len(caller) + 1 :: 2] = agent
    return both.tobytes()


def _samples(path: Path) -> array[int]:
    with wave.open(str(path)) as clip:
        return array("h", clip.readframes(clip.getnframes()))


def wav_header(channels: int, data_bytes: int, *, placeholder: bool = False) -> bytes:
    """Return the 44 bytes of a 16-bit PCM WAV.

    With `placeholder`, and beyond 4 GiB, both sizes say 0xFFFFFFFF as in a file that was streamed.
    """
    if placeholder or data_bytes + 36 > PLACEHOLDER:
        riff_size = data_size = PLACEHOLDER
    else:
        riff_size, data_size = data_bytes + 36, data_bytes
    frame = channels * 2
    fmt = struct.pack("<IHHIIHH", 16, 1, channels, SAMPLE_RATE, SAMPLE_RATE * frame, frame, 16)
    return b"RIFF" + struct.pack("<I", riff_size) + b"WAVEfmt " + fmt + b"data" + struct.pack("<I", data_size)


@dataclass(frozen=True)
class Wav(Body):
    """A WAV of `frames` at 8 kHz, 16 bit: the same seed gives the same bytes, another seed others.

    The seed chooses where in the conversation the recording starts, and 128 bits of its hash are the
    lowest bits of the first 128 frames, so that no two recordings of 16 ms or more are alike. However
    long, streaming it takes about 1 MiB of memory, and keeping it takes none.
    """

    seed: str
    channels: int
    frames: int
    placeholder: bool = False

    @property
    def length(self) -> int:  # type: ignore[override]
        return HEADER_BYTES + self.frames * self.channels * 2

    def blocks(self) -> Iterator[Block]:
        digest = hashlib.sha256(self.seed.encode()).digest()
        loop, frame = _conversation(self.channels), self.channels * 2
        start = int.from_bytes(digest[16:24], "big") % (len(loop) // frame) * frame
        marked = bytearray(_loop_from(loop, start, min(MARKED_FRAMES, self.frames) * frame))
        bits = int.from_bytes(digest[:16], "big")
        for index in range(len(marked) // frame):
            marked[index * frame] = marked[index * frame] & 0xFE | bits >> index & 1
        data_bytes = self.length - HEADER_BYTES
        yield wav_header(self.channels, data_bytes, placeholder=self.placeholder) + marked
        left = data_bytes - len(marked)
        loops = max(1, min(-(-BLOCK_BYTES // len(loop)), -(-left // len(loop))))
        block = memoryview(_loop_from(loop, start + len(marked), loops * len(loop)))
        while left > 0:
            yield block[:left]
            left -= len(block)


def _loop_from(loop: bytes, start: int, length: int) -> bytes:
    start %= len(loop)
    return (loop[start:] + loop * (length // len(loop) + 1))[:length]


@dataclass(frozen=True)
class Mp3(Body):
    """The same audio as MP3 at 32 kbit/s; beyond a minute the encoded minute is repeated."""

    seed: str
    channels: int
    frames: int

    @property
    def length(self) -> int:  # type: ignore[override]
        return len(self._encoded) * max(self.frames, 1) // max(self._encoded_frames, 1)

    def blocks(self) -> Iterator[Block]:
        left, block = self.length, memoryview(self._encoded)
        while left > 0:
            yield block[:left]
            left -= len(block)

    @property
    def _encoded_frames(self) -> int:
        return min(self.frames, MP3_LOOP_S * SAMPLE_RATE)

    @property
    def _encoded(self) -> bytes:
        return _encode_mp3(Wav(self.seed, self.channels, self._encoded_frames))


@lru_cache(maxsize=64)
def _encode_mp3(source: Wav) -> bytes:
    encoder = lameenc.Encoder()
    encoder.silence()
    encoder.set_bit_rate(MP3_KBPS)
    encoder.set_in_sample_rate(SAMPLE_RATE)
    encoder.set_channels(source.channels)
    encoder.set_quality(7)
    return bytes(encoder.encode(source.read()[HEADER_BYTES:])) + bytes(encoder.flush())
