"""The media stream: bytes are passed on as they came, and judged as a whole."""

import hashlib
import io
import random
import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import urllib3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.audio_bytes import ERROR_PAGES, PLACEHOLDERS, mp3, wav
from workers.errors import ArchiverError, ContentError, TemporaryError
from workers.media import TOTAL_LIMIT_S, Expected, LengthUnprovenError, MediaFacts, MediaStream
from workers.twilio_api import MediaAnswer

PART = 8 * 1024 * 1024


class Wire(io.BytesIO):
    """A connection that hands out a body in blocks of given sizes, then breaks or ends."""

    def __init__(self, body: bytes, sizes: Iterable[int] = (), breaks_with: Exception | None = None) -> None:
        super().__init__(body)
        self._sizes = iter(sizes)
        self._breaks_with = breaks_with
        self.bytes_read = 0

    def read1(self, size: int | None = -1, /) -> bytes:
        block = super().read1(min(next(self._sizes, 65536), 65536 if size is None or size < 0 else size))
        if not block and self._breaks_with:
            raise self._breaks_with
        self.bytes_read += len(block)
        return block


def respond(
    wire: Wire | bytes, content_type: str = "audio/x-wav", *, length: int | None = None, chunked: bool = False
) -> MediaAnswer:
    """Make Twilio's answer: a real urllib3 response, with or without a length, or in chunks."""
    headers = {"Content-Type": content_type}
    if length is not None:
        headers["Content-Length"] = str(length)
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
    body = urllib3.HTTPResponse(
        body=Wire(wire) if isinstance(wire, bytes) else wire, headers=headers, status=200, preload_content=False
    )
    return MediaAnswer(content_type, length, body)


def expect(**changes: Any) -> Expected:
    return Expected(
        **{
            "extension": "wav",
            "requested_channels": None,
            "resource_channels": None,
            "duration_s": None,
            "encrypted": False,
            **changes,
        }
    )


def receive(
    answer: MediaAnswer,
    expected: Expected | None = None,
    size: int = PART,
    clock: Callable[[], float] = lambda: 0.0,
    earlier: MediaFacts | None = None,
) -> tuple[bytes, MediaFacts]:
    """Read a download in parts of `size` bytes and judge it."""
    stream = MediaStream(answer, expected or expect(), clock, earlier=earlier)
    parts = []
    buffer = bytearray(size)
    while count := stream.readinto(buffer):
        parts.append(bytes(buffer[:count]))
    assert all(len(part) == size for part in parts[:-1])
    return b"".join(parts), stream.finish()


def refusal(answer: MediaAnswer, expected: Expected | None = None, **options: Any) -> ArchiverError:
    with pytest.raises(ArchiverError) as caught:
        receive(answer, expected, **options)
    return caught.value


def encrypt(body: bytes) -> bytes:
    return AESGCM(random.Random(7).randbytes(32)).encrypt(random.Random(8).randbytes(12), body, None)


# What is received


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("channels", [1, 2])
def test_complete_wav(framing: str, channels: int) -> None:
    """A WAV file comes through byte for byte, and its facts are size, digest and what it says of itself."""
    body = wav(16_000, channels)
    answer = respond(body, length=len(body) if framing == "length" else None, chunked=framing == "chunked")
    received, facts = receive(answer, expect(requested_channels=channels, duration_s=2))
    assert received == body
    assert facts == MediaFacts(len(body), hashlib.sha256(body).hexdigest(), channels, 8000, 2.0)


def test_complete_mp3() -> None:
    """An MP3 file comes through byte for byte."""
    body = mp3(3.0, 2)
    expected = expect(extension="mp3", requested_channels=2, duration_s=3)
    received, facts = receive(respond(body, "audio/mpeg", length=len(body)), expected)
    assert received == body
    assert (facts.sha256, facts.channels, facts.sample_rate) == (hashlib.sha256(body).hexdigest(), 2, 8000)


def test_complete_ciphertext() -> None:
    """An encrypted recording comes through byte for byte, and says nothing of its audio."""
    body = encrypt(wav(16_000, 2))
    received, facts = receive(
        respond(body, length=len(body)), expect(encrypted=True, requested_channels=2, duration_s=2)
    )
    assert received == body
    assert facts == MediaFacts(len(body), hashlib.sha256(body).hexdigest(), None, None, None)


