"""Call a RecordingStatusCallback as Twilio does: signed, impatient, and with at most the retries it documents."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from urllib.parse import unquote, urlencode, urljoin, urlsplit
from uuid import uuid4

from .exchanges import CallbackAnswer, Delivery, Exchanges
from .journal import Journal
from .recordings import SimRecording

Fields = Sequence[tuple[str, str]]
MAX_REDIRECTS = 10
USER_AGENT = "TwilioProxy/1.1"


@dataclass(frozen=True)
class Key:
    """What signs a callback: an auth token (HMAC-SHA1), or a customer-managed shared key by its id (HMAC-SHA256)."""

    secret: str = field(repr=False)
    shared_key_id: str | None = None

    def headers(self, signed_url: str, form: Fields = ()) -> dict[str, str]:
        """Sign a URL and, for a form POST, the parameters in code-point order of their names."""
        parts = sorted(set(form))
        signed = signed_url + "".join(name + value for name, value in parts)
        digest = hashlib.sha256 if self.shared_key_id else hashlib.sha1
        mac = hmac.new(self.secret.encode(), signed.encode(), digest)
        headers = {"X-Twilio-Signature": base64.b64encode(mac.digest()).decode()}
        if self.shared_key_id:
            settings = f"key={self.shared_key_id},algorithm=HMAC_SHA256"
            headers["X-Twilio-Webhooks-Signature-Settings"] = settings
        return headers


def signed_form_of(url: str) -> str:
    """Return the URL as it is signed: no userinfo, no fragment, the port dropped for https and kept for http."""
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    if parts.scheme == "https" and parts.port is not None:
        netloc = netloc.rpartition(":")[0]
    return url.partition("#")[0].replace(f"//{parts.netloc}", f"//{netloc}", 1)


@dataclass(frozen=True)
class Callback:
    """One event to deliver. `method` is POST (form), GET (all in the query) or JSON (a POST with bodySHA256).

    `public_url` is what is signed where that differs from `url`, where it is sent.
    """

    recording: SimRecording
    url: str
    method: str
    fields: Fields
    key: Key
    public_url: str | None = None
    basic: tuple[str, str] | None = None
    idempotency_token: str = field(default_factory=lambda: str(uuid4()))

    def deliver(self, journal: Journal) -> CallbackAnswer:
        """Send it, with Twilio's retries, write each exchange to the journal and return the last answer."""
        delivery = Delivery.of(urlsplit(self.url).fragment)
        deadline = monotonic() + delivery.total_timeout_s
        exchanges = Exchanges(journal, delivery, deadline, self.recording)
        attempts = 0
        while True:
            attempts += 1
            answer = self._attempt(exchanges)
            if attempts > delivery.retries or not delivery.retries_after(answer) or monotonic() >= deadline:
                return replace(answer, attempts=attempts)

    def _attempt(self, exchanges: Exchanges) -> CallbackAnswer:
        """Send once: without credentials, again with them after a 401, then wherever a redirect leads."""
        url, body, headers = self._message()
        verb = "GET" if self.method == "GET" else "POST"
        answer = exchanges.make(verb, url, body, headers)
        challenged = answer.headers.get("www-authenticate", "").lower().startswith("basic realm=")
        if answer.status == 401 and challenged and (credentials := self._credentials()):
            encoded = base64.b64encode(":".join(credentials).encode()).decode()
            answer = exchanges.make(verb, url, body, {**headers, "Authorization": f"Basic {encoded}"})
        for _ in range(MAX_REDIRECTS):
            location = answer.headers.get("location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                break
            url = urljoin(url, location)
            answer = exchanges.make("GET", url, b"", self._headers() | self.key.headers(signed_form_of(url)))
        return answer

    def _message(self) -> tuple[str, bytes, dict[str, str]]:
        """Return where to send, the body and the headers with the signature."""
        url, signed = self.url.partition("#")[0], signed_form_of(self.public_url or self.url)
        if self.method == "GET":
            query = urlencode(self.fields)
            return _with_query(url, query), b"", self._headers() | self.key.headers(_with_query(signed, query))
        if self.method == "JSON":
            body = json.dumps(dict(self.fields)).encode()
            query = f"bodySHA256={hashlib.sha256(body).hexdigest()}"
            headers = self._headers("application/json") | self.key.headers(_with_query(signed, query))
            return _with_query(url, query), body, headers
        form = self._headers("application/x-www-form-urlencoded; charset=UTF-8")
        return url, urlencode(self.fields).encode(), form | self.key.headers(signed, self.fields)

    def _headers(self, content_type: str | None = None) -> dict[str, str]:
        headers = {
            "User-Agent": USER_AGENT,
            "Accept": "*/*",
            "I-Twilio-Idempotency-Token": self.idempotency_token,
        }
        return headers | ({"Content-Type": content_type} if content_type else {})

    def _credentials(self) -> tuple[str, str] | None:
        parts = urlsplit(self.url)
        if parts.username is not None:
            return unquote(parts.username), unquote(parts.password or "")
        return self.basic


def _with_query(url: str, query: str) -> str:
    return url + ("&" if "?" in url else "?") + query
