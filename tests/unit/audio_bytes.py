"""Small audio files for the tests, made byte by byte or by a real encoder."""

import random
import struct
from functools import cache

import lameenc

PLACEHOLDERS = [0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFF00, 0xFFFFFFFF]


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    """Make a RIFF chunk, padded to an even length; `size` is what it says of itself."""
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\x00" * (len(body) % 2)


def fmt(
    channels: int = 1, rate: int = 8000, bits: int = 16, extra: bytes = b"", per_second: int | None = None
) -> bytes:
    """Make a fmt chunk of PCM."""
    block = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", 1, channels, rate, per_second or rate * block, block, bits) + extra)


def wav(
    frames: int = 8,
    channels: int = 1,
    *,
    before: bytes = b"",
    after: bytes = b"",
    riff_size: int | None = None,
    data_size: int | None = None,
) -> bytes:
    """Make a WAV file of 8 kHz and 16 bit: `before` and `after` are chunks around the data."""
    samples = random.Random(frames).randbytes(frames * channels * 2)
    body = b"WAVE" + fmt(channels) + before + chunk(b"data", samples, data_size) + after
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


@cache
def mp3(seconds: float = 1.0, channels: int = 1, rate: int = 8000, kbps: int = 32) -> bytes:
    """Encode noise as MP3 with LAME."""
    encoder = lameenc.Encoder()
    encoder.silence()
    encoder.set_channels(channels)
    encoder.set_in_sample_rate(rate)
    encoder.set_out_sample_rate(rate)
    encoder.set_bit_rate(kbps)
    encoder.set_quality(7)
    samples = random.Random(5).randbytes(int(seconds * rate) * channels * 2)
    return bytes(encoder.encode(samples)) + bytes(encoder.flush())


def id3(body: bytes) -> bytes:
    """Make an ID3v2 tag."""
    size = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x00" + size + body


ERROR_PAGES = {
    "xml": b'<?xml version="1.0" encoding="UTF-8"?>\n<TwilioResponse><RestException><Code>20404</Code>'
    b"<Message>The requested resource was not found</Message><Status>404</Status></RestException></TwilioResponse>",
    "json": b'{"code": 20404, "message": "The requested resource was not found", "status": 404}',
    "html": b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>" + b"<p>nginx</p>" * 200,
    "text": "Ein Fehler ist aufgetreten: die Aufnahme können wir nicht finden, bitte später versuchen".encode(),
    "one byte": b"{",
    "empty": b"",
}