@given(
    frames=st.integers(0, 3000),
    sizes=st.lists(st.integers(1, 900), max_size=30),
    size=st.integers(1, 7000),
    chunked=st.booleans(),
)
def test_blocks_and_parts_of_any_size_make_no_difference(
    frames: int, sizes: list[int], size: int, chunked: bool
) -> None:
    """However the network cuts the body and whatever part size is read, bytes and facts are the same."""
    body = wav(frames)
    answer = respond(Wire(body, sizes), chunked=chunked, length=None if chunked else len(body))
    received, facts = receive(answer, size=size)
    assert received == body
    assert (facts.bytes, facts.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert facts.duration_seconds == round(frames / 8000, 3)


def test_bytes_are_never_decoded() -> None:
    """What is archived and hashed are the bytes on the wire, whatever encoding the answer claims."""
    body = wav(8000)
    response = urllib3.HTTPResponse(
        body=Wire(body), headers={"Content-Encoding": "gzip"}, status=200, preload_content=False
    )
    assert receive(MediaAnswer("audio/x-wav", len(body), response))[0] == body


def test_end_is_final() -> None:
    """After the end a stream stays empty."""
    stream = MediaStream(respond(wav()), expect())
    assert stream.readinto(bytearray(PART)) == len(wav())
    assert stream.readinto(bytearray(PART)) == 0
    assert stream.readinto(bytearray(1)) == 0


# What is missing


@pytest.mark.parametrize("framing", ["length", "close"])
def test_wav_cut_at_every_byte_is_refused(framing: str) -> None:
    """A WAV file that ends at any byte but the last is refused, with and without a Content-Length."""
    body = wav(8)
    length = len(body) if framing == "length" else None
    receive(respond(body, length=length))
    for end in range(len(body)):
        error = refusal(respond(body[:end], length=length))
        assert error.reason == ("media_interrupted" if framing == "length" else "media_cut"), end


@pytest.mark.parametrize("riff_size", PLACEHOLDERS)
def test_placeholder_sizes_need_another_proof(riff_size: int) -> None:
    """A WAV file without sizes is accepted with a Content-Length or in chunks, and refused where it ends with the
    connection: it may have been cut."""
    body = wav(8000, riff_size=riff_size, data_size=riff_size)
    receive(respond(body, length=len(body)))
    receive(respond(body, chunked=True))
    told = "media_length_unproven: neither Twilio nor the audio says how long the media is"
    assert str(refusal(respond(body))) == told


@pytest.mark.parametrize(
    ("body", "expected", "content_type"),
    [
        (mp3(), expect(extension="mp3"), "audio/mpeg"),
        (encrypt(wav(8000)), expect(encrypted=True), "audio/x-wav"),
    ],
    ids=["mp3", "ciphertext"],
)
def test_formats_without_sizes_need_another_proof(body: bytes, expected: Expected, content_type: str) -> None:
    """MP3 and ciphertext can't prove their own length: they need a Content-Length or chunks."""
    receive(respond(body, content_type, length=len(body)), expected)
    receive(respond(body, content_type, chunked=True), expected)
    assert refusal(respond(body, content_type), expected).reason == "media_length_unproven"


def test_the_same_body_twice_is_whole() -> None:
    """Where nothing else proves the length, a second download of the very same bytes does."""
    body = mp3()
    with pytest.raises(LengthUnprovenError) as first:
        receive(respond(body, "audio/mpeg"), expect(extension="mp3"))
    received, facts = receive(respond(body, "audio/mpeg"), expect(extension="mp3"), earlier=first.value.facts)
    assert received == body
    assert facts == first.value.facts


def test_another_body_proves_nothing() -> None:
    """A second download that differs from the first leaves the length unproven."""
    with pytest.raises(LengthUnprovenError) as first:
        receive(respond(mp3(2.0), "audio/mpeg"), expect(extension="mp3"))
    with pytest.raises(LengthUnprovenError):
        receive(respond(mp3(3.0), "audio/mpeg"), expect(extension="mp3"), earlier=first.value.facts)


@pytest.mark.parametrize("difference", [-1, 1, -1000, 1000])
def test_other_length_than_announced_is_refused(difference: int) -> None:
    """A body that is shorter or longer than announced is tried again, even if it is good audio by itself."""
    body = wav(8000)
    answer = MediaAnswer("audio/x-wav", len(body) + difference, respond(body).body)
    error = refusal(answer)
    assert isinstance(error, TemporaryError)
    assert str(error) == f"media_interrupted: {len(body)} of {len(body) + difference} bytes came"


@pytest.mark.parametrize(
    "breaks_with",
    [ConnectionResetError("peer 10.0.0.1"), TimeoutError("timed out"), OSError("secret"), BrokenPipeError()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("at", [0, 1, 4000, 16_044])
def test_broken_connection_is_tried_again(breaks_with: Exception, at: int) -> None:
    """A connection that breaks or stalls, also after the last byte, is a temporary failure without any detail of it."""
    error = refusal(respond(Wire(wav(8000)[:at], breaks_with=breaks_with)))
    assert isinstance(error, TemporaryError)
    kind = "ReadTimeoutError" if isinstance(breaks_with, TimeoutError) else "ProtocolError"
    assert str(error) == f"media_interrupted: {kind}"


class Clock:
    """A clock that goes on by a fixed step each time it is looked at."""

    def __init__(self, step_s: float) -> None:
        self._now, self._step_s = 1000.0, step_s

    def __call__(self) -> float:
        self._now += self._step_s
        return self._now


def test_download_is_bounded_in_time() -> None:
    """A download that trickles for longer than the limit is given up, however steadily bytes come."""
    wire = Wire(wav(8000), [1] * 16_044)
    error = refusal(respond(wire), clock=Clock(TOTAL_LIMIT_S / 100))
    assert isinstance(error, TemporaryError)
    assert str(error) == "media_too_slow: the download took over 2700 s"
    assert 90 <= wire.bytes_read <= 110


def test_slow_download_within_the_limit_is_accepted() -> None:
    """A download that takes almost as long as is allowed is accepted."""
    body = wav(200)
    assert receive(respond(Wire(body, [1] * len(body))), clock=Clock(TOTAL_LIMIT_S / (len(body) + 2)))[0] == body


@pytest.mark.parametrize(("beyond_s", "accepted"), [(0.0, True), (0.001, False)])
def test_the_limit_is_what_is_allowed(beyond_s: float, accepted: bool) -> None:
    """The last byte may come at the limit, and not later."""
    times = iter([0.0])
    stream = MediaStream(respond(wav(200)), expect(), lambda: next(times, TOTAL_LIMIT_S + beyond_s))
    if accepted:
        assert stream.readinto(bytearray(PART)) == len(wav(200))
    else:
        with pytest.raises(TemporaryError, match="media_too_slow"):
            stream.readinto(bytearray(PART))


def test_a_buffer_is_filled_whatever_the_pieces_are() -> None:
    """A buffer is filled before it is returned, however little comes at once; only the last one holds less."""
    body = wav(200)
    stream, buffer = MediaStream(respond(Wire(body, [7] * len(body))), expect()), bytearray(100)
    assert stream.readinto(buffer) == 100
    assert buffer == body[:100]
    rest = bytearray(10 * len(body))
    count = stream.readinto(rest)
    assert rest[:count] == body[100:]
    assert stream.readinto(buffer) == 0


# What is not audio


@pytest.mark.parametrize("content_type", ["audio/x-wav", "audio/wav", "application/octet-stream", ""])
@pytest.mark.parametrize("page", ERROR_PAGES)
def test_error_page_in_disguise_is_refused(page: str, content_type: str) -> None:
    """An error page is refused under any content type that audio comes with."""
    body = ERROR_PAGES[page]
    error = refusal(respond(body, content_type, length=len(body)))
    assert isinstance(error, ContentError)
    assert error.reason in ("not_audio", "media_cut")


@pytest.mark.parametrize("page", ["xml", "json", "text"])
def test_error_page_in_the_place_of_ciphertext_is_refused(page: str) -> None:
    """A short error page is not taken for the ciphertext of a short recording."""
    body = ERROR_PAGES[page]
    error = refusal(respond(body, length=len(body)), expect(encrypted=True, duration_s=1))
    assert error.reason == "not_ciphertext"


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "application/json",
        "application/xml",
        "text/xml",
        "application/problem+json",
        "audio/ogg",
        "video/mp4",
    ],
)
@pytest.mark.parametrize("extension", ["wav", "mp3"])
def test_other_content_types_are_refused_unread(content_type: str, extension: str) -> None:
    """What says to be something else than audio is refused before a byte is read."""
    wire = Wire(wav())
    with pytest.raises(ContentError, match=f"^not_audio: Twilio served {re.escape(content_type)}$"):
        MediaStream(respond(wire, content_type), expect(extension=extension))
    assert wire.bytes_read == 0


def test_format_must_be_the_one_asked_for() -> None:
    """WAV where MP3 was asked for, or the other way round, is refused by type and by content."""
    with pytest.raises(ContentError, match="not_audio"):
        MediaStream(respond(wav(), "audio/x-wav"), expect(extension="mp3"))
    with pytest.raises(ContentError, match="not_audio"):
        MediaStream(respond(mp3(), "audio/mpeg"), expect(extension="wav"))
    assert refusal(respond(wav(), "application/octet-stream"), expect(extension="mp3")).reason == "not_audio"
    assert refusal(respond(mp3(), "application/octet-stream"), expect(extension="wav")).reason == "not_audio"


def test_bad_body_is_refused_while_it_arrives() -> None:
    """What can't be audio is refused with the first part, before it could be stored."""
    stream = MediaStream(respond(b"<html>" * 100_000), expect())
    with pytest.raises(ContentError, match="not_audio"):
        stream.readinto(bytearray(1000))


def test_plain_audio_of_an_encrypted_recording_is_refused() -> None:
    """Where Twilio says that a recording is encrypted, plain audio is not the recording."""
    body = wav(8000)
    assert refusal(respond(body, length=len(body)), expect(encrypted=True)).reason == "not_ciphertext"


def test_ciphertext_of_a_plain_recording_is_refused() -> None:
    """Where Twilio says nothing of encryption, ciphertext is not audio."""
    assert refusal(respond(encrypt(wav(8000)))).reason == "not_audio"


# What is other audio


@pytest.mark.parametrize(("asked", "came"), [(2, 1), (1, 2)])
@pytest.mark.parametrize("extension", ["wav", "mp3"])
def test_other_channels_than_asked_are_refused(asked: int, came: int, extension: str) -> None:
    """Audio with other channels than the rung of the ladder asked for is refused."""
    body = wav(8000, came) if extension == "wav" else mp3(1.0, came)
    answer = respond(body, "audio/x-wav" if extension == "wav" else "audio/mpeg", length=len(body))
    error = refusal(answer, expect(extension=extension, requested_channels=asked))
    assert isinstance(error, ContentError)
    assert str(error) == f"channels_differ: {asked} channels were asked for and {came} came"


@pytest.mark.parametrize("came", [1, 2])
def test_any_channels_are_taken_where_none_were_asked(came: int) -> None:
    """Without `RequestedChannels` a recording comes as it is, a conference as mono."""
    assert receive(respond(wav(8000, came)), expect(resource_channels=2))[1].channels == came


@given(frames=st.integers(0, 40_000), stated_s=st.integers(0, 6))
def test_short_audio_may_differ_by_a_second(frames: int, stated_s: int) -> None:
    """Audio within a second of what Twilio states is accepted, anything else refused."""
    answer = respond(wav(frames))
    if abs(frames / 8000 - stated_s) <= 1:
        receive(answer, expect(duration_s=stated_s))
    else:
        error = refusal(answer, expect(duration_s=stated_s))
        assert isinstance(error, ContentError)
        assert str(error) == f"duration_differs: Twilio states {stated_s} s and other audio came"


@pytest.mark.parametrize(
    ("seconds", "accepted"), [(198, True), (202, True), (197.9, False), (202.1, False), (100, False)]
)
def test_long_audio_may_differ_by_one_percent(seconds: float, accepted: bool) -> None:
    """Over 100 s the tolerance is 1 % of what Twilio states."""
    answer = respond(wav(int(seconds * 8000)))
    if accepted:
        receive(answer, expect(duration_s=200))
    else:
        assert refusal(answer, expect(duration_s=200)).reason == "duration_differs"


def test_unstated_duration_is_not_compared() -> None:
    """Where Twilio states no duration there is nothing to compare."""
    receive(respond(wav(80_000)), expect(duration_s=None))


@pytest.mark.parametrize(
    ("requested", "resource", "channels", "accepted"),
    [
        (2, 2, 2, True),
        (2, 2, 1, False),
        (1, 1, 1, True),
        (1, 1, 2, False),
        (2, 1, 1, True),
        (2, 1, 2, True),
        (1, 2, 2, True),
        (None, 2, 1, True),
        (None, 1, 2, True),
        (2, None, 1, True),
        (None, None, 2, True),
    ],
)
def test_length_of_ciphertext_must_fit_the_layout(
    requested: int | None, resource: int | None, channels: int, accepted: bool
) -> None:
    """Ciphertext is as long as audio of the stated duration in the layout asked for or stated; where both agree, half
    of a recording does not pass as a whole one with fewer channels."""
    body = encrypt(wav(8000 * 60, channels))
    expected = expect(encrypted=True, requested_channels=requested, resource_channels=resource, duration_s=60)
    answer = respond(body, length=len(body))
    if accepted:
        receive(answer, expected)
    else:
        assert refusal(answer, expected).reason == "duration_differs"


@pytest.mark.parametrize("stated_s", [0, 10, 58, 62, 90, 240])
def test_ciphertext_of_another_length_is_refused(stated_s: int) -> None:
    """Ciphertext that fits the stated duration in no layout is refused."""
    body = encrypt(wav(8000 * 60, 2))
    error = refusal(respond(body, length=len(body)), expect(encrypted=True, duration_s=stated_s))
    assert error.reason == "duration_differs"
