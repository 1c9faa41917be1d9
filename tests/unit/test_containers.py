"""What audio looks like from the inside."""

import io
import itertools
import random
import struct
import wave
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.audio_bytes import ERROR_PAGES, PLACEHOLDERS, chunk, fmt, id3, mp3, wav
from workers.containers import AudioFacts, Ciphertext, Container, Mp3, Wav, plausible_ciphertext_seconds
from workers.errors import ContentError

MAKERS: list[Callable[[], Container]] = [Wav, Mp3, Ciphertext]


def look(container: Container, *blocks: bytes, total: int | None = None) -> AudioFacts:
    """Feed blocks and judge; `total` is the length to pretend."""
    for block in blocks:
        container.feed(block)
    return container.finish(sum(map(len, blocks)) if total is None else total)


def outcome(container: Container, *blocks: bytes) -> AudioFacts | str:
    """Return the facts, or the reason of the refusal."""
    try:
        return look(container, *blocks)
    except ContentError as error:
        return error.reason


def refusal(container: Container, *blocks: bytes, total: int | None = None) -> str:
    with pytest.raises(ContentError) as caught:
        look(container, *blocks, total=total)
    return caught.value.reason


def cut(body: bytes, cuts: set[int]) -> list[bytes]:
    return [body[start:stop] for start, stop in itertools.pairwise([0, *sorted(cuts), len(body)])]


# WAV


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_wav_of_the_standard_library(channels: int, rate: int) -> None:
    """A WAV file of Python's own module says its channels, rate and duration, and proves its length."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(bytes(rate * channels * 2 * 3))
    assert look(Wav(), file.getvalue()) == AudioFacts(channels, rate, 3.0, length_proven=True)


def test_wav_cut_at_every_byte_is_refused() -> None:
    """A WAV file that says its sizes is refused when it ends at any byte but the last."""
    body = wav(8)
    assert look(Wav(), body).length_proven
    for end in range(len(body)):
        assert refusal(Wav(), body[:end]) == "media_cut", end


def test_wav_with_bytes_left_over_is_refused() -> None:
    """Bytes after the size that the file states are not audio."""
    assert refusal(Wav(), wav(8) + b"\x00") == "media_cut"


@pytest.mark.parametrize("data_size", PLACEHOLDERS)
@pytest.mark.parametrize("riff_size", PLACEHOLDERS)
def test_placeholder_sizes_are_legal_and_prove_nothing(riff_size: int, data_size: int) -> None:
    """A streamed WAV may state no sizes: it is audio, and its length must be proven by something else."""
    body = wav(8000, riff_size=riff_size, data_size=data_size)
    assert look(Wav(), body) == AudioFacts(1, 8000, 1.0, length_proven=False)


@pytest.mark.parametrize("data_size", PLACEHOLDERS)
def test_true_riff_size_proves_the_length(data_size: int) -> None:
    """The RIFF size alone proves the length where the data's size is a placeholder."""
    body = wav(8000, data_size=data_size)
    assert look(Wav(), body) == AudioFacts(1, 8000, 1.0, length_proven=True)
    assert refusal(Wav(), body[:-2]) == "media_cut"


@pytest.mark.parametrize("riff_size", [1, 35, 0x7FFFEFFF, 0x80000000, 0xFFFFFEFF])
def test_wrong_riff_size_is_refused(riff_size: int) -> None:
    """A size that is neither right nor a known placeholder means that something is missing."""
    assert refusal(Wav(), wav(8, riff_size=riff_size)) == "media_cut"


@pytest.mark.parametrize("data_size", [17, 0x7FFFEFFF, 0x80000000, 0xFFFFFEFF])
def test_data_longer_than_the_file_is_refused(data_size: int) -> None:
    """A data chunk that says to be longer than what came was cut, also where the RIFF size is right."""
    assert refusal(Wav(), wav(8, data_size=data_size)) == "media_cut"


