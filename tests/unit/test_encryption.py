"""What decrypting a recording gives, what it refuses, and what it leaves behind: nothing."""

import base64
import io
import json
import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from app.recording import Encryption
from deploy.local.twilio import Account
from deploy.local.twilio.encryption import ContentKey, KeyPair
from deploy.local.twilio.recordings import new_recording
from workers.encryption import BLOCK_BYTES, decrypt, load_private_key
from workers.errors import ArchiverError, DecryptionError, ReleaseError

ROOT = Path(__file__).resolve().parents[2]
PUBLIC_KEY_SID = "CR" + "c1" * 16
PASSPHRASE = b"correct horse"
LAYOUTS = {"PKCS#1": PrivateFormat.TraditionalOpenSSL, "PKCS#8": PrivateFormat.PKCS8}


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    """Return the account's private key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def other_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True)
class Sample:
    """A recording as Twilio encrypts it; `media` is the ciphertext with its tag."""

    plaintext: bytes
    media: bytes
    encryption: Encryption


def wrap(key: rsa.RSAPrivateKey, cek: bytes, digest: type[HashAlgorithm] = SHA256) -> str:
    oaep = padding.OAEP(padding.MGF1(digest()), digest(), None)
    return base64.b64encode(key.public_key().encrypt(cek, oaep)).decode()


def encrypted(key: rsa.RSAPrivateKey, plaintext: bytes) -> Sample:
    cek, iv = secrets.token_bytes(32), secrets.token_bytes(12)
    encryption = Encryption("rsa-aes", PUBLIC_KEY_SID, wrap(key, cek), base64.b64encode(iv).decode())
    return Sample(plaintext, AESGCM(cek).encrypt(iv, plaintext, None), encryption)


@pytest.fixture(scope="module")
def sample(key: rsa.RSAPrivateKey) -> Sample:
    """Return a recording of two and a half blocks."""
    return encrypted(key, secrets.token_bytes(BLOCK_BYTES * 5 // 2))


def opened(media: bytes, encryption: Encryption, key: rsa.RSAPrivateKey) -> bytes:
    """Decrypt in a directory of its own, and look that nothing but the result, if any, is in there afterwards."""
    with tempfile.TemporaryDirectory() as name:
        destination = Path(name) / "recording.wav"
        try:
            decrypt(io.BytesIO(media), destination, encryption, key)
        except BaseException:
            assert os.listdir(name) == []
            raise
        assert os.listdir(name) == ["recording.wav"]
        return destination.read_bytes()


def refusal(media: bytes, encryption: Encryption, key: rsa.RSAPrivateKey) -> str:
    """Return the reason why a recording is refused."""
    with pytest.raises(DecryptionError) as caught:
        opened(media, encryption, key)
    assert "\n" not in str(caught.value)
    return caught.value.reason


# What is given


def test_the_original_comes_back(key: rsa.RSAPrivateKey, sample: Sample) -> None:
    """Decrypting gives the plaintext byte for byte, without the tag."""
    assert opened(sample.media, sample.encryption, key) == sample.plaintext


@given(length=st.integers(0, 64) | st.sampled_from([BLOCK_BYTES + each for each in range(-17, 18)]))
def test_any_length_comes_back(key: rsa.RSAPrivateKey, length: int) -> None:
    """It does so at any length, however the tag falls across blocks."""
    made = encrypted(key, bytes(length))
    assert opened(made.media, made.encryption, key) == made.plaintext


@given(data=st.data())
def test_any_pace_will_do(key: rsa.RSAPrivateKey, data: st.DataObject) -> None:
    """A stream may give fewer bytes than asked, as a network does."""
    made = encrypted(key, bytes(range(100)))

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(data.draw(st.integers(1, 40)))

    with tempfile.TemporaryDirectory() as name:
        decrypt(Slow(made.media), Path(name) / "out", made.encryption, key)
        assert (Path(name) / "out").read_bytes() == made.plaintext


def test_a_published_vector(key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    """Test case 14 of the GCM specification (McGrew and Viega): key, IV and plaintext are zeros."""
    media = bytes.fromhex("cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919")
    encryption = Encryption("rsa-aes", PUBLIC_KEY_SID, wrap(key, bytes(32)), base64.b64encode(bytes(12)).decode())
    assert opened(media, encryption, key) == bytes(16)


@pytest.mark.parametrize("spelling", ["resource", "callback"])
def test_what_the_simulator_encrypts(spelling: str) -> None:
    """A recording of the simulator decrypts to its WAV, with its details in either of Twilio's spellings."""
    recording = new_recording(Account(), datetime.now(UTC), "dial", 2, None, encrypted=True)
    content_key = recording.content_key
    assert content_key is not None
    details = content_key.resource_details() if spelling == "resource" else content_key.callback_details()
    encryption = Encryption.parse(details)
    assert encryption is not None
    private_key = load_private_key(content_key.key_pair.private_key_pem(PASSPHRASE, pkcs1=True), PASSPHRASE)
    wav = opened(recording.media().read(), encryption, private_key)
    assert wav == recording.audio(recording.channels).read()
    assert wav.startswith(b"RIFF")


