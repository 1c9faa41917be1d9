"""Encrypt recordings as Twilio does: a content key per recording, wrapped for the account's public key."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from .messages import Block, Body

TAG_BYTES = 16
_OAEP = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)


class KeyPair:
    """An RSA key pair of an account; the 2048-bit key is made when it is first needed."""

    def __init__(self) -> None:
        self.public_key_sid = "CR" + secrets.token_hex(16)
        self._lock = Lock()
        self._key: rsa.RSAPrivateKey | None = None

    @property
    def private_key(self) -> rsa.RSAPrivateKey:
        """Return the private key, which the real Twilio never has."""
        with self._lock:
            if self._key is None:
                self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            return self._key

    def private_key_pem(self, passphrase: bytes | None = None, *, pkcs1: bool = False) -> bytes:
        """Return the private key as PEM: PKCS#8, or PKCS#1, with a passphrase if one is given."""
        layout = PrivateFormat.TraditionalOpenSSL if pkcs1 else PrivateFormat.PKCS8
        protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        return self.private_key.private_bytes(Encoding.PEM, layout, protection)


@dataclass(frozen=True)
class ContentKey:
    """The key of one recording (256 bits), its nonce (96 bits) and the key pair that it is wrapped for."""

    key_pair: KeyPair
    cek: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    iv: bytes = field(default_factory=lambda: secrets.token_bytes(12))
    wrapped_cek: str = field(init=False)  # RSAES-OAEP (SHA-256, MGF1-SHA-256), base64

    def __post_init__(self) -> None:
        wrapped = self.key_pair.private_key.public_key().encrypt(self.cek, _OAEP)
        object.__setattr__(self, "wrapped_cek", base64.b64encode(wrapped).decode())

    def resource_details(self) -> dict[str, str]:
        """Return `encryption_details` in the spelling of the Recording resource."""
        return {
            "type": "rsa-aes",
            "encryption_public_key_sid": self.key_pair.public_key_sid,
            "encryption_cek": self.wrapped_cek,
            "encryption_iv": base64.b64encode(self.iv).decode(),
        }

    def callback_details(self) -> dict[str, str]:
        """Return `EncryptionDetails` in the spelling of the callback."""
        return {
            "type": "rsa-aes",
            "public_key_sid": self.key_pair.public_key_sid,
            "encrypted_cek": self.wrapped_cek,
            "iv": base64.b64encode(self.iv).decode(),
        }


@dataclass(frozen=True)
class Encrypted(Body):
    """A body as AES-256-GCM ciphertext: as long as the plaintext, then the tag in the last 16 bytes."""

    plaintext: Body
    content_key: ContentKey

    @property
    def length(self) -> int:  # type: ignore[override]
        return self.plaintext.length + TAG_BYTES

    def blocks(self) -> Iterator[Block]:
        encryptor = Cipher(AES(self.content_key.cek), GCM(self.content_key.iv)).encryptor()
        for block in self.plaintext.blocks():
            yield encryptor.update(block)
        yield encryptor.finalize() + encryptor.tag