@pytest.mark.parametrize(
    "total",
    [3_000_000_000, 2**31 - 4096, 2**31 - 1, 2**31, 2**31 + 44, 2**32 - 300, 2**32 - 1, 2**32 + 7],
)
def test_sizes_of_gigabytes_are_lengths(total: int) -> None:
    """Sizes are unsigned and exact up to 4 GiB, also where they look like placeholders."""
    header = b"RIFF" + struct.pack("<I", total - 8) + b"WAVE" + fmt(2) + b"data" + struct.pack("<I", total - 44)
    facts = look(Wav(), header, total=total)
    assert facts == AudioFacts(2, 8000, (total - 44) / 32000, length_proven=True)


@pytest.mark.parametrize("total", [3_000_000_000, 2**31 - 5000, 2**31 + 44, 2**32 - 300])
@pytest.mark.parametrize("missing", [1, 2, 4096, 1_500_000_000])
def test_cut_of_gigabytes_is_refused(total: int, missing: int) -> None:
    """A file of gigabytes that ends early is refused like a small one."""
    header = b"RIFF" + struct.pack("<I", total - 8) + b"WAVE" + fmt(2) + b"data" + struct.pack("<I", total - 44)
    assert refusal(Wav(), header, total=total - missing) == "media_cut"


@pytest.mark.parametrize("total", [2**31, 2**32 - 1])
@pytest.mark.parametrize("missing", [1, 4096])
def test_size_that_looks_like_a_placeholder_never_proves_a_cut_file(total: int, missing: int) -> None:
    """A cut file whose true size can't be told from a placeholder is not refused by its size, and not proven either."""
    header = b"RIFF" + struct.pack("<I", total - 8) + b"WAVE" + fmt(2) + b"data" + struct.pack("<I", total - 44)
    assert not look(Wav(), header, total=total - missing).length_proven


@pytest.mark.parametrize("text", [b"", b"made by nobody", b"odd"])
@pytest.mark.parametrize("before", [True, False])
def test_other_chunks_are_not_audio(text: bytes, before: bool) -> None:
    """A LIST chunk before or after the data, of odd length too, does not count as audio."""
    extra = chunk(b"LIST", text)
    body = wav(8000, before=extra) if before else wav(8000, after=extra)
    assert look(Wav(), body) == AudioFacts(1, 8000, 1.0, length_proven=True)


def test_fmt_may_be_longer() -> None:
    """A fmt chunk with an extension, as other encoders write it, is read."""
    body = b"WAVE" + fmt(2, extra=b"\x00\x00") + chunk(b"fact", bytes(4)) + chunk(b"data", bytes(32000))
    riff = b"RIFF" + struct.pack("<I", len(body)) + body
    assert look(Wav(), riff) == AudioFacts(2, 8000, 1.0, length_proven=True)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"WAVE" + chunk(b"data", bytes(32)) + fmt(), "wav_malformed"),
        (b"WAVE" + chunk(b"fmt ", bytes(16)) + chunk(b"data", bytes(32)), "wav_malformed"),
        (b"WAVE" + chunk(b"fmt ", bytes(4)) + chunk(b"data", bytes(32)), "wav_malformed"),
        (b"WAVE" + fmt(0, per_second=5) + chunk(b"data", bytes(32)), "wav_malformed"),
        (b"WAVE" + fmt(1, rate=0, per_second=5) + chunk(b"data", bytes(32)), "wav_malformed"),
        (b"WAVE" + fmt(), "media_cut"),
        (b"WAVE", "media_cut"),
        (b"WAVE" + fmt() + chunk(b"LIST", bytes(70_000)) + chunk(b"data", bytes(32)), "wav_without_data"),
        (b"AVI " + fmt() + chunk(b"data", bytes(32)), "not_audio"),
    ],
)
def test_malformed_wav_is_refused(body: bytes, reason: str) -> None:
    """A RIFF file whose chunks are in the wrong order, unusable, missing or not of audio is refused."""
    assert refusal(Wav(), b"RIFF" + struct.pack("<I", len(body)) + body) == reason


def test_header_is_bounded() -> None:
    """A body that begins like a WAV file and has no data in its first 64 KiB is refused while it is arriving."""
    start, data = b"RIFF" + bytes(4) + b"WAVE" + fmt(), chunk(b"data", bytes(8))
    within, beyond = (chunk(b"LIST", bytes(2**16 - len(start) - 16 + more)) for more in (0, 2))
    look(Wav(), start, within, data)
    container = Wav()
    container.feed(start + beyond)
    with pytest.raises(ContentError, match="wav_without_data"):
        container.feed(data)


