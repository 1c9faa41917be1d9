"""The settings of each process, read from the environment once and checked at once.

The only module that reads the environment. Every secret can also be given as `NAME_FILE`, the path of a file
that holds it (Docker, Kubernetes and ECS mount secrets so). An empty variable counts as unset.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final, Literal, NoReturn, TypedDict, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from app.setting_types import (
    AccountSid,
    ApiBaseUrl,
    ApiKeySid,
    AwsAccount,
    BucketName,
    Delay,
    DnsLabel,
    Dsn,
    Duration,
    Endpoint,
    Interval,
    NotifyUrl,
    Prefix,
    PublicUrl,
    RedisUrl,
    Secret,
    Secrets,
    SecretsIfAny,
    StorageClass,
    UserName,
    WebhookSecrets,
)

EXIT_CONFIGURATION: Final = 5
_EXTRAS: Final = "deploy/extras-requirements.txt"
_SIGNS: Final = "the account's auth token, or several separated by commas during a rotation"
_SDKS_OWN: Final = "OTEL_"  # such as OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
_LOOKS_LIKE: Final = 0.85  # ARCHIVE_RETENTION is close enough to ARCHIVE_RETENTION_DAYS

S = TypeVar("S", bound=BaseModel)
T = TypeVar("T")

_TOGETHER: Final = (
    ("TWILIO_API_KEY", "TWILIO_API_SECRET"),
    ("WEBHOOK_USERNAME", "WEBHOOK_PASSWORD"),
    ("ARCHIVE_OBJECT_LOCK_MODE", "ARCHIVE_RETENTION_DAYS"),
    ("NOTIFY_URL", "NOTIFY_SECRET"),
)

_ARCHIVE_TIERS: Final = ("GLACIER", "DEEP_ARCHIVE")  # what is there must be restored before it is read


class SettingsError(Exception):
    """The environment can't be used; `mistakes` holds a line for each thing to mend, without any value."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class TwilioAccount(BaseModel):
    """One Twilio (sub)account: its credentials, the keys of its signatures, and where its REST API is."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    account_sid: AccountSid
    shared_keys: dict[str, Secret] = {}
    api_key: ApiKeySid | None = None
    api_secret: Annotated[Secret | None, Field(validate_default=True)] = None
    auth_tokens: Annotated[SecretsIfAny, Field(validate_default=True)] = ()
    region: DnsLabel | None = None
    edge: DnsLabel | None = None
    base_url: ApiBaseUrl | None = None

    @field_validator("api_secret")
    @classmethod
    def _with_its_key(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if "api_key" in info.data and (info.data["api_key"] is None) != (secret is None):
            raise ValueError("belongs to api_key; set both or neither")
        return secret

    @field_validator("auth_tokens")
    @classmethod
    def _or_a_key(cls, tokens: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        if not (tokens or info.data.get("api_key", True) or info.data.get("shared_keys")):
            raise ValueError("must be an auth token, or several; a worker does without them when it has an api_key")
        return tokens

    @property
    def api_base_url(self) -> str:
        """Where this account's REST API is (https://www.twilio.com/docs/global-infrastructure/using-the-twilio-rest-api-in-a-non-us-region)."""
        if self.base_url:
            return self.base_url
        if self.edge:
            return f"https://api.{self.edge}.{self.region or 'us1'}.twilio.com"
        return f"https://api.{self.region}.twilio.com" if self.region else "https://api.twilio.com"


def _with_the_package(name: str) -> Callable[[T], T]:
    """Accept a setting only where the package is installed that makes something of it."""

    def check(value: T) -> T:
        try:
            installed = find_spec(name) is not None
        except ValueError:  # there is something of that name that is no package
            installed = False
        if not installed:
            raise ValueError(f"needs a package that is not installed: pip install --require-hashes -r {_EXTRAS}")
        return value

    return check


class CommonSettings(BaseModel):
    """What every process needs: its logs and its queue."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    REDIS_URL: Annotated[RedisUrl, Field(description="the redis:// or rediss:// URL of the queue")]
    REDIS_TLS_VERIFY: Literal["full", "none"] = "full"
    LOG_FORMAT: Literal["json", "console"] = "json"
    LOG_LEVEL: Literal["debug", "info", "warning", "error"] = "info"
    SENTRY_DSN: Annotated[Dsn | None, AfterValidator(_with_the_package("sentry_sdk"))] = None
    OTEL_EXPORTER_OTLP_ENDPOINT: Annotated[Endpoint | None, AfterValidator(_with_the_package("opentelemetry"))] = None
    OTEL_SERVICE_NAME: str = "recording-archiver"


class TwilioSettings(BaseModel):
    """Which accounts are archived."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    TWILIO_ACCOUNT_SID: Annotated[AccountSid, Field(description="the account's SID (AC and 32 hex digits)")]
    # Who has it may do everything at Twilio: a process that has an API key need not have it.
    TWILIO_AUTH_TOKEN: Annotated[Secrets, Field(description=_SIGNS)] = ()
    TWILIO_API_KEY: ApiKeySid | None = None
    TWILIO_API_SECRET: Secret | None = None
    TWILIO_ACCOUNTS: Json[list[TwilioAccount]] = []
    TWILIO_REGION: DnsLabel | None = None
    TWILIO_EDGE: DnsLabel | None = None
    TWILIO_API_BASE_URL: ApiBaseUrl | None = None

    @field_validator("TWILIO_ACCOUNTS")
    @classmethod
    def _each_once(cls, accounts: list[TwilioAccount], info: ValidationInfo) -> list[TwilioAccount]:
        sids = [info.data.get("TWILIO_ACCOUNT_SID"), *(account.account_sid for account in accounts)]
        if len(set(sids)) != len(sids):
            raise ValueError("names an account twice; list each once, the main one not at all")
        return accounts

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


