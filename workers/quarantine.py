"""Quarantine: a recording whose content failed blocks its deletion at once, and calls for a person after some failures.

The document counts the failures of the *content* only; faults of configuration, network or service never get here.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import structlog

from app.receipt import QUARANTINE_SCHEMA, Filing, from_json, iso, parse_iso, to_json
from workers.archive import Archive, Document
from workers.errors import ContentError, TemporaryError

RETRY_EVERY: Final = timedelta(days=1)
_KEPT_FAILURES: Final = 20
_TWIN_ROUNDS: Final = 5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Quarantine:
    """How often the content of a recording failed, and why; times as ISO 8601 UTC."""

    recording_sid: str
    account_sid: str
    attempts: int
    first_failed_at: str
    last_failed_at: str
    failures: tuple[dict[str, Any], ...]
    schema: str = QUARANTINE_SCHEMA

    @classmethod
    def from_json(cls, document: bytes) -> Self:
        """Read a quarantine document. Raises `ValueError`."""
        raw = from_json(document, QUARANTINE_SCHEMA)
        try:
            for moment in ("first_failed_at", "last_failed_at"):
                parse_iso(raw[moment])
            if type(raw["attempts"]) is not int:
                raise TypeError("attempts")
            return cls(**{name: raw[name] for name in cls.__dataclass_fields__} | {"failures": tuple(raw["failures"])})
        except (KeyError, TypeError) as error:
            raise ValueError("not a complete quarantine document") from error

    def rests(self, threshold: int, now: datetime) -> bool:
        """Tell whether it is to be left alone for now: it needs a person and is tried once a day."""
        return self.attempts >= threshold and now < parse_iso(self.last_failed_at) + RETRY_EVERY


def read_quarantine(archive: Archive, filing: Filing) -> Quarantine | None:
    """Return what is known of a recording's failures; None when it is not in quarantine.

    A document that can't be read counts as one that needs a person.
    """
    document = archive.read(filing.quarantine)
    return None if document is None else _parse(document, filing)


def quarantined(archive: Archive, account_sid: str | None = None) -> Iterator[tuple[Filing, Quarantine]]:
    """Yield what is in quarantine, of one account or of all, by account and day."""
    account = f"account={account_sid}/" if account_sid else ""
    for key, _ in archive.listing(f"{archive.prefix}quarantine/{account}"):
        filing = Filing.from_key(archive.prefix, key)
        found = read_quarantine(archive, filing) if filing else None
        if filing is not None and found is not None:
            yield filing, found


def record_failure(archive: Archive, filing: Filing, error: ContentError, threshold: int) -> int:
    """Count one more failure, and call for a person when there are `threshold`. Return how many there are.

    Raises `TemporaryError` when others keep changing the document.
    """
    for _ in range(_TWIN_ROUNDS):
        document = archive.read(filing.quarantine)
        known = _parse(document, filing) if document else None
        failed = _one_more(filing, known, error)
        body = to_json(asdict(failed))
        if document is None:
            written = archive.write_once(filing.quarantine, body).body == body
        else:
            written = archive.replace(document, body)
        if written:
            level = log.error if failed.attempts >= threshold else log.warning
            level("recording_quarantined", reason=error.reason, detail=error.detail, attempts=failed.attempts)
            return failed.attempts
    raise TemporaryError("quarantine_contended", "others keep changing the quarantine document")


def _parse(document: Document, filing: Filing) -> Quarantine:
    try:
        return Quarantine.from_json(document.body)
    except ValueError:
        now = iso(datetime.now(UTC))
        unreadable = ({"at": now, "reason": "quarantine_unreadable", "detail": ""},)
        return Quarantine(filing.recording_sid, filing.account_sid, 1, now, now, unreadable)


def _one_more(filing: Filing, known: Quarantine | None, error: ContentError) -> Quarantine:
    now = iso(datetime.now(UTC))
    failure = {"at": now, "reason": error.reason, "detail": error.detail}
    return Quarantine(
        recording_sid=filing.recording_sid,
        account_sid=filing.account_sid,
        attempts=(known.attempts if known else 0) + 1,
        first_failed_at=known.first_failed_at if known else now,
        last_failed_at=now,
        failures=((*known.failures, failure) if known else (failure,))[-_KEPT_FAILURES:],
    )
