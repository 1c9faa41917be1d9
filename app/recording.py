"""What Twilio calls a recording: SIDs, statuses, the callback and the resource. Parsed and frozen; no I/O."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final, Self

# Twilio: "SIDs are two letters and 32 hexadecimal digits".
_SID: Final = re.compile(r"[A-Z]{2}[0-9a-fA-F]{32}")
SID_CHARS: Final = 34
_STATUS: Final = re.compile(r"[a-z-]{1,32}")
_MONTH_NAMES: Final = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_MONTHS: Final = {name: f"{number:02}" for number, name in enumerate(_MONTH_NAMES, start=1)}
_UTC_DATE_CHARS: Final = len("Mon, 23 Nov 2026 02:00:00 +0000")
# Twilio's names of fields; what a re-cut body passes off as one may hold a value, such as a phone number.
_FIELD_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")

# https://www.twilio.com/docs/voice/api/recording#recording-status-callback, plus RecordingTrack and ErrorCode.
CALLBACK_FIELDS: Final = frozenset(
    {
        "AccountSid",
        "CallSid",
        "ConferenceSid",
        "EncryptionDetails",
        "ErrorCode",
        "RecordingChannels",
        "RecordingDuration",
        "RecordingSid",
        "RecordingSource",
        "RecordingStartTime",
        "RecordingStatus",
        "RecordingTrack",
        "RecordingUrl",
    }
)
# An encrypted key of RSA-4096 is 684 characters; everything else Twilio sends is far shorter.
MAX_FIELD_CHARS: Final = 4096
MAX_FIELDS: Final = 200
MAX_UNKNOWN_NAMES: Final = 20
MAX_TOKEN_CHARS: Final = 64

FINAL_CALLBACK_STATUSES: Final = frozenset({"completed", "absent", "failed"})
UNFINISHED_STATUSES: Final = frozenset({"in-progress", "paused", "stopped", "processing"})


class MalformedError(ValueError):
    """A value that is not what Twilio documents.

    `field` is Twilio's name of it and `mend` says what would be accepted; neither holds the value itself.
    """

    def __init__(self, field: str, mend: str) -> None:
        super().__init__(f"{field}: {mend}")
        self.field = field
        self.mend = mend


def is_sid(value: object, prefix: str) -> bool:
    """Tell whether `value` is a SID of the kind `prefix` (`AC`, `RE`, `CA`, `CF`)."""
    return isinstance(value, str) and value.startswith(prefix) and _SID.fullmatch(value) is not None


def _sid(fields: Mapping[str, Any], name: str, prefix: str) -> str:
    value = fields.get(name)
    if not is_sid(value, prefix):
        raise MalformedError(name, f"must be {prefix} followed by 32 hexadecimal digits")
    return str(value)


def _optional_sid(fields: Mapping[str, Any], name: str, prefix: str) -> str | None:
    return _sid(fields, name, prefix) if fields.get(name) else None


@dataclass(frozen=True, slots=True)
class Callback:
    """One `RecordingStatusCallback`, after its signature was found good: a hint, never the truth.

    `fields` holds what Twilio documents, under Twilio's names; of anything else only the names are kept, where they
    look like a name.
    """

    account_sid: str
    recording_sid: str
    status: str
    fields: Mapping[str, str]
    unknown_names: tuple[str, ...]
    received_at: datetime
    idempotency_token: str | None = None

    @classmethod
    def parse(
        cls, pairs: Iterable[tuple[str, str]], received_at: datetime, idempotency_token: str | None = None
    ) -> Self:
        """Read a callback from its name and value pairs.

        Raises `MalformedError` for a repeated name, too many or too long fields, a malformed SID or status.
        """
        fields: dict[str, str] = {}
        unknown: list[str] = []
        seen: set[str] = set()
        for name, value in pairs:
            if name in seen:
                raise MalformedError(name if name in CALLBACK_FIELDS else "body", "each field may be given once")
            seen.add(name)
            if len(seen) > MAX_FIELDS:
                raise MalformedError("body", f"at most {MAX_FIELDS} fields")
            if name not in CALLBACK_FIELDS:
                if _FIELD_NAME.fullmatch(name):
                    unknown.append(name)
                continue
            if len(value) > MAX_FIELD_CHARS:
                raise MalformedError(name, f"at most {MAX_FIELD_CHARS} characters")
            fields[name] = value
        _optional_sid(fields, "CallSid", "CA")
        _optional_sid(fields, "ConferenceSid", "CF")
        status = fields.get("RecordingStatus", "")
        if _STATUS.fullmatch(status) is None:
            raise MalformedError("RecordingStatus", "must be 1 to 32 lower-case letters or hyphens")
        return cls(
            account_sid=_sid(fields, "AccountSid", "AC"),
            recording_sid=_sid(fields, "RecordingSid", "RE"),
            status=status,
            fields=fields,
            unknown_names=tuple(sorted(unknown)[:MAX_UNKNOWN_NAMES]),
            received_at=received_at,
            idempotency_token=idempotency_token[:MAX_TOKEN_CHARS] if idempotency_token else None,
        )

    @property
    def is_final(self) -> bool:
        """Whether this status ends a recording, so that there is something to do."""
        return self.status in FINAL_CALLBACK_STATUSES


@dataclass(frozen=True, slots=True)
class Encryption:
    """How a recording is encrypted, in Twilio's callback spelling.

    Source: https://www.twilio.com/docs/voice/tutorials/voice-recording-encryption.
    """

    type: str
    public_key_sid: str
    encrypted_cek: str
    iv: str

    @classmethod
    def parse(cls, details: object) -> Self | None:
        """Normalise encryption details from either spelling, an object or a JSON string; None where there are none.

        Raises `MalformedError` when details are given but incomplete: without them the audio can't be decrypted.
        """
        if isinstance(details, str) and details:
            try:
                details = json.loads(details)
            except (ValueError, RecursionError) as error:
                raise MalformedError("encryption_details", "must be a JSON object") from error
        if not details:
            return None
        if not isinstance(details, dict):
            raise MalformedError("encryption_details", "must be an object")

        def read(field: str, *spellings: str) -> str:
            value = next((details[name] for name in spellings if details.get(name)), None)
            if not isinstance(value, str):
                raise MalformedError(f"encryption_details.{field}", "must be a string")
            return value

        return cls(
            type=str(details.get("type") or details.get("encryption_type") or "rsa-aes"),
            public_key_sid=read("public_key_sid", "encryption_public_key_sid", "public_key_sid"),
            encrypted_cek=read("encrypted_cek", "encryption_cek", "encrypted_cek"),
            iv=read("iv", "encryption_iv", "iv"),
        )


@dataclass(frozen=True, slots=True)
class Recording:
    """Twilio's Recording resource as REST answered it: the truth about the source.

    `raw` is the whole answer as received. `duration_s` is in seconds, as Twilio rounds it.
    Source: https://www.twilio.com/docs/voice/api/recording.
    """

    sid: str
    account_sid: str
    call_sid: str | None
    conference_sid: str | None
    status: str
    channels: int | None
    duration_s: int | None
    date_created: datetime
    start_time: datetime
    source: str | None
    error_code: int | None
    encryption: Encryption | None
    media_url: str | None
    raw: Mapping[str, Any]

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read the resource from Twilio's JSON.

        Raises `MalformedError` when something that the archive is filed by is missing or is not as documented.
        """
        if not isinstance(raw, Mapping):
            raise MalformedError("recording", "must be an object")
        created = _utc(raw, "date_created")
        if created is None:
            raise MalformedError("date_created", "must be an RFC 2822 date")
        status = raw.get("status")
        if not isinstance(status, str) or not status:
            raise MalformedError("status", "must be a string")
        return cls(
            sid=_sid(raw, "sid", "RE"),
            account_sid=_sid(raw, "account_sid", "AC"),
            call_sid=_optional_sid(raw, "call_sid", "CA"),
            conference_sid=_optional_sid(raw, "conference_sid", "CF"),
            status=status,
            channels=_integer(raw, "channels"),
            duration_s=_integer(raw, "duration"),
            date_created=created,
            start_time=_utc(raw, "start_time") or created,
            source=str(raw["source"]) if raw.get("source") else None,
            error_code=_integer(raw, "error_code") or None,
            encryption=Encryption.parse(raw.get("encryption_details")),
            media_url=str(raw["media_url"]) if raw.get("media_url") else None,
            raw=raw,
        )

    @property
    def day(self) -> date:
        """The UTC day that the recording is filed under: Twilio's `date_created`."""
        return self.date_created.date()


