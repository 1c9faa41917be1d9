"""The documents that prove what happened to a recording, and the keys that they are filed under. No I/O.

Layout and fields are the contract of the archive: fields are only ever added, keys never change.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Self

from pydantic import TypeAdapter

from app.recording import Encryption, Recording

RECEIPT_SCHEMA: Final = "recording-receipt/1"
DELETION_REQUEST_SCHEMA: Final = "recording-deletion-request/1"
DELETION_SCHEMA: Final = "recording-deletion/1"
ABSENCE_SCHEMA: Final = "recording-absence/1"
QUARANTINE_SCHEMA: Final = "recording-quarantine/1"
TRANSCRIPTIONS_SCHEMA: Final = "recording-transcriptions/1"
PAUSE_SCHEMA: Final = "deletions-paused/1"
HOLD_SCHEMA: Final = "recording-hold/1"

DELETIONS_PAUSED: Final = "control/deletions-paused.json"
HOLDS: Final = "control/holds/"
COMPLETE_DAYS: Final = "control/complete-days/"

_FILED: Final = re.compile(
    r"[a-z]+/account=(?P<account>AC[0-9a-fA-F]{32})"
    r"/(?:year=(?P<year>[0-9]{4})/month=(?P<month>[0-9]{2})/day=(?P<day>[0-9]{2})|day=undated)"
    r"/(?P<recording>RE[0-9a-fA-F]{32})\.[a-z0-9.]+"
)

# https://www.twilio.com/docs/api/errors.
ERROR_EXPLANATIONS: Final[Mapping[int, str]] = {
    16101: "the recording was too short to be kept",
    16102: "the recording was silent",
    16104: "encryption failed; the audio was lost at Twilio",
    16105: "encryption failed; the audio was lost at Twilio",
    16106: "encryption failed; the audio was lost at Twilio",
    16107: "encrypted with another public key of the account",
    16111: "Twilio could not write to the account's external storage",
    16112: "Twilio could not write to the account's external storage",
}


@cache
def archiver_version() -> str:
    """Return the version of this software, as receipts state it.

    Heroku and the image run the source tree, which is not installed: there it is read from the project's own file.
    """
    try:
        return version("recording-archiver")
    except PackageNotFoundError:
        project = Path(__file__).resolve().parents[1] / "pyproject.toml"
        return str(tomllib.loads(project.read_text("utf-8"))["project"]["version"])


def iso(moment: datetime) -> str:
    """Write a time as ISO 8601 UTC with milliseconds and `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_iso(text: str) -> datetime:
    """Read a time that `iso` wrote. Raises `ValueError`."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time beyond the calendar") from None


@dataclass(frozen=True, slots=True)
class Filing:
    """Where everything about one recording is kept: the keys under `ARCHIVE_PREFIX`.

    `day` is the UTC day of Twilio's `date_created`; None only for an absence that Twilio no longer knows.
    """

    prefix: str
    account_sid: str
    recording_sid: str
    day: date | None

    @classmethod
    def of(cls, prefix: str, recording: Recording) -> Self:
        """File a recording under its account and day."""
        return cls(prefix, recording.account_sid, recording.sid, recording.day)

    @classmethod
    def from_key(cls, prefix: str, key: str) -> Self | None:
        """Read a key that `day_prefix` begins; None for any other one."""
        match = _FILED.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
        if match is None:
            return None
        try:
            day = date(int(match["year"]), int(match["month"]), int(match["day"])) if match["year"] else None
        except ValueError:
            return None
        return cls(prefix, match["account"], match["recording"], day)

    def media(self, extension: str) -> str:
        """Return the key of the media object; `extension` is `wav` or `mp3`."""
        return self._key("recordings", extension)

    @property
    def receipt(self) -> str:
        """The proof of archival."""
        return self._key("receipts", "json")

    @property
    def deletion_request(self) -> str:
        """The checks that allowed a DELETE, written before it: evidence, never permission."""
        return self._key("deletions", "requested.json")

    @property
    def deletion(self) -> str:
        """The proof that the source is gone."""
        return self._key("deletions", "json")

    @property
    def absence(self) -> str:
        """Why there is no audio to archive."""
        return self._key("absences", "json")

    @property
    def quarantine(self) -> str:
        """What needs a person; its existence blocks deletion."""
        return self._key("quarantine", "json")

    @property
    def transcriptions(self) -> str:
        """Transcriptions and add-on results, as Twilio gave them."""
        return self._key("transcriptions", "json")

    @property
    def hold(self) -> str:
        """Why the media was put under a legal hold, and why it was lifted."""
        return f"{self.prefix}{HOLDS}account={self.account_sid}/{self.recording_sid}.json"

    def index(self, call_sid: str | None, conference_sid: str | None) -> list[str]:
        """Return the keys of the empty objects by which a recording is found by its SID, call or conference."""
        if self.day is None:
            return []
        day = self.day.isoformat()
        keys = [index_prefix(self.prefix, self.account_sid, "recording", self.recording_sid) + day]
        for kind, sid in (("call", call_sid), ("conference", conference_sid)):
            if sid:
                keys.append(f"{index_prefix(self.prefix, self.account_sid, kind, sid)}{self.recording_sid}/{day}")
        return keys

    def _key(self, collection: str, extension: str) -> str:
        return f"{day_prefix(self.prefix, collection, self.account_sid, self.day)}{self.recording_sid}.{extension}"


def day_prefix(prefix: str, collection: str, account_sid: str, day: date | None) -> str:
    """Return the prefix that one day of one account has in a collection, so that a day is one listing."""
    filed = f"year={day.year:04}/month={day.month:02}/day={day.day:02}" if day else "day=undated"
    return f"{prefix}{collection}/account={account_sid}/{filed}/"


def index_prefix(prefix: str, account_sid: str, kind: str, sid: str) -> str:
    """Return the prefix of what the index says of a SID; `kind` is `recording`, `call` or `conference`."""
    return f"{prefix}index/account={account_sid}/{kind}={sid}/"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One rung of the channel ladder: what was asked of Twilio, and the answer."""

    requested_channels: int | None
    status: int
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """The archived audio: where it is, and what it is. `bytes` and `part_bytes` are sizes in bytes.

    `sha256` (lower-case hex) is of every byte that Twilio served. `part_bytes` is the part size of a multipart
    upload, from which S3's composite checksum can be recomputed; None for a single PUT. Channels, sample rate and
    duration are read from the audio itself, and None where it is encrypted.
    """

    bucket: str
    key: str
    version_id: str | None
    format: str
    content_type: str
    bytes: int
    sha256: str
    channels: int | None
    sample_rate: int | None
    duration_seconds: float | None
    requested_channels: int | None
    attempts: tuple[Attempt, ...]
    part_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Storage:
    """How S3 keeps the media, as S3 itself reported it.

    `retention` is `none`, `applied`, or `already past` where the date counted from the recording's start was over.
    """

    sse: str | None
    kms_key_id: str | None
    storage_class: str
    object_lock_mode: str | None
    retain_until: str | None
    retention: str = "none"

    def is_over(self, now: datetime) -> bool:
        """Tell whether the retention has ended, so that a lifecycle rule may have removed the media."""
        if self.retain_until is None:
            return self.retention == "already past"
        return parse_iso(self.retain_until) <= now


@dataclass(frozen=True, slots=True)
class Verification:
    """How S3's copy was compared: by S3's own `checksum` (as S3 writes it) or by `readback`."""

    method: str
    checksum: str | None
    verified_at: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that one recording is archived; written once, after verification.

    `quarantine` says what failed before, where the recording was in quarantine and this archival resolved it.
    """

    recording_sid: str
    account_sid: str
    call_sid: str | None
    conference_sid: str | None
    source: Mapping[str, Any]
    callback: Mapping[str, str] | None
    media: Media
    encryption: Encryption | None
    storage: Storage
    verification: Verification
    archived_at: str
    quarantine: Mapping[str, Any] | None = None
    archiver_version: str = field(default_factory=archiver_version)
    schema: str = RECEIPT_SCHEMA

    def to_json(self) -> bytes:
        """Serialise as one line of JSON."""
        return to_json(asdict(self))

    @staticmethod
    def from_json(document: bytes) -> "Receipt":
        """Read a receipt. Raises `ValueError` for anything that is not one; unknown fields are ignored."""
        from_json(document, RECEIPT_SCHEMA)
        receipt = _RECEIPT.validate_json(document, strict=True)
        for moment in (receipt.archived_at, receipt.verification.verified_at, receipt.storage.retain_until):
            if moment is not None:
                parse_iso(moment)
        return receipt


_RECEIPT: Final = TypeAdapter(Receipt)


def to_json(document: Mapping[str, Any]) -> bytes:
    """Serialise any document of the archive as one line of JSON."""
    return json.dumps(document, separators=(",", ":"), default=dict).encode("ascii")


def from_json(document: bytes, schema: str) -> dict[str, Any]:
    """Read a document of the archive. Raises `ValueError` when it is not of `schema`."""
    try:
        raw = json.loads(document)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    if not isinstance(raw, dict) or raw.get("schema") != schema:
        raise ValueError(f"not a {schema} document")
    return raw
