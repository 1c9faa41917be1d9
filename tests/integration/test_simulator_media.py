"""The simulator serves real audio, in the channels asked for, and encrypts it as Twilio does."""

from __future__ import annotations

import base64
import hashlib
import io
import wave
from array import array
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from deploy.local.twilio import Account, SimRecording, Simulator
from tests.integration.simulator_tools import Rest


@pytest.fixture(scope="module")
def account() -> Account:
    return Account()


def shape(media: bytes) -> tuple[int, float]:
    """Return the channels and seconds of a WAV, which must be 16 bit at 8 kHz and of the length it says."""
    with wave.open(io.BytesIO(media)) as audio:
        assert (audio.getsampwidth(), audio.getframerate()) == (2, 8000)
        assert len(media) == 44 + audio.getnframes() * audio.getnchannels() * 2
        return audio.getnchannels(), audio.getnframes() / 8000


@pytest.mark.parametrize(
    ("kind", "query", "channels"),
    [
        ("call", "?RequestedChannels=2", 2),
        ("call", "?RequestedChannels=1", 1),
        ("call", "", 2),
        ("conference", "?RequestedChannels=2", 2),
        ("conference", "", 1),
        ("record_verb", "?RequestedChannels=1", 1),
        ("record_verb", "", 1),
    ],
)
def test_media_comes_in_the_channels_asked_for(
    sim: Simulator, rest: Rest, account: Account, kind: str, query: str, channels: int
) -> None:
    """Without RequestedChannels a call comes as it was created and a conference as mono."""
    made = sim.record(account.sid, kind, seconds=1.5)
    answer = rest.get(f"Recordings/{made.sid}.wav{query}")
    assert answer.headers["Content-Type"] == "audio/x-wav"
    assert shape(answer.content) == (channels, 1.5)


@pytest.mark.parametrize("options", [{"kind": "record_verb"}, {"channels": 1}, {"channels": 1, "track": "inbound"}])
def test_two_channels_of_a_mono_recording_are_refused(
    sim: Simulator, rest: Rest, account: Account, options: dict[str, object]
) -> None:
    """The answer is 400 with 16113, as XML because the path has no .json."""
    made = sim.record(account.sid, **options)
    answer = rest.get(f"Recordings/{made.sid}.wav?RequestedChannels=2")
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/xml")
    assert "<Code>16113</Code>" in answer.text


def test_media_without_an_extension_is_wav(sim: Simulator, rest: Rest, account: Account) -> None:
    """The path without an extension serves the same bytes as .wav."""
    made = sim.record(account.sid)
    assert rest.get(f"Recordings/{made.sid}").content == rest.get(f"Recordings/{made.sid}.wav").content


def test_mp3_is_mpeg_audio_at_32_kbit(sim: Simulator, rest: Rest, account: Account) -> None:
    """MP3 starts with an MPEG frame and takes 4 kB a second, also beyond the minute that is encoded once."""
    made = sim.record(account.sid, seconds=90)
    answer = rest.get(f"Recordings/{made.sid}.mp3?RequestedChannels=2")
    assert answer.headers["Content-Type"] == "audio/mpeg"
    assert answer.content[0] == 0xFF
    assert answer.content[1] & 0xE0 == 0xE0
    assert abs(len(answer.content) / 4000 - 90) < 1
    assert hashlib.sha256(answer.content).hexdigest() == sim.media_sha256(made.sid, 2, "mp3")


def test_the_caller_is_left_and_the_agent_right(sim: Simulator, account: Account) -> None:
    """Both channels hold speech, never at once, and the downmix is their sum."""
    made = sim.record(account.sid, seconds=16)
    both = array("h", sim.media_bytes(made.sid, 2)[44:])
    mixed = array("h", sim.media_bytes(made.sid, 1)[44:])
    left, right = both[0::2], both[1::2]
    assert max(left) > 1000
    assert max(right) > 1000
    assert all(mixed[i] == left[i] + right[i] and 0 in (left[i], right[i]) for i in range(128, len(mixed)))