@given(
    frames=st.integers(0, 200),
    channels=st.sampled_from([1, 2]),
    before=st.binary(max_size=40),
    after=st.binary(max_size=40),
    riff_size=st.none() | st.sampled_from(PLACEHOLDERS) | st.integers(0, 2**32 - 1),
    cuts=st.sets(st.integers(0, 200)),
    end=st.none() | st.integers(0, 200),
)
def test_wav_is_judged_alike_in_any_blocks(
    frames: int, channels: int, before: bytes, after: bytes, riff_size: int | None, cuts: set[int], end: int | None
) -> None:
    """However a WAV file is cut into blocks, the judgement is the same."""
    extra = chunk(b"LIST", before) if before else b""
    body = wav(frames, channels, before=extra, after=chunk(b"id3 ", after), riff_size=riff_size)[:end]
    assert outcome(Wav(), *cut(body, {at for at in cuts if at < len(body)})) == outcome(Wav(), body)


# MP3


@pytest.mark.parametrize(
    ("rate", "kbps"),
    [(8000, 32), (16000, 32), (22050, 32), (44100, 128)],
    ids=["MPEG-2.5", "MPEG-2", "MPEG-2", "MPEG-1"],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_of_a_real_encoder(rate: int, kbps: int, channels: int) -> None:
    """An MP3 file of LAME says its channels and rate, and its duration up to the encoder's padding."""
    facts = look(Mp3(), mp3(3.0, channels, rate, kbps))
    assert (facts.channels, facts.sample_rate, facts.length_proven) == (channels, rate, False)
    assert facts.duration_seconds is not None
    assert 3.0 <= facts.duration_seconds <= 3.3


@pytest.mark.parametrize(("rate", "kbps", "frame_bytes", "samples"), [(8000, 32, 288, 576), (32000, 128, 576, 1152)])
def test_seconds_of_mp3(rate: int, kbps: int, frame_bytes: int, samples: int) -> None:
    """The duration is that of all frames, of which each has its number of samples."""
    body = mp3(20.0, 1, rate, kbps)
    assert look(Mp3(), body).duration_seconds == pytest.approx(len(body) / frame_bytes * samples / rate, rel=1e-9)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 5000, 40_000, 5_000_000])
def test_id3_tag_is_skipped(length: int) -> None:
    """An ID3v2 tag before the frames is no audio and no error."""
    assert look(Mp3(), id3(bytes(length)) + mp3()) == look(Mp3(), mp3())


def test_mp3_cut_inside_a_frame_is_refused() -> None:
    """An MP3 file that ends anywhere but between two frames is refused."""
    body = mp3(0.3)
    whole = [end for end in range(len(body) + 1) if isinstance(outcome(Mp3(), body[:end]), AudioFacts)]
    frame = whole[0]
    assert frame == 72 * 32000 // 8000  # 32 kbit/s at 8 kHz
    assert whole == list(range(frame, len(body) + 1, frame))


def test_mp3_with_anything_after_its_frames_is_refused() -> None:
    """Bytes between or after frames are not audio."""
    assert refusal(Mp3(), mp3() + ERROR_PAGES["json"]) == "not_audio"
    assert refusal(Mp3(), mp3() + b"\x00") == "media_cut"
    assert refusal(Mp3(), mp3() + bytes(500)) == "not_audio"


def test_tag_alone_is_no_audio() -> None:
    """A tag without a frame after it is refused, and so is a second tag."""
    assert refusal(Mp3(), id3(bytes(100))) == "not_audio"
    assert refusal(Mp3(), id3(bytes(100)) * 2 + mp3()) == "not_audio"
    assert refusal(Mp3(), id3(bytes(100))[:50]) == "media_cut"
    assert refusal(Mp3(), mp3() + id3(bytes(100)) + mp3()) == "not_audio"