def test_a_path_is_read_as_well(key: rsa.RSAPrivateKey, sample: Sample, tmp_path: Path) -> None:
    """The ciphertext may be a file; it stays as it is."""
    source, destination = tmp_path / "recording.enc", tmp_path / "recording.wav"
    source.write_bytes(sample.media)
    decrypt(source, destination, sample.encryption, key)
    assert destination.read_bytes() == sample.plaintext
    assert source.read_bytes() == sample.media


def test_only_the_owner_may_read(key: rsa.RSAPrivateKey, sample: Sample, tmp_path: Path) -> None:
    """The plaintext has mode 0600, while it grows as well, and its name only at the end."""
    destination = tmp_path / "recording.wav"
    seen: list[tuple[bool, int]] = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            seen.extend((path == destination, stat.S_IMODE(path.stat().st_mode)) for path in tmp_path.iterdir())
            return super().read(size)

    decrypt(Watched(sample.media), destination, sample.encryption, key)
    assert set(seen) == {(False, 0o600)}
    assert stat.S_IMODE(destination.stat().st_mode) == 0o600


# What is refused


@given(data=st.data())
def test_one_changed_byte_is_refused(key: rsa.RSAPrivateKey, sample: Sample, data: st.DataObject) -> None:
    """One byte changed anywhere, the tag included: refused, and no file is left."""
    end = len(sample.media) - 1
    position = data.draw(st.integers(0, end) | st.integers(end - 15, end))
    changed = bytearray(sample.media)
    changed[position] ^= data.draw(st.integers(1, 255))
    assert refusal(bytes(changed), sample.encryption, key) == "not_authentic"


@given(data=st.data())
def test_a_truncated_recording_is_refused(key: rsa.RSAPrivateKey, sample: Sample, data: st.DataObject) -> None:
    """Cut short at any place, before or within the tag: refused, and no file is left."""
    end = len(sample.media) - 1
    length = data.draw(st.integers(0, end) | st.integers(0, 40) | st.integers(end - 40, end))
    assert refusal(sample.media[:length], sample.encryption, key) == "not_authentic"


def test_more_than_the_recording_is_refused(key: rsa.RSAPrivateKey, sample: Sample) -> None:
    """Bytes after the tag are no part of a recording."""
    assert refusal(sample.media + b"\0", sample.encryption, key) == "not_authentic"


@given(position=st.integers(0, 11), change=st.integers(1, 255))
def test_another_iv_is_refused(key: rsa.RSAPrivateKey, sample: Sample, position: int, change: int) -> None:
    """One byte changed in the IV: refused."""
    iv = bytearray(base64.b64decode(sample.encryption.iv))
    iv[position] ^= change
    encryption = replace(sample.encryption, iv=base64.b64encode(iv).decode())
    assert refusal(sample.media, encryption, key) == "not_authentic"


