"""Whether a request is Twilio's: the URL that Twilio signed, and X-Twilio-Signature over it.

Source: https://www.twilio.com/docs/usage/webhooks/webhooks-security and Twilio's published helper libraries.
"""

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from app.settings import TwilioAccount

_DEFAULT_PORT: Final = {"https": 443, "http": 80}
_SHARED_KEY_ALGORITHM: Final = "HMAC_SHA256"

Pairs = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What the signature of a request covers, as raw as it arrived.

    `target` is the raw request target (path and query, still percent-encoded), `form` the decoded pairs of a form
    body (empty for GET and JSON), `body_sha256` the lower-case hex digest of a JSON body, `signature` and `settings`
    the values of `X-Twilio-Signature` and `X-Twilio-Webhooks-Signature-Settings`.
    """

    target: str
    signature: str
    form: Pairs = ()
    body_sha256: str | None = None
    settings: str = ""


def signed_urls(public_url: str, target: str) -> tuple[str, ...]:
    """Rebuild the URLs under which Twilio may have signed a request that arrived with `target`.

    `public_url` is the configured origin and path prefix. Only the configuration says scheme, host, port and prefix:
    proxies rewrite headers. A proxy may or may not have stripped the prefix, and Twilio's libraries differ in whether
    the default port is part of the URL: both are tried with and without.
    """
    parts = urlsplit(public_url)
    prefix = parts.path
    targets = {prefix + target, target if target.startswith(f"{prefix}/") else prefix + target}
    bare = parts.netloc if parts.port is None else parts.netloc.rpartition(":")[0]
    port = parts.port or _DEFAULT_PORT[parts.scheme]
    return tuple(f"{parts.scheme}://{netloc}{path}" for netloc in (bare, f"{bare}:{port}") for path in targets)


def sign(key: str, url: str, form: Pairs = (), digest: str = "sha1") -> str:
    """Compute a signature: base64 of the HMAC of the URL and the form's text."""
    return _mac(key, url, signed_text(form), digest)


def signed_text(form: Pairs) -> bytes:
    """Join the pairs of a form as Twilio signs them, in code-point order of the names.

    A name given twice counts once for each distinct value, as in Twilio's libraries.
    """
    return b"".join(name + value for name, value in sorted(set(form)))


def verify(request: SignedRequest, urls: Collection[str], account: TwilioAccount | None) -> int | None:
    """Judge a request's signature: the index of the auth token that made it, or None.

    A shared key counts as index -1. Every candidate is always tried, with a comparison in constant time; an account
    that is not configured fails like a wrong signature. Form pairs and a body digest never go together.
    """
    if request.body_sha256 is not None and not _same(_query_value(request.target, "bodySHA256"), request.body_sha256):
        return None
    text = signed_text(request.form)  # once: whoever has no key may send thousands of pairs
    found: int | None = None
    for index, key, digest in _candidates(account, request.settings):
        for url in urls:
            matches = _same(_mac(key, url, text, digest), request.signature)
            if matches and found is None:
                found = index
    return found


def _mac(key: str, url: str, text: bytes, digest: str) -> str:
    signed = url.encode("utf-8", "surrogateescape") + text
    return b64encode(hmac.digest(key.encode(), signed, digest)).decode("ascii")


def _candidates(account: TwilioAccount | None, settings: str) -> list[tuple[int, str, str]]:
    """List (index, key, digest) to try. A request that announces a shared key is judged by that key alone."""
    if account is None:
        return []
    if settings:
        announced = _parse_settings(settings)
        secret = account.shared_keys.get(announced.get("key", ""))
        if secret is None or announced.get("algorithm") != _SHARED_KEY_ALGORITHM:
            return []
        return [(-1, secret.get_secret_value(), "sha256")]
    return [(index, token.get_secret_value(), "sha1") for index, token in enumerate(account.auth_tokens)]


def _parse_settings(settings: str) -> Mapping[str, str]:
    pairs = (part.partition("=") for part in settings.split(","))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _query_value(target: str, name: str) -> str:
    """Return the query's only value under `name`, or an empty string: a repeated one is ambiguous."""
    query = target.partition("?")[2]
    values = [value for key, _, value in (part.partition("=") for part in query.split("&")) if key == name]
    return values[0] if len(values) == 1 else ""


def _same(ours: str, theirs: str) -> bool:
    return hmac.compare_digest(ours.encode(), theirs.encode("utf-8", "surrogateescape"))


def body_sha256(body: bytes) -> str:
    """Digest a raw JSON body as Twilio puts it into the query: lower-case hexadecimal SHA-256."""
    return hashlib.sha256(body).hexdigest()
