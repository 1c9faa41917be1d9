"""Call the endpoint as Twilio would: signed, without following redirects, and without a proxy of this machine's.

The one module of the workers that speaks HTTP to PUBLIC_URL, and the only use of it is `archiver check`.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import requests
import urllib3

from app.settings import WebSettings
from app.signature import body_sha256, sign
from workers.checks.network import TIMEOUT_S, Fault, fault_of
from workers.commands.callback_url import PATH

_MAX_BODY_BYTES: Final = 256 * 1024
_FORM: Final = "application/x-www-form-urlencoded; charset=UTF-8"
_OUTCOME: Final = re.compile(r'^archiver_callbacks_total\{outcome="([a-z_]+)"\} ([0-9.e+]+)$', re.MULTILINE)


class Form(StrEnum):
    """The ways in which Twilio sends a callback."""

    POST = "POST"
    GET = "GET"
    JSON = "JSON"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: `fault` is set, and `status` 0, when nothing did."""

    status: int
    seconds: float
    fault: Fault | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def problem(self) -> dict[str, Any]:
        """The archiver's own error answer (RFC 9457); empty when it is somebody else's."""
        if self.headers.get("content-type") != "application/problem+json":
            return {}
        try:
            read = json.loads(self.body)
        except ValueError:
            return {}
        return read if isinstance(read, dict) else {}

    @property
    def words(self) -> str:
        """The answer in short, without anything that could be private."""
        return self.fault.words if self.fault else str(self.status)

    @property
    def location(self) -> str:
        """Where a redirect leads, without its query, which holds what we sent."""
        parts = urlsplit(self.headers.get("location", ""))
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else parts.path


class Caller:
    """Sends harmless callbacks (status `in-progress`: nothing is enqueued) to PUBLIC_URL."""

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._session = requests.Session()
        self._session.trust_env = False

    def get(self, url: str, timeout_s: float = TIMEOUT_S) -> Reply:
        """Ask for a page."""
        return self._send("GET", url, timeout_s=timeout_s)

    def outcomes(self) -> dict[str, float]:
        """Return what the web process has counted, by outcome; nothing where `/metrics` can't be read."""
        reply = self.get(f"{self._settings.PUBLIC_URL}/metrics")
        text = reply.body.decode("utf-8", "replace") if reply.status == 200 else ""
        return {name: float(count) for name, count in _OUTCOME.findall(text)}

    def call(
        self,
        account_sid: str,
        key: str,
        *,
        form: Form = Form.POST,
        sign_for: str = "",
        shared_key: str = "",
        basic: bool = True,
        path: str = PATH,
    ) -> Reply:
        """Send one callback, signed with `key` (not at all when it is empty) for `sign_for` (default: PUBLIC_URL).

        `shared_key` is the id of `key` where that is a customer-managed one; `basic` sends the credentials.
        """
        fields = _fields(account_sid)
        body, query, headers = b"", "", {}
        pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
        if form is Form.GET:
            query, pairs = f"?{urlencode(fields)}", []
        elif form is Form.JSON:
            body, pairs = json.dumps(fields).encode(), []
            query, headers = f"?bodySHA256={body_sha256(body)}", {"Content-Type": "application/json"}
        else:
            body, headers = urlencode(fields).encode(), {"Content-Type": _FORM}
        signed = f"{_as_signed(sign_for or self._settings.PUBLIC_URL)}{path}{query}"
        if key:
            headers["X-Twilio-Signature"] = sign(key, signed, pairs, "sha256" if shared_key else "sha1")
        if shared_key:
            headers["X-Twilio-Webhooks-Signature-Settings"] = f"key={shared_key},algorithm=HMAC_SHA256"
        if basic:
            headers |= self._basic()
        url = f"{self._settings.PUBLIC_URL}{path}{query}"
        return self._send("GET" if form is Form.GET else "POST", url, body, headers)

    def _basic(self) -> dict[str, str]:
        username, password = self._settings.WEBHOOK_USERNAME, self._settings.WEBHOOK_PASSWORD
        if username is None or password is None:
            return {}
        pair = f"{username}:{password.get_secret_value()}".encode()
        return {"Authorization": f"Basic {b64encode(pair).decode()}"}

    def _send(
        self,
        method: str,
        url: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Reply:
        started = monotonic()
        try:
            with self._session.request(
                method, url, data=body or None, headers=headers, timeout=timeout_s, allow_redirects=False, stream=True
            ) as answer:
                read = answer.raw.read(_MAX_BODY_BYTES, decode_content=True)
                lowered = {name.lower(): value for name, value in answer.headers.items()}
                return Reply(answer.status_code, monotonic() - started, None, lowered, read)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return Reply(0, monotonic() - started, fault_of(error))


def _as_signed(url: str) -> str:
    """Return a URL as Twilio signs it: the port is dropped for https, and kept for http."""
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.port is None:
        return url
    return url.replace(parts.netloc, parts.netloc.rpartition(":")[0], 1)


def _fields(account_sid: str) -> dict[str, str]:
    """Return fields of a callback that asks for nothing, with characters that a careless proxy would rewrite."""
    return {
        "AccountSid": account_sid,
        "RecordingSid": f"RE{'0' * 32}",
        "RecordingStartTime": "Sun, 01 Nov 2026 00:00:00 +0000",
        "RecordingStatus": "in-progress",
        "RecordingUrl": f"https://api.twilio.com/2010-04-01/Accounts/{account_sid}/Recordings/RE{'0' * 32}",
    }