@given(position=st.integers(0, 255), change=st.integers(1, 255))
def test_a_changed_content_key_is_refused(key: rsa.RSAPrivateKey, sample: Sample, position: int, change: int) -> None:
    """One byte changed in the wrapped content key: it does not unwrap."""
    wrapped = bytearray(base64.b64decode(sample.encryption.encrypted_cek))
    wrapped[position] ^= change
    encryption = replace(sample.encryption, encrypted_cek=base64.b64encode(wrapped).decode())
    assert refusal(sample.media, encryption, key) == "wrong_key"


def test_another_key_is_refused(other_key: rsa.RSAPrivateKey, sample: Sample) -> None:
    """A private key that is not the recording's is refused, and the message names the one that is."""
    with pytest.raises(DecryptionError, match=f"^wrong_key: .*{PUBLIC_KEY_SID}$"):
        opened(sample.media, sample.encryption, other_key)


def test_a_longer_key_is_refused(sample: Sample) -> None:
    """Nor is one of another length."""
    assert refusal(sample.media, sample.encryption, rsa.generate_private_key(65537, 3072)) == "wrong_key"


def test_the_hash_is_sha256(key: rsa.RSAPrivateKey, sample: Sample) -> None:
    """A content key wrapped with OAEP's default hash, SHA-1, is not one of Twilio's."""
    encryption = replace(sample.encryption, encrypted_cek=wrap(key, bytes(32), SHA1))
    assert refusal(sample.media, encryption, key) == "wrong_key"


@pytest.mark.parametrize(
    ("details", "mend"),
    [
        ({"type": "rsa-chacha"}, "type must be rsa-aes"),
        ({"iv": base64.b64encode(bytes(16)).decode()}, "iv must be 12 bytes"),
        ({"iv": ""}, "iv must be 12 bytes"),
        ({"iv": "not base64!"}, "iv must be base64"),
        ({"iv": "AAAA!AAAAAAAAAAAA"}, "iv must be base64"),  # 12 bytes to who overlooks what is no base64
        ({"iv": "é"}, "iv must be base64"),
        ({"encrypted_cek": "not base64!"}, "encrypted_cek must be base64"),
    ],
)
def test_malformed_details_are_refused(
    key: rsa.RSAPrivateKey, sample: Sample, details: dict[str, str], mend: str
) -> None:
    """Details that are not as documented are refused by name, before anything is read, and never echoed."""
    with pytest.raises(DecryptionError, match=f"^malformed_details: {mend}$"):
        opened(sample.media, replace(sample.encryption, **details), key)


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33])
def test_a_content_key_of_another_length_is_refused(key: rsa.RSAPrivateKey, sample: Sample, length: int) -> None:
    """Only 256 bits are a content key: AES-128 is never fallen back to."""
    encryption = replace(sample.encryption, encrypted_cek=wrap(key, bytes(length)))
    assert refusal(sample.media, encryption, key) == "malformed_details"


def test_a_foreign_sid_is_not_echoed(other_key: rsa.RSAPrivateKey, sample: Sample) -> None:
    """What stands in the place of the key's SID is named only where it is one."""
    with pytest.raises(DecryptionError) as caught:
        opened(sample.media, replace(sample.encryption, public_key_sid="+15551234567"), other_key)
    assert "5551234567" not in str(caught.value)


def test_a_refusal_is_final() -> None:
    """Trying again would give the same; the caller finds it among the archiver's errors."""
    assert issubclass(DecryptionError, ArchiverError)
    assert DecryptionError.retries == 0


# What is left behind


def test_an_existing_file_is_kept(key: rsa.RSAPrivateKey, sample: Sample, tmp_path: Path) -> None:
    """What is at the destination is neither overwritten nor is the recording read for nothing."""
    destination = tmp_path / "recording.wav"
    destination.write_bytes(b"mine")
    source = io.BytesIO(sample.media)
    with pytest.raises(ReleaseError, match=r"^destination_exists: "):
        decrypt(source, destination, sample.encryption, key)
    assert destination.read_bytes() == b"mine"
    assert source.tell() == 0