def test_every_recording_has_other_bytes_and_always_the_same(sim: Simulator, rest: Rest, account: Account) -> None:
    """A hundred recordings of one length differ, and each is served twice alike."""
    made = [sim.record(account.sid, seconds=0.5) for _ in range(100)]
    digests = {sim.media_sha256(each.sid, channels) for each in made for channels in (1, 2)}
    assert len(digests) == 200
    twice = [rest.get(f"Recordings/{made[0].sid}.wav").content for _ in range(2)]
    assert twice[0] == twice[1] == sim.media_bytes(made[0].sid)


def test_what_was_served_is_written_down(sim: Simulator, rest: Rest, account: Account) -> None:
    """`served` has the channels asked, the bytes and the SHA-256 of what went over the wire."""
    made = sim.record(account.sid)
    content = rest.get(f"Recordings/{made.sid}.wav?RequestedChannels=2").content
    rest.get(f"Recordings/{made.sid}.json")
    (served,) = sim.served
    assert (served.recording_sid, served.requested_channels, served.format) == (made.sid, 2, "wav")
    assert (served.bytes, served.sha256) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("options", [{"status": "processing"}, {"status": "in-progress"}, {"status": "absent"}])
def test_media_that_is_not_there_is_not_found(
    sim: Simulator, rest: Rest, account: Account, options: dict[str, str]
) -> None:
    """Before completion, and where there is none, media answers 404 (20404)."""
    answer = rest.get(f"Recordings/{sim.record(account.sid, **options).sid}.wav")
    assert answer.status_code == 404
    assert "20404" in answer.text


def test_media_may_come_later_than_the_recording(account: Account) -> None:
    """With `media_ready_after` the media answers 404 until so many seconds after completion."""
    now = datetime(2026, 11, 23, tzinfo=UTC)
    with Simulator(accounts=[account], clock=lambda: now) as sim, Rest(sim, account) as rest:
        made = sim.record(account.sid, media_ready_after=30)
        assert rest.get(f"Recordings/{made.sid}.wav").status_code == 404
        now += timedelta(seconds=30)
        assert rest.get(f"Recordings/{made.sid}.wav").status_code == 200


def test_a_deleted_recording_has_no_media(sim: Simulator, rest: Rest, account: Account) -> None:
    """Media is gone for good, IncludeSoftDeleted or not; the ground truth remembers its hash."""
    made = sim.record(account.sid)
    digest = sim.media_sha256(made.sid)
    assert rest.delete(f"Recordings/{made.sid}.json").status_code == 204
    assert rest.get(f"Recordings/{made.sid}.wav?IncludeSoftDeleted=true").status_code == 404
    assert sim.media_sha256(made.sid) == digest


def test_framing_and_header_sizes_can_be_chosen(sim: Simulator, rest: Rest, account: Account) -> None:
    """A recording may come chunked, or up to the end of the connection, or with placeholder sizes."""
    chunked = rest.get(f"Recordings/{sim.record(account.sid, framing='chunked').sid}.wav")
    closed = rest.get(f"Recordings/{sim.record(account.sid, framing='close').sid}.wav")
    streamed = rest.get(f"Recordings/{sim.record(account.sid, placeholder_sizes=True).sid}.wav")
    assert chunked.headers["Transfer-Encoding"] == "chunked"
    assert closed.headers["Connection"] == "close"
    assert "Content-Length" not in closed.headers
    assert len(chunked.content) == len(closed.content) == len(streamed.content)
    assert streamed.content[4:8] == streamed.content[40:44] == b"\xff" * 4


def test_a_large_recording_is_streamed(sim: Simulator, rest: Rest, account: Account) -> None:
    """200 MB come whole and with the hash that was announced."""
    made = sim.record(account.sid, size_bytes=200_000_044)
    digest = hashlib.sha256()
    with rest.get(f"Recordings/{made.sid}.wav", stream=True) as answer:
        assert answer.headers["Content-Length"] == "200000044"
        for block in answer.iter_content(1 << 20):
            digest.update(block)
    assert digest.hexdigest() == sim.media_sha256(made.sid)
    assert made.seconds == 6250


