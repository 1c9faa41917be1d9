"""The settings of each process, read from the environment once and checked at once.

The only module that reads the environment. Every secret can also be given as `NAME_FILE`, the path of a file
that holds it (Docker, Kubernetes and ECS mount secrets so). An empty variable counts as unset.
"""

import os
import re
import sys
from collections.abc import Container, Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

EXIT_CONFIGURATION: Final = 5

S = TypeVar("S", bound=BaseModel)

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TOGETHER: Final = (
    ("TWILIO_API_KEY", "TWILIO_API_SECRET"),
    ("WEBHOOK_USERNAME", "WEBHOOK_PASSWORD"),
    ("ARCHIVE_OBJECT_LOCK_MODE", "ARCHIVE_RETENTION_DAYS"),
)


class SettingsError(Exception):
    """The environment can't be used; `mistakes` holds a line for each thing to mend, without any value."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


def parse_duration(text: object) -> timedelta:
    """Read a duration such as `30s`, `5m`, `24h` or `40d`. Raises `ValueError`."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", str(text))
    if match is None:
        raise ValueError("must be a duration such as 30s, 5m, 24h or 40d")
    return timedelta(seconds=int(match[1]) * _UNITS_S[match[2]])


def _parse_delete(text: object) -> timedelta | None:
    if text in ("verified", timedelta(0)):
        return timedelta(0)
    if text in ("never", None):
        return None
    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError("must be verified, never, or a delay such as 24h") from None


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return [part for part in (piece.strip() for piece in value.split(",")) if part]
    return value


def _public_url(value: str) -> str:
    """Keep origin and path: Twilio signs neither userinfo nor fragment, and a query can't be part of an origin."""
    parts = urlsplit(value)
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has a port that is not a number from 1 to 65535") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be the https:// URL under which Twilio reaches this service")
    if parts.query:
        raise ValueError("must not have a query")
    # As written, not lower-cased: Twilio signs the URL as it was given.
    host = parts.netloc.rpartition("@")[2]
    if port is not None:
        host = host[: -len(f":{port}")]
    origin = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
    return origin + parts.path.rstrip("/")


def _api_base_url(value: str) -> str:
    parts = urlsplit(value)
    loopback = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        raise ValueError("must be an https:// URL (plain http only to this machine)")
    if parts.query or parts.fragment or parts.username or parts.path.strip("/"):
        raise ValueError("must be scheme and host only")
    return f"{parts.scheme}://{parts.netloc}"