def test_frames_of_different_audio_are_refused() -> None:
    """Frames that change their channels or their rate are not one recording."""
    assert refusal(Mp3(), mp3(channels=1) + mp3(channels=2)) == "not_audio"
    assert refusal(Mp3(), mp3(rate=8000) + mp3(rate=16000)) == "not_audio"


@pytest.mark.parametrize(
    ("byte", "value"),
    [(0, 0xFE), (1, 0x1F), (1, 0xEB), (1, 0xE5), (1, 0xE7), (1, 0xE1), (2, 0x08), (2, 0xF8), (2, 0x4C)],
    ids=[
        "sync",
        "sync",
        "reserved version",
        "layer II",
        "layer I",
        "reserved layer",
        "free rate",
        "bad rate",
        "bad Hz",
    ],
)
def test_frame_header_with_reserved_values_is_refused(byte: int, value: int) -> None:
    """What is no header of a layer III frame, or has values that mean nothing, is refused."""
    body = bytearray(mp3())
    body[byte] = value
    assert refusal(Mp3(), bytes(body)) == "not_audio"


@given(cuts=st.sets(st.integers(0, 4000), max_size=30), end=st.none() | st.integers(0, 4000), tag=st.integers(-1, 200))
def test_mp3_is_judged_alike_in_any_blocks(cuts: set[int], end: int | None, tag: int) -> None:
    """However an MP3 file is cut into blocks, the judgement is the same."""
    body = ((id3(bytes(tag)) if tag >= 0 else b"") + mp3())[:end]
    assert outcome(Mp3(), *cut(body, {at for at in cuts if at < len(body)})) == outcome(Mp3(), body)


# Ciphertext


@pytest.mark.parametrize("size", [60, 61, 500, 1023, 1024, 5000, 100_000])
@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_may_be_ciphertext(size: int, seed: int) -> None:
    """What looks like AES output is accepted; nothing can be said of the audio inside."""
    assert look(Ciphertext(), random.Random(seed).randbytes(size)) == AudioFacts(None, None, None, length_proven=False)


@pytest.mark.parametrize("size", [0, 1, 16, 17, 44, 59])
def test_too_short_for_ciphertext_is_refused(size: int) -> None:
    """Fewer bytes than a WAV header and a tag can't be an encrypted recording."""
    assert refusal(Ciphertext(), random.Random(1).randbytes(size)) == "media_cut"


@pytest.mark.parametrize(
    "body",
    [
        wav(8000),
        wav(100),
        bytes(5000),
        bytes(range(256)) * 4 + bytes(3000),
        ERROR_PAGES["xml"],
        ERROR_PAGES["json"],
        ERROR_PAGES["html"],
        ERROR_PAGES["text"],
    ],
    ids=["wav", "short wav", "zeros", "pattern", "xml", "json", "html", "text"],
)
def test_what_is_no_ciphertext_is_refused(body: bytes) -> None:
    """Plain audio, silence and error pages are refused in the place of an encrypted recording."""
    assert refusal(Ciphertext(), body) == "not_ciphertext"


def test_plain_speech_without_a_header_is_refused() -> None:
    """Samples of 16 bit audio have a pattern that ciphertext doesn't have."""
    samples = random.Random(3)
    body = b"".join(struct.pack("<h", int(samples.gauss(0, 500))) for _ in range(20_000))
    assert refusal(Ciphertext(), body) == "not_ciphertext"


def test_the_beginning_of_ciphertext_is_looked_at() -> None:
    """Of a recording of any length 64 KiB are kept and measured, whatever comes after them."""
    beginning = random.Random(4).randbytes(64 * 1024)
    cut_anywhere = [beginning[:100], beginning[100:50_000], beginning[50_000:]]
    assert look(Ciphertext(), *cut_anywhere, *[bytes(256 * 1024)] * 4) == AudioFacts(None, None, None, False)
    assert refusal(Ciphertext(), beginning[:1000], bytes(64 * 1024)) == "not_ciphertext"


@pytest.mark.parametrize(("seconds", "channels"), [(0, 1), (1, 1), (1, 2), (3600, 2)])
def test_seconds_of_ciphertext(seconds: int, channels: int) -> None:
    """A tag and a header aside, the length of ciphertext is that of the audio."""
    total = 16 + 44 + seconds * 16_000 * channels
    assert plausible_ciphertext_seconds(total, channels) == seconds