class PublicSettings(BaseModel):
    """Where Twilio reaches us, and what it must show there."""

    model_config = ConfigDict(frozen=True)

    PUBLIC_URL: Annotated[
        PublicUrl,
        Field(description="the https:// URL under which Twilio reaches this service, without /recording-status"),
    ]
    WEBHOOK_USERNAME: UserName | None = None
    WEBHOOK_PASSWORD: Secret | None = None


class WebSettings(PublicSettings, TwilioSettings, CommonSettings):
    """What the callback endpoint needs; it never touches S3."""

    TWILIO_AUTH_TOKEN: Annotated[Secrets, Field(description=_SIGNS)]  # Twilio signs with it
    PORT: Annotated[int, Field(ge=1, le=65535)] = 8000
    WEB_CONCURRENCY: Annotated[int, Field(ge=1, le=64)] = 2

    @field_validator("TWILIO_ACCOUNTS")
    @classmethod
    def _each_signs(cls, accounts: list[TwilioAccount]) -> list[TwilioAccount]:
        if not all(account.auth_tokens or account.shared_keys for account in accounts):
            raise ValueError("names an account whose callbacks can't be verified; give it auth_tokens or shared_keys")
        return accounts


class BucketAccess(TypedDict, total=False):
    """What boto3 is told beside what it reads itself."""

    region_name: str
    aws_access_key_id: str
    aws_secret_access_key: str


class WorkerSettings(TwilioSettings, CommonSettings):
    """What archiving, deleting and sweeping need."""

    ARCHIVE_BUCKET: Annotated[BucketName, Field(description="the name of your S3 bucket")]
    ARCHIVE_PREFIX: Prefix = ""
    ARCHIVE_FORMAT: Literal["wav", "mp3"] = "wav"
    ARCHIVE_SSE: Literal["AES256", "aws:kms"] | None = None
    ARCHIVE_KMS_KEY_ID: str | None = None
    ARCHIVE_STORAGE_CLASS: StorageClass = "STANDARD"
    ARCHIVE_BUCKET_OWNER: AwsAccount | None = None
    ARCHIVE_OBJECT_LOCK_MODE: Literal["GOVERNANCE", "COMPLIANCE"] | None = None
    ARCHIVE_RETENTION_DAYS: Annotated[int, Field(ge=1, le=36500)] | None = None
    ARCHIVE_VERIFY: Literal["checksum", "readback"] = "checksum"
    TWILIO_DELETE: Delay = timedelta(0)
    SWEEP_LOOKBACK: Duration = timedelta(days=2)
    SWEEP_GRACE: Duration = timedelta(minutes=2)
    QUARANTINE_AFTER: Annotated[int, Field(ge=1, le=100)] = 5
    NOTIFY_URL: NotifyUrl | None = None
    NOTIFY_SECRET: WebhookSecrets = ()
    CELERY_CONCURRENCY: Annotated[int, Field(ge=1, le=256)] = 8
    METRICS_PORT: Annotated[int, Field(ge=1, le=65535)] | None = None
    # Set by Heroku's add-on of that name, whose bucket is used where ARCHIVE_BUCKET names no other.
    BUCKETEER_BUCKET_NAME: BucketName | None = None
    BUCKETEER_AWS_REGION: str | None = None
    BUCKETEER_AWS_ACCESS_KEY_ID: Secret | None = None
    BUCKETEER_AWS_SECRET_ACCESS_KEY: Secret | None = None

    @property
    def bucket_access(self) -> BucketAccess:
        """What boto3 is told of an add-on's bucket; nothing for any other, for which it reads its own settings."""
        key, secret = self.BUCKETEER_AWS_ACCESS_KEY_ID, self.BUCKETEER_AWS_SECRET_ACCESS_KEY
        if self.ARCHIVE_BUCKET != self.BUCKETEER_BUCKET_NAME or key is None or secret is None:
            return {}
        access: BucketAccess = {
            "aws_access_key_id": key.get_secret_value(),
            "aws_secret_access_key": secret.get_secret_value(),
        }
        if self.BUCKETEER_AWS_REGION:
            access["region_name"] = self.BUCKETEER_AWS_REGION
        return access