def _redis_url(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError("must be a redis:// or rediss:// URL")
    return value


def _prefix(value: str) -> str:
    return f"{value.strip('/')}/" if value.strip("/") else ""


AccountSid = Annotated[str, Field(pattern=r"^AC[0-9a-fA-F]{32}$")]
ApiKeySid = Annotated[str, Field(pattern=r"^SK[0-9a-fA-F]{32}$")]
Secret = Annotated[SecretStr, Field(min_length=1)]
Secrets = Annotated[tuple[Secret, ...], BeforeValidator(_split_commas), Field(min_length=1)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
StorageClass = Literal[
    "STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"
]


class TwilioAccount(BaseModel):
    """One Twilio (sub)account: its credentials, the keys of its signatures, and where its REST API is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    account_sid: AccountSid
    auth_tokens: Secrets
    shared_keys: dict[str, Secret] = {}
    api_key: ApiKeySid | None = None
    api_secret: Secret | None = None
    region: DnsLabel | None = None
    edge: DnsLabel | None = None
    base_url: Annotated[str, AfterValidator(_api_base_url)] | None = None

    @model_validator(mode="after")
    def _key_with_secret(self) -> Self:
        if (self.api_key is None) != (self.api_secret is None):
            raise ValueError("api_key and api_secret belong together: set both or neither")
        return self

    @property
    def api_base_url(self) -> str:
        """Where this account's REST API is (https://www.twilio.com/docs/global-infrastructure/using-the-twilio-rest-api-in-a-non-us-region)."""
        if self.base_url:
            return self.base_url
        if self.edge:
            return f"https://api.{self.edge}.{self.region or 'us1'}.twilio.com"
        return f"https://api.{self.region}.twilio.com" if self.region else "https://api.twilio.com"


class CommonSettings(BaseModel):
    """What every process needs: its logs and its queue."""

    model_config = ConfigDict(frozen=True)

    REDIS_URL: Annotated[
        Secret, AfterValidator(_redis_url), Field(description="the redis:// or rediss:// URL of the queue")
    ]
    REDIS_TLS_VERIFY: Literal["full", "none"] = "full"
    LOG_FORMAT: Literal["json", "console"] = "json"
    LOG_LEVEL: Literal["debug", "info", "warning", "error"] = "info"


class TwilioSettings(BaseModel):
    """Which accounts are archived."""

    TWILIO_ACCOUNT_SID: Annotated[AccountSid, Field(description="the account's SID (AC and 32 hex digits)")]
    TWILIO_AUTH_TOKEN: Annotated[
        Secrets,
        Field(description="the account's auth token, or several separated by commas during a rotation"),
    ]
    TWILIO_API_KEY: ApiKeySid | None = None
    TWILIO_API_SECRET: Secret | None = None
    TWILIO_ACCOUNTS: Json[list[TwilioAccount]] = []
    TWILIO_REGION: DnsLabel | None = None
    TWILIO_EDGE: DnsLabel | None = None
    TWILIO_API_BASE_URL: Annotated[str, AfterValidator(_api_base_url)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sids = [self.TWILIO_ACCOUNT_SID, *(account.account_sid for account in self.TWILIO_ACCOUNTS)]
        if len(set(sids)) != len(sids):
            raise ValueError("TWILIO_ACCOUNTS: names an account twice; list each once, the main one not at all")
        return self

    @cached_property
    def accounts(self) -> Mapping[str, TwilioAccount]:
        """Every configured account by its SID, the main one first."""
        main = TwilioAccount(
            account_sid=self.TWILIO_ACCOUNT_SID,
            auth_tokens=self.TWILIO_AUTH_TOKEN,
            api_key=self.TWILIO_API_KEY,
            api_secret=self.TWILIO_API_SECRET,
            region=self.TWILIO_REGION,
            edge=self.TWILIO_EDGE,
        )
        override = {"base_url": self.TWILIO_API_BASE_URL} if self.TWILIO_API_BASE_URL else {}
        accounts = (main, *self.TWILIO_ACCOUNTS)
        return {account.account_sid: account.model_copy(update=override) for account in accounts}


class WebSettings(TwilioSettings, CommonSettings):
    """What the callback endpoint needs; it never touches S3."""

    PUBLIC_URL: Annotated[
        str,
        AfterValidator(_public_url),
        Field(description="the https:// URL under which Twilio reaches this service, without /recording-status"),
    ]
    WEBHOOK_USERNAME: str | None = None
    WEBHOOK_PASSWORD: Secret | None = None
    PORT: Annotated[int, Field(ge=1, le=65535)] = 8000
    WEB_CONCURRENCY: Annotated[int, Field(ge=1, le=64)] = 2


class WorkerSettings(TwilioSettings, CommonSettings):
    """What archiving, deleting and sweeping need."""

    ARCHIVE_BUCKET: Annotated[
        str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="the name of your S3 bucket")
    ]
    ARCHIVE_PREFIX: Annotated[str, Field(max_length=200), AfterValidator(_prefix)] = ""
    ARCHIVE_FORMAT: Literal["wav", "mp3"] = "wav"
    ARCHIVE_SSE: Literal["AES256", "aws:kms"] | None = None
    ARCHIVE_KMS_KEY_ID: str | None = None
    ARCHIVE_STORAGE_CLASS: StorageClass = "STANDARD"
    ARCHIVE_BUCKET_OWNER: Annotated[str, Field(pattern=r"^\d{12}$")] | None = None
    ARCHIVE_OBJECT_LOCK_MODE: Literal["GOVERNANCE", "COMPLIANCE"] | None = None
    ARCHIVE_RETENTION_DAYS: Annotated[int, Field(ge=1, le=36500)] | None = None
    ARCHIVE_VERIFY: Literal["checksum", "readback"] = "checksum"
    TWILIO_DELETE: Annotated[timedelta | None, BeforeValidator(_parse_delete)] = timedelta(0)
    SWEEP_LOOKBACK: Duration = timedelta(days=2)
    SWEEP_GRACE: Duration = timedelta(minutes=2)
    CELERY_CONCURRENCY: Annotated[int, Field(ge=1, le=256)] = 8


class BeatSettings(CommonSettings):
    """What the schedule needs: it only puts messages on the queue."""

    SWEEP_INTERVAL: Duration = timedelta(minutes=5)


def load(cls: type[S], environ: Mapping[str, str] | None = None) -> S:
    """Read one process's settings; `environ` defaults to the process's environment.

    Raises `SettingsError` with every mistake, none of which holds a value.
    """
    environ = os.environ if environ is None else environ
    mistakes: list[str] = []
    values = {name: value for name in cls.model_fields if (value := _read(name, environ, mistakes))}
    mistakes += _conflicts(values, known=cls.model_fields)
    try:
        settings = cls.model_validate(values)
    except ValidationError as error:
        unread = {mistake.partition(":")[0] for mistake in mistakes}
        explained = [_explain(cls, item) for item in error.errors(include_url=False, include_input=False)]
        mistakes += [text for text in explained if text.partition(":")[0] not in unread]
    if mistakes:
        raise SettingsError(mistakes)
    return settings


def load_or_exit(cls: type[S]) -> S:
    """Read one process's settings, or print every mistake and end the process with exit code 5."""
    try:
        return load(cls)
    except SettingsError as error:
        print("Recording Archiver can't start. Mend these settings:", file=sys.stderr)
        for mistake in error.mistakes:
            print(f"  {mistake}", file=sys.stderr)
        raise SystemExit(EXIT_CONFIGURATION) from None


def _read(name: str, environ: Mapping[str, str], mistakes: list[str]) -> str:
    value, path = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    if not path:
        return value
    if value:
        mistakes.append(f"{name}: is given twice; unset {name} or {name}_FILE")
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        mistakes.append(f"{name}: the file that {name}_FILE names can't be read; mend its path or permissions")
        return ""


def _conflicts(values: Mapping[str, str], known: Container[str]) -> list[str]:
    mistakes = [
        f"{second if first in values else first}: is missing; it belongs to {first if first in values else second}"
        for first, second in _TOGETHER
        if first in known and (first in values) != (second in values)
    ]
    if "ARCHIVE_KMS_KEY_ID" in values and values.get("ARCHIVE_SSE") != "aws:kms":
        mistakes.append("ARCHIVE_KMS_KEY_ID: is only used with ARCHIVE_SSE=aws:kms; set both or unset it")
    return mistakes


def _explain(cls: type[BaseModel], item: ErrorDetails) -> str:
    """Say what to mend, by the setting's name and never by its value."""
    name, *rest = item["loc"] or ("",)
    if item["type"] == "extra_forbidden":
        rest, message = rest[:-1], f"has an unknown key; known are {', '.join(TwilioAccount.model_fields)}"
    elif item["type"] == "missing" and rest:
        message = "is missing"
    else:
        field = cls.model_fields.get(str(name))
        meaning = field.description if field else None
        if item["type"] == "missing":
            message = f"is missing; set it to {meaning}" if meaning else "is missing"
        elif item["type"] == "string_pattern_mismatch" and meaning and not rest:
            message = f"must be {meaning}"
        else:
            message = item["msg"].removeprefix("Value error, ")
    place = str(name) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
    return f"{place}: {message}" if place else message
