"""Signed webhooks in the Standard Webhooks format: sign, verify, and post to the one receiver.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from time import time
from typing import Final, Self

import requests
from pydantic import SecretStr

from app.settings import WorkerSettings
from workers.answers import PlainSession, retry_after_s
from workers.checks.network import fault_of
from workers.errors import TemporaryError

_TIMEOUTS_S: Final = (3.0, 5.0)  # to connect, and to answer: a thread that archives waits for it
_BUSY: Final = frozenset({408, 425, 429, 502, 503, 504})


class ReceiverAwayError(TemporaryError):
    """The receiver can't be reached, or says that it can take nothing now."""


class ReceiverRefusedError(TemporaryError):
    """The receiver answered this one with something else than success."""


class Receiver:
    """Where notifications go. Thread-safe; connects when first used."""

    def __init__(self, url: SecretStr, secrets: Sequence[SecretStr]) -> None:
        """Take the URL, and the secrets that each sign: during a rotation the receiver may know any of them."""
        self._url = url
        self._keys = [b64decode(secret.get_secret_value().removeprefix("whsec_")) for secret in secrets]
        self._session = PlainSession()

    @classmethod
    def of(cls, settings: WorkerSettings) -> Self | None:
        """Return the receiver of these settings; None where notifications are off."""
        return None if settings.NOTIFY_URL is None else cls(settings.NOTIFY_URL, settings.NOTIFY_SECRET)

    def sign(self, webhook_id: str, timestamp: int, body: str) -> str:
        """Return the signatures of a webhook, one by each secret."""
        signed = f"{webhook_id}.{timestamp}.{body}".encode()
        return " ".join(f"v1,{b64encode(hmac.digest(key, signed, 'sha256')).decode()}" for key in self._keys)

    def is_ours(self, webhook_id: str, timestamp: int, body: str, signatures: str) -> bool:
        """Tell whether any of the secrets has made any of the signatures."""
        known = self.sign(webhook_id, timestamp, body).encode().split(b" ")
        given = signatures.encode("utf-8", "replace").split(b" ")
        return any(hmac.compare_digest(ours, theirs) for ours in known for theirs in given)

    def post(self, webhook_id: str, body: str, *, signature: str = "") -> None:
        """Send a webhook, signed now (or with a `signature` that is none of ours), and return when it was taken.

        Raises `ReceiverAwayError` or `ReceiverRefusedError`. Follows no redirect.
        """
        now = int(time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "recording-archiver",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature or self.sign(webhook_id, now, body),
        }
        url = self._url.get_secret_value()
        try:
            with self._session.post(
                url, data=body.encode(), headers=headers, timeout=_TIMEOUTS_S, allow_redirects=False, stream=True
            ) as answer:
                status, pause_s = answer.status_code, retry_after_s(answer)
        except (requests.RequestException, OSError, ValueError) as error:
            # Whose own text may hold the URL, and that a secret.
            raise ReceiverAwayError("receiver_unreachable", fault_of(error).words) from None
        if status in _BUSY:
            raise ReceiverAwayError("receiver_busy", f"the receiver answered {status}", retry_after_s=pause_s)
        if not 200 <= status < 300:
            raise ReceiverRefusedError("receiver_refused", f"the receiver answered {status}")