class FetchSettings(WorkerSettings):
    """What bringing recordings back needs."""

    PRIVATE_KEY_PASSPHRASE: Secret | None = None


class RecordSettings(PublicSettings, TwilioSettings):
    """What recording a live call needs."""


class BeatSettings(CommonSettings):
    """What the schedule needs: it only puts messages on the queue."""

    SWEEP_INTERVAL: Interval = timedelta(minutes=5)


def load(cls: type[S], environ: Mapping[str, str] | None = None) -> S:
    """Read one process's settings; `environ` defaults to the process's environment.

    Raises `SettingsError` with every mistake, none of which holds a value.
    """
    environ = os.environ if environ is None else environ
    mistakes: list[str] = []
    values = {name: value for name in cls.model_fields if (value := _read(name, environ, mistakes))}
    if "BUCKETEER_BUCKET_NAME" in values:
        values.setdefault("ARCHIVE_BUCKET", values["BUCKETEER_BUCKET_NAME"])
    unread = {mistake.partition(":")[0] for mistake in mistakes}
    mistakes += [text for text in _conflicts(values, known=cls.model_fields) if text.partition(":")[0] not in unread]
    try:
        settings = cls.model_validate(values)
    except ValidationError as error:
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
        refuse_to_start(error.mistakes)


def refuse_to_start(mistakes: Iterable[str]) -> NoReturn:
    """Print every mistake and end the process with exit code 5."""
    print("Recording Archiver can't start. Mend these settings:", file=sys.stderr)
    for mistake in mistakes:
        print(f"  {mistake}", file=sys.stderr)
    raise SystemExit(EXIT_CONFIGURATION) from None


def misspelled(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that are no settings but look like one, each with the setting that is perhaps meant."""
    environ = os.environ if environ is None else environ
    known = {name for cls in (WebSettings, WorkerSettings, FetchSettings, BeatSettings) for name in cls.model_fields}
    known |= {f"{name}_FILE" for name in known}
    others = [name for name in environ if name not in known and not name.startswith(_SDKS_OWN)]
    alike = {name: get_close_matches(name.upper(), known, 1, _LOOKS_LIKE) for name in others}
    return {name: meant[0] for name, meant in alike.items() if meant}


def _read(name: str, environ: Mapping[str, str], mistakes: list[str]) -> str:
    value, path = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    if value and path:
        mistakes.append(f"{name}: is given twice; unset {name} or {name}_FILE")
        return ""
    try:
        text = Path(path).read_text(encoding="utf-8").rstrip("\r\n") if path else value
        text.encode()
    except OSError:
        mistakes.append(f"{name}: the file that {name}_FILE names can't be read; mend its path or permissions")
    except UnicodeError:
        mistakes.append(f"{name}: is not text in UTF-8")
    else:
        return text
    return ""


def _conflicts(values: Mapping[str, str], known: Mapping[str, FieldInfo]) -> list[str]:
    mistakes = [
        f"{second if first in values else first}: is missing; it belongs to {first if first in values else second}"
        for first, second in _TOGETHER
        if first in known and (first in values) != (second in values)
    ]
    token = known.get("TWILIO_AUTH_TOKEN")
    if token and not token.is_required() and not values.keys() & {"TWILIO_AUTH_TOKEN", "TWILIO_API_KEY"}:
        mistakes.append(f"TWILIO_AUTH_TOKEN: is missing; set it to {_SIGNS}, or set an API key instead")
    if "ARCHIVE_KMS_KEY_ID" in values and values.get("ARCHIVE_SSE") != "aws:kms":
        mistakes.append("ARCHIVE_KMS_KEY_ID: is only used with ARCHIVE_SSE=aws:kms; set both or unset it")
    if values.get("ARCHIVE_STORAGE_CLASS") in _ARCHIVE_TIERS and values.get("ARCHIVE_VERIFY") == "readback":
        mistakes.append("ARCHIVE_STORAGE_CLASS: can't be read back from an archive tier; set ARCHIVE_VERIFY=checksum")
    return mistakes


def _explain(cls: type[BaseModel], item: ErrorDetails) -> str:
    """Say what to mend, by the setting's name and never by its value."""
    name, *rest = item["loc"]
    if item["type"] == "extra_forbidden":
        rest, message = rest[:-1], f"has an unknown key; known are {', '.join(TwilioAccount.model_fields)}"
    elif item["type"] == "missing":
        meaning = cls.model_fields[str(name)].description
        message = f"is missing; set it to {meaning}" if meaning and not rest else "is missing"
    else:
        message = item["msg"].removeprefix("Value error, ")
    if "shared_keys" in rest:
        rest = rest[: rest.index("shared_keys") + 1]  # what follows is a key's id, which may be its secret by mistake
    place = str(name) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
    return f"{place}: {message}"
