"""The kinds of values that settings have. Each refuses with the mend in words, never with the value.

Pydantic's own words for a mismatch would be a regular expression, and Python's for a broken URL quote the URL.
"""

import re
from base64 import b64decode
from datetime import timedelta
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST: Final = timedelta(days=36500)  # a date this far ahead can still be computed


def _duration(text: object) -> timedelta:
    """Read a duration such as `30s`, `5m`, `24h` or `40d`. Raises `ValueError`."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", str(text))
    duration = timedelta(seconds=int(match[1]) * _UNITS_S[match[2]]) if match else None
    if duration is None or duration > _LONGEST:
        raise ValueError(f"must be a duration such as 30s, 5m, 24h or 40d, at most {_LONGEST.days}d")
    return duration


def _delay(text: object) -> timedelta | None:
    if text == "verified":
        return timedelta(0)
    if text == "never":
        return None
    try:
        return _duration(text)
    except ValueError:
        raise ValueError("must be verified, never, or a delay such as 24h") from None


def _positive(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("must be longer than 0s")
    return value


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return [part for part in (piece.strip() for piece in value.split(",")) if part]
    return value


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.strip() or not text.isprintable():  # a second line means a wrong file
        raise ValueError("must be one line of text and not empty")
    return value


def _any_secret(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if not value:
        raise ValueError("must be an auth token, or several separated by commas")
    return value


def _matching(pattern: str, meaning: str) -> AfterValidator:
    """Accept what `pattern` matches as a whole; `meaning` says in words what that is."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"must be {meaning}")
        return value

    return AfterValidator(check)


def _split_url(value: str) -> SplitResult:
    """Split a URL. Raises `ValueError` without the URL in it, which Python's own errors quote."""
    try:
        parts = urlsplit(value)
        well_formed = parts.port != 0 and not parts.netloc.endswith(":")
    except ValueError:
        well_formed = False
    if not well_formed or re.search(r"[\s\x00-\x1f\x7f]", value):
        raise ValueError("must be a well-formed URL; mind spaces, brackets and the port (1 to 65535)")
    return parts


def _public_url(value: str) -> str:
    """Keep origin and path: Twilio signs neither userinfo nor fragment, and a query can't be part of an origin."""
    parts = _split_url(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be the https:// URL under which Twilio reaches this service")
    if not value.isascii():  # Twilio signs what it sends
        raise ValueError("must be ASCII; write another script as xn--… in the host and as %… in the path")
    if parts.query:
        raise ValueError("must not have a query")
    if parts.path.rstrip("/").endswith("/recording-status"):
        raise ValueError("must not end in /recording-status, which is added to it")
    # As written, not lower-cased: Twilio signs the URL as it was given.
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def _split_private_url(value: str) -> SplitResult:
    """Split a URL to which nothing goes that others could read on the way. Raises `ValueError`."""
    parts = _split_url(value)
    loopback = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        raise ValueError("must be an https:// URL (plain http only to this machine)")
    return parts


def _api_base_url(value: str) -> str:
    parts = _split_private_url(value)
    if parts.query or parts.fragment or "@" in parts.netloc or parts.path.strip("/"):
        raise ValueError("must be scheme and host only")
    return f"{parts.scheme}://{parts.netloc}"


def _redis_url(value: SecretStr) -> SecretStr:
    parts = _split_url(value.get_secret_value())
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or not re.fullmatch(r"/?[0-9]*", parts.path):
        raise ValueError("must be a redis:// or rediss:// URL, with a database number if any")
    if parts.query:
        raise ValueError("must not have a query; TLS is told by REDIS_TLS_VERIFY")
    return value


def _endpoint(value: str) -> str:
    parts = _split_private_url(value)
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must have no credentials (see OTEL_EXPORTER_OTLP_HEADERS), query or fragment")
    return value.rstrip("/")


def _dsn(value: SecretStr) -> SecretStr:
    parts = _split_private_url(value.get_secret_value())
    if not parts.username or not re.fullmatch(r"(/.*)?/[0-9]+", parts.path) or parts.query or parts.fragment:
        raise ValueError("must be the DSN that Sentry shows for the project, https://KEY@HOST/NUMBER")
    return value


def _notify_url(value: SecretStr) -> SecretStr:
    parts = _split_private_url(value.get_secret_value())
    if parts.fragment or "@" in parts.netloc:
        raise ValueError("must have no user name, password or fragment: what is sent is signed")
    return value


def _webhook_secret(value: SecretStr) -> SecretStr:
    kind, _, coded = value.get_secret_value().partition("_")
    try:
        key = b64decode(coded, validate=True)
    except ValueError:
        key = b""
    if kind != "whsec" or not 24 <= len(key) <= 64:  # as Standard Webhooks asks for
        raise ValueError('must be whsec_ and 24 to 64 random bytes in base64: echo "whsec_$(openssl rand -base64 32)"')
    return value


def _any_webhook_secret(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if not value:
        raise ValueError("must be a secret, or several separated by commas during a rotation")
    return value


def _prefix(value: str) -> str:
    return f"{value.strip('/')}/" if value.strip("/") else ""


Secret = Annotated[SecretStr, AfterValidator(_secret)]
SecretsIfAny = Annotated[tuple[Secret, ...], BeforeValidator(_split_commas)]
Secrets = Annotated[SecretsIfAny, AfterValidator(_any_secret)]
RedisUrl = Annotated[Secret, AfterValidator(_redis_url)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Dsn = Annotated[Secret, AfterValidator(_dsn)]
NotifyUrl = Annotated[Secret, AfterValidator(_notify_url)]
WebhookSecret = Annotated[Secret, AfterValidator(_webhook_secret)]
WebhookSecrets = Annotated[
    tuple[WebhookSecret, ...], BeforeValidator(_split_commas), AfterValidator(_any_webhook_secret)
]
ApiBaseUrl = Annotated[str, AfterValidator(_api_base_url)]
Prefix = Annotated[str, Field(max_length=200), AfterValidator(_prefix)]

Duration = Annotated[timedelta, BeforeValidator(_duration)]
Interval = Annotated[Duration, AfterValidator(_positive)]
Delay = Annotated[timedelta | None, BeforeValidator(_delay)]

AccountSid = Annotated[str, _matching("AC[0-9a-fA-F]{32}", "the account's SID (AC and 32 hex digits)")]
ApiKeySid = Annotated[str, _matching("SK[0-9a-fA-F]{32}", "the API key's SID (SK and 32 hex digits)")]
DnsLabel = Annotated[str, _matching("[a-z0-9][a-z0-9-]{0,30}", "a name such as ie1 or dublin")]
BucketName = Annotated[str, _matching("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "the name of your S3 bucket")]
AwsAccount = Annotated[str, _matching("[0-9]{12}", "the 12 digits of an AWS account")]
UserName = Annotated[str, _matching("[^:]+", "a name without a colon, with which HTTP Basic ends it")]
StorageClass = Literal[
    "STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"
]