def test_a_dangling_link_is_kept(key: rsa.RSAPrivateKey, sample: Sample, tmp_path: Path) -> None:
    """A symbolic link that leads nowhere is a taken name too."""
    destination = tmp_path / "recording.wav"
    destination.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReleaseError, match=r"^destination_exists: "):
        decrypt(io.BytesIO(sample.media), destination, sample.encryption, key)
    assert os.listdir(tmp_path) == ["recording.wav"]


class Meddled(io.BytesIO):
    """Ciphertext at whose end something happens beside."""

    def __init__(self, media: bytes, meddle: Callable[[], object]) -> None:
        super().__init__(media)
        self._meddle = meddle

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        if not block:
            self._meddle()
        return block


def test_a_file_that_came_meanwhile_is_kept(key: rsa.RSAPrivateKey, sample: Sample, tmp_path: Path) -> None:
    """A file that appears while the recording is decrypted is not overwritten either."""
    destination = tmp_path / "recording.wav"
    source = Meddled(sample.media, lambda: destination.write_bytes(b"mine"))
    with pytest.raises(ReleaseError, match=r"^destination_exists: "):
        decrypt(source, destination, sample.encryption, key)
    assert destination.read_bytes() == b"mine"
    assert os.listdir(tmp_path) == ["recording.wav"]


def test_an_existing_file_is_replaced_when_asked(key: rsa.RSAPrivateKey, sample: Sample, tmp_path: Path) -> None:
    """With `overwrite` the new plaintext takes the place of the old file at once, and keeps it private."""
    destination = tmp_path / "recording.wav"
    destination.write_bytes(b"old")
    destination.chmod(0o644)
    decrypt(io.BytesIO(sample.media), destination, sample.encryption, key, overwrite=True)
    assert destination.read_bytes() == sample.plaintext
    assert stat.S_IMODE(destination.stat().st_mode) == 0o600


def test_a_refusal_does_not_replace_a_file(key: rsa.RSAPrivateKey, sample: Sample, tmp_path: Path) -> None:
    """Even when asked to overwrite, what is not authentic leaves the old file as it is."""
    destination = tmp_path / "recording.wav"
    destination.write_bytes(b"old")
    with pytest.raises(DecryptionError, match=r"^not_authentic: "):
        decrypt(io.BytesIO(sample.media[:-1]), destination, sample.encryption, key, overwrite=True)
    assert destination.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["recording.wav"]


@pytest.mark.parametrize("error", [OSError("read failed"), KeyboardInterrupt()])
def test_an_interruption_leaves_nothing(
    key: rsa.RSAPrivateKey, sample: Sample, tmp_path: Path, error: BaseException
) -> None:
    """When the ciphertext cannot be read to its end, the error is passed on and no file is left."""

    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        decrypt(Meddled(sample.media, fail), tmp_path / "recording.wav", sample.encryption, key)
    assert os.listdir(tmp_path) == []


def test_a_missing_directory_is_an_os_error(key: rsa.RSAPrivateKey, sample: Sample, tmp_path: Path) -> None:
    """A place that cannot be written to is reported as the system reports it."""
    with pytest.raises(FileNotFoundError):
        decrypt(io.BytesIO(sample.media), tmp_path / "no" / "recording.wav", sample.encryption, key)


def test_a_name_that_cannot_be_given(key: rsa.RSAPrivateKey, sample: Sample, tmp_path: Path) -> None:
    """When the verified file cannot take its name, here as its directory has gone, that is said with a mend."""
    place = tmp_path / "place"
    place.mkdir()
    source = Meddled(sample.media, lambda: shutil.rmtree(place))
    with pytest.raises(ReleaseError, match=r"^not_released: .*; .* needs overwrite$"):
        decrypt(source, place / "recording.wav", sample.encryption, key)
    assert os.listdir(tmp_path) == []


def test_a_directory_is_not_replaced(key: rsa.RSAPrivateKey, sample: Sample, tmp_path: Path) -> None:
    """Overwriting means files."""
    destination = tmp_path / "recording.wav"
    destination.mkdir()
    with pytest.raises(ReleaseError, match=r"^not_released: "):
        decrypt(io.BytesIO(sample.media), destination, sample.encryption, key, overwrite=True)
    assert os.listdir(tmp_path) == ["recording.wav"]