def test_seconds_of_too_little_ciphertext() -> None:
    """Less than a header holds no audio, not less than none."""
    assert plausible_ciphertext_seconds(10, 2) == 0


def riff(body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(body)) + body


TOLD: list[tuple[Callable[[], Container], bytes, str]] = [
    (Wav, riff(b"WAVE" + fmt() + chunk(b"LIST", bytes(70_000))), "wav_without_data: no data chunk in the first 64 KiB"),
    (Wav, b"<html>", "not_audio: the body does not begin like a WAV file"),
    (Wav, riff(b"WAVE" + chunk(b"data", b"")), "wav_malformed: the data chunk comes before the fmt chunk"),
    (Wav, riff(b"WAVE" + chunk(b"fmt ", bytes(16))), "wav_malformed: the fmt chunk is not usable"),
    (Wav, wav()[:20], "media_cut: the body ends inside the WAV header"),
    (Wav, wav() + b"x", "media_cut: the RIFF size and the bytes received differ"),
    (Wav, wav(8, data_size=17), "media_cut: the data chunk is longer than what was received"),
    (Mp3, bytes(100), "not_audio: the body is not a run of MP3 frames"),
    (Mp3, mp3(channels=1) + mp3(channels=2), "not_audio: the MP3 frames differ in channels or sample rate"),
    (Mp3, mp3()[:-1], "media_cut: the body ends inside an MP3 frame"),
    (Mp3, b"", "not_audio: the body has no MP3 frame"),
    (Ciphertext, b"x", "media_cut: the body is too short to hold an encrypted WAV file and its tag"),
    (Ciphertext, bytes(5000), "not_ciphertext: the recording is said to be encrypted and the body is not"),
]


@pytest.mark.parametrize(("make", "body", "told"), TOLD, ids=[told for _, _, told in TOLD])
def test_a_person_is_told_what_is_wrong(make: Callable[[], Container], body: bytes, told: str) -> None:
    """Each refusal says in words what it saw, for whoever reads the quarantine."""
    with pytest.raises(ContentError) as caught:
        look(make(), body)
    assert str(caught.value) == told


# Whatever comes


@pytest.mark.parametrize("make", [Wav, Mp3])
@pytest.mark.parametrize("page", ERROR_PAGES)
def test_error_pages_are_refused(make: Callable[[], Container], page: str) -> None:
    """An error page, of whatever kind and length, is not audio."""
    assert refusal(make(), ERROR_PAGES[page]) in ("not_audio", "media_cut")


@pytest.mark.parametrize("make", [Wav, Mp3])
@pytest.mark.parametrize("page", ["xml", "json", "html", "text"])
def test_error_pages_are_refused_at_once(make: Callable[[], Container], page: str) -> None:
    """An error page is refused with its first bytes, before anything is stored."""
    with pytest.raises(ContentError, match="not_audio"):
        make().feed(ERROR_PAGES[page][:16])


def test_one_format_is_not_the_other() -> None:
    """A WAV file is no MP3 file, and the other way round."""
    assert refusal(Mp3(), wav()) == "not_audio"
    assert refusal(Wav(), mp3()) == "not_audio"


@pytest.mark.parametrize("make", MAKERS)
@given(
    blocks=st.lists(
        st.binary(max_size=60)
        | st.sampled_from(
            [b"RIFF", b"WAVE", fmt(), fmt(2), chunk(b"data", bytes(8)), b"data", b"fmt ", b"ID3", mp3(0.1)]
        ),
        max_size=8,
    ),
    cuts=st.sets(st.integers(0, 400), max_size=8),
)
def test_any_bytes_are_judged(make: Callable[[], Container], blocks: list[bytes], cuts: set[int]) -> None:
    """Whatever bytes come, in whatever blocks, the outcome is facts or `ContentError`, and always the same."""
    body = b"".join(blocks)
    assert outcome(make(), *cut(body, {at for at in cuts if at < len(body)})) == outcome(make(), body)