def _integer(raw: Mapping[str, Any], name: str) -> int | None:
    value = raw.get(name)
    if value is None or value == "":
        return None
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedError(name, "must be a whole number") from error


def _utc(raw: Mapping[str, Any], name: str) -> datetime | None:
    value = raw.get(name)
    if not value:
        return None
    try:
        return utc(str(value))
    except ValueError as error:
        raise MalformedError(name, "must be an RFC 2822 date") from error


def utc(text: str) -> datetime:
    """Read Twilio's dates (RFC 2822; without a zone they are UTC). Raises `ValueError`."""
    # The one form that Twilio uses, in a quarter of the time that the library takes: an audit reads a million dates.
    if len(text) == _UTC_DATE_CHARS and text.endswith(" +0000") and (month := _MONTHS.get(text[8:11])):
        return datetime.fromisoformat(f"{text[12:16]}-{month}-{text[5:7]}T{text[17:25]}+00:00")
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a date out of range") from error


def utc_day(text: str) -> date:
    """Read the UTC day of one of Twilio's dates. Raises `ValueError`."""
    if len(text) == _UTC_DATE_CHARS and text.endswith(" +0000"):
        return _day(text[:17])
    return utc(text).date()


@lru_cache(maxsize=128)
def _day(text: str) -> date:
    return utc(f"{text}00:00:00 +0000").date()
