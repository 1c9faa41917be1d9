"""Decrypt Twilio's encrypted voice recordings: nothing is released before the whole of it is authenticated.

A recording has a content key (CEK) of its own, wrapped with RSAES-OAEP (SHA-256, MGF1-SHA-256) under the account's
public key. Its media is AES-256-GCM with a 12-byte IV and no associated data, the tag being the last 16 bytes.
Source: https://www.twilio.com/docs/voice/tutorials/voice-recording-encryption.
"""

from base64 import b64decode
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app.recording import Encryption, is_sid
from workers.errors import DecryptionError
from workers.release import check_free, released

BLOCK_BYTES: Final = 1024 * 1024
_CEK_BYTES: Final = 32
_IV_BYTES: Final = 12
_TAG_BYTES: Final = 16
_PADDING: Final = OAEP(MGF1(SHA256()), SHA256(), label=None)


def load_private_key(pem: bytes, passphrase: bytes | None = None) -> RSAPrivateKey:
    """Read an RSA private key from PEM: PKCS#1 or PKCS#8, with a passphrase or without.

    Raises `DecryptionError`: `passphrase_missing`, `passphrase_not_needed`, `wrong_passphrase`, `malformed_key` or
    `not_an_rsa_key`.
    """
    try:
        key = load_pem_private_key(pem, passphrase or None)
    except TypeError:  # how cryptography says that a passphrase is missing, or too many
        if passphrase:
            raise DecryptionError("passphrase_not_needed", "the private key has no passphrase; leave it out") from None
        raise DecryptionError("passphrase_missing", "the private key is encrypted; give its passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        if passphrase:
            raise DecryptionError("wrong_passphrase", "not the passphrase of this key, or no key at all") from None
        raise DecryptionError("malformed_key", "must be a private key in PEM, PKCS#1 or PKCS#8") from None
    if not isinstance(key, RSAPrivateKey):
        raise DecryptionError("not_an_rsa_key", "Twilio wraps content keys for RSA keys only")
    return key


def decrypt(
    ciphertext: BinaryIO | Path,
    destination: Path,
    encryption: Encryption,
    private_key: RSAPrivateKey,
    *,
    overwrite: bool = False,
) -> None:
    """Write the plaintext of a recording to `destination`, readable by its owner only (mode 0600).

    `ciphertext` is a path, or a stream that is read to its end; memory is bounded by a few blocks of `BLOCK_BYTES`.
    The plaintext grows in a temporary file beside `destination` and takes that name only when the tag has shown that
    every byte is authentic. On any failure nothing is left (a killed process leaves its `.partial` file, unreadable to
    others), and what is at `destination` stays as it is.

    Raises `DecryptionError`: `malformed_details` (not what Twilio documents), `wrong_key` (it does not unwrap the
    content key) or `not_authentic` (ciphertext, tag or IV was changed). Raises `ReleaseError`: `destination_exists`
    (without `overwrite`) or `not_released` (the verified file could not be given its name). Raises `OSError` when
    reading or writing fails.
    """
    check_free(destination, overwrite=overwrite)
    cek, iv = _unwrap(encryption, private_key), _decoded("iv", encryption.iv, _IV_BYTES)
    source = ciphertext.open("rb") if isinstance(ciphertext, Path) else nullcontext(ciphertext)
    with source as encrypted, released(destination, overwrite=overwrite) as plaintext:
        _decrypt_blocks(encrypted, plaintext, Cipher(AES256(cek), GCM(iv)))


def _unwrap(encryption: Encryption, private_key: RSAPrivateKey) -> bytes:
    """Return the content key."""
    if encryption.type != "rsa-aes":
        raise DecryptionError("malformed_details", "type must be rsa-aes")
    wrapped = _decoded("encrypted_cek", encryption.encrypted_cek)
    try:
        cek = private_key.decrypt(wrapped, _PADDING)
    except ValueError:
        sid = encryption.public_key_sid
        wanted = sid if is_sid(sid, "CR") else "that the recording names"
        raise DecryptionError("wrong_key", f"use the private key that belongs to the public key {wanted}") from None
    if len(cek) != _CEK_BYTES:
        raise DecryptionError("malformed_details", f"encrypted_cek must hold a key of {_CEK_BYTES} bytes")
    return cek


def _decoded(name: str, value: str, length: int | None = None) -> bytes:
    try:
        decoded = b64decode(value, validate=True)
    except ValueError:
        raise DecryptionError("malformed_details", f"{name} must be base64") from None
    if length is not None and len(decoded) != length:
        raise DecryptionError("malformed_details", f"{name} must be {length} bytes")
    return decoded


def _decrypt_blocks(encrypted: BinaryIO, plaintext: BinaryIO, cipher: Cipher[GCM]) -> None:
    """Decrypt all but the last bytes, which are the tag, and check it."""
    decryptor = cipher.decryptor()
    held = b""
    while block := encrypted.read(BLOCK_BYTES):
        held += block
        plaintext.write(decryptor.update(held[:-_TAG_BYTES]))
        held = held[-_TAG_BYTES:]
    try:
        decryptor.finalize_with_tag(held)
    except (InvalidTag, ValueError):  # ValueError: shorter than a tag
        raise DecryptionError(
            "not_authentic", "the ciphertext or its IV is not what Twilio encrypted; nothing was released"
        ) from None