def test_a_recording_beyond_4_gib_has_placeholder_sizes(sim: Simulator, account: Account) -> None:
    """A WAV header cannot say more than 4 GiB."""
    made = sim.record(account.sid, size_bytes=5_000_000_044)
    body = sim.media(made.sid)
    head = bytes(next(body.blocks()))
    assert body.length == 5_000_000_044
    assert head[4:8] == head[40:44] == b"\xff" * 4


def decrypt(account: Account, details: dict[str, str], ciphertext: bytes) -> bytes:
    """Decrypt as Twilio's documentation says, with the cryptography library's own words."""
    key = load_pem_private_key(account.private_key_pem(), None)
    cek = key.decrypt(base64.b64decode(details["encryption_cek"]), padding.OAEP(padding.MGF1(SHA256()), SHA256(), None))
    return AESGCM(cek).decrypt(base64.b64decode(details["encryption_iv"]), ciphertext, None)


def encrypted_media(rest: Rest, made: SimRecording) -> tuple[dict[str, str], bytes]:
    details = rest.get(f"Recordings/{made.sid}.json").json()["encryption_details"]
    return details, rest.get(f"Recordings/{made.sid}.wav?RequestedChannels=2").content


def test_encrypted_media_decrypts_with_the_accounts_key(sim: Simulator, rest: Rest, account: Account) -> None:
    """The ciphertext is the WAV and a tag of 16 bytes, and unwraps with the exposed private key."""
    made = sim.record(account.sid, encrypted=True, seconds=2)
    details, ciphertext = encrypted_media(rest, made)
    plaintext = decrypt(account, details, ciphertext)
    assert len(ciphertext) == len(plaintext) + 16
    assert not ciphertext.startswith(b"RIFF")
    assert shape(plaintext) == (2, 2.0)
    assert details["encryption_public_key_sid"] == account.public_key_sid


@pytest.mark.parametrize("at", [0, 5000, -17, -1])
def test_encrypted_media_is_authenticated(sim: Simulator, rest: Rest, account: Account, at: int) -> None:
    """With one bit changed anywhere it does not decrypt."""
    details, ciphertext = encrypted_media(rest, sim.record(account.sid, encrypted=True, seconds=2))
    changed = bytearray(ciphertext)
    changed[at] ^= 1
    with pytest.raises(InvalidTag):
        decrypt(account, details, bytes(changed))


def test_mp3_of_an_encrypted_recording_is_refused(sim: Simulator, rest: Rest, account: Account) -> None:
    """Twilio cannot convert what it cannot decrypt: 16109."""
    answer = rest.get(f"Recordings/{sim.record(account.sid, encrypted=True).sid}.mp3")
    assert answer.status_code == 400
    assert "16109" in answer.text


@pytest.mark.parametrize("pkcs1", [False, True])
def test_private_keys_come_in_both_layouts(account: Account, pkcs1: bool) -> None:
    """PKCS#8 and PKCS#1, with and without a passphrase, are the same key."""
    plain = load_pem_private_key(account.private_key_pem(pkcs1=pkcs1), None)
    locked = load_pem_private_key(account.private_key_pem(b"secret", pkcs1=pkcs1), b"secret")
    assert plain.private_numbers() == locked.private_numbers()
    assert (b"BEGIN RSA PRIVATE KEY" in account.private_key_pem(pkcs1=pkcs1)) == pkcs1


def test_serves_64_connections_at_once(sim: Simulator, account: Account) -> None:
    """Sixty-four clients that download together all get every byte."""
    made = sim.record(account.sid, seconds=5)
    expected = sim.media_sha256(made.sid, 2)

    def download(_: int) -> str:
        with Rest(sim, account) as rest:
            return hashlib.sha256(rest.get(f"Recordings/{made.sid}.wav?RequestedChannels=2").content).hexdigest()

    with ThreadPoolExecutor(64) as pool:
        assert set(pool.map(download, range(64))) == {expected}
