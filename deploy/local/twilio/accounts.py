"""Know accounts and their credentials, and the calls that they have in progress."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from .encryption import KeyPair


def new_sid(prefix: str) -> str:
    """Make a SID: two letters and 32 hex digits."""
    return prefix + secrets.token_hex(16)


@dataclass
class Account:
    """An account, or a subaccount if `parent` is set; the first of its tokens is the primary one.

    `api_keys` are secrets by key SID (SK…), of which the `restricted_keys` may not delete; `shared_keys` are
    customer-managed webhook secrets by key id (2026); `key_pair` is for voice recording encryption. Tokens and keys may
    be changed while the simulator runs.
    """

    sid: str = field(default_factory=lambda: new_sid("AC"))
    auth_tokens: list[str] = field(default_factory=lambda: [secrets.token_hex(16)], repr=False)
    api_keys: dict[str, str] = field(default_factory=dict, repr=False)
    restricted_keys: frozenset[str] = frozenset()
    parent: str | None = None
    friendly_name: str = ""
    status: str = "active"
    shared_keys: dict[str, str] = field(default_factory=dict, repr=False)
    key_pair: KeyPair = field(default_factory=KeyPair, repr=False)

    @property
    def public_key_sid(self) -> str:
        return self.key_pair.public_key_sid

    def private_key_pem(self, passphrase: bytes | None = None, *, pkcs1: bool = False) -> bytes:
        """Return the private key of voice recording encryption as PEM (PKCS#8, or PKCS#1)."""
        return self.key_pair.private_key_pem(passphrase, pkcs1=pkcs1)

    def accepts(self, username: str, password: str) -> bool:
        """Tell whether these are credentials of this account: SID and token, or API key and secret."""
        if username == self.sid:
            return password in self.auth_tokens
        return self.api_keys.get(username) == password and bool(password)

    def promote_token(self, *, keep_old: bool = False) -> None:
        """Make the secondary token the primary one; signing switches at once and the old primary is gone."""
        old, *others = self.auth_tokens
        self.auth_tokens = [*others, old] if keep_old else others


@dataclass
class SimCall:
    """A live call, in a conference if `conference_sid` is set; its recordings become `seconds` long."""

    account_sid: str
    sid: str
    conference_sid: str | None = None
    seconds: float = 10.0
    live: bool = True