# Memory

MEASURE = """
import base64, json, resource, sys
from pathlib import Path
from app.recording import Encryption
from workers.encryption import decrypt, load_private_key

def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

directory = Path(sys.argv[1])
key = load_private_key((directory / "key.pem").read_bytes())
encryption = Encryption(**json.loads((directory / "details.json").read_text()))
decrypt(directory / "short.enc", directory / "short.wav", encryption, key)
before = peak_bytes()
decrypt(directory / "long.enc", directory / "long.wav", encryption, key)
print(peak_bytes() - before)
"""


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    """Decrypting 64 MiB takes no more memory than decrypting 2 MiB does (within two blocks)."""
    content_key = ContentKey(KeyPair())
    (tmp_path / "key.pem").write_bytes(content_key.key_pair.private_key_pem())
    (tmp_path / "details.json").write_text(json.dumps(content_key.callback_details()))
    for name, blocks in (("short", 2), ("long", 64)):
        media = AESGCM(content_key.cek).encrypt(content_key.iv, bytes(blocks * BLOCK_BYTES), None)
        (tmp_path / f"{name}.enc").write_bytes(media)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert (tmp_path / "long.wav").stat().st_size == 64 * BLOCK_BYTES
    assert int(done.stdout) <= 2 * BLOCK_BYTES


# Private keys


def pem(key: rsa.RSAPrivateKey, layout: str, passphrase: bytes | None) -> bytes:
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, LAYOUTS[layout], protection)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_keys_load(key: rsa.RSAPrivateKey, layout: str, passphrase: bytes | None) -> None:
    """PKCS#1 and PKCS#8, with a passphrase or without, with the line ends of either system, are the same key."""
    text = pem(key, layout, passphrase)
    for written in (text, text.replace(b"\n", b"\r\n"), b"\n" + text.strip()):
        assert load_private_key(written, passphrase).private_numbers() == key.private_numbers()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_passphrase_is_none(key: rsa.RSAPrivateKey, layout: str) -> None:
    """An empty passphrase, as an empty setting gives, counts as not given."""
    assert load_private_key(pem(key, layout, None), b"").private_numbers() == key.private_numbers()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("locked", "given", "reason"),
    [
        (PASSPHRASE, None, "passphrase_missing"),
        (PASSPHRASE, b"", "passphrase_missing"),
        (PASSPHRASE, b"another", "wrong_passphrase"),
        (None, PASSPHRASE, "passphrase_not_needed"),
    ],
)
def test_passphrases_must_fit(
    key: rsa.RSAPrivateKey, layout: str, locked: bytes | None, given: bytes | None, reason: str
) -> None:
    """A missing, wrong or superfluous passphrase is named as such, in one line, and not repeated."""
    with pytest.raises(DecryptionError) as caught:
        load_private_key(pem(key, layout, locked), given)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)
    assert not given or given.decode() not in str(caught.value)


def test_what_is_no_rsa_private_key(key: rsa.RSAPrivateKey) -> None:
    """Anything else is refused with the mend: noise, a public key, a damaged key, a key of another kind."""
    whole = pem(key, "PKCS#8", None)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for text in (b"", b"noise", public, whole[:300], whole[:200] + whole[220:]):
        with pytest.raises(DecryptionError, match=r"^malformed_key: must be a private key in PEM, PKCS#1 or PKCS#8$"):
            load_private_key(text)
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(DecryptionError, match=r"^not_an_rsa_key: "):
        load_private_key(curve)


def test_errors_hold_no_key_material(key: rsa.RSAPrivateKey) -> None:
    """An error and everything it was raised from say nothing about the key."""
    whole = pem(key, "PKCS#8", None)
    with pytest.raises(DecryptionError) as caught:
        load_private_key(whole[:200] + whole[220:])
    assert caught.value.__suppress_context__
    for line in whole.decode().splitlines()[1:-1]:
        assert line not in repr((caught.value, caught.value.__context__))
