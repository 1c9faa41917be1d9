"""Keep transcriptions and add-on results before their recording is deleted: Twilio deletes or breaks them with it.

Sources: https://www.twilio.com/docs/voice/api/recording-transcription and https://www.twilio.com/docs/api/errors/13618.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from app.receipt import TRANSCRIPTIONS_SCHEMA, Filing, archiver_version, iso, parse_iso, to_json
from workers.archive import Archive
from workers.errors import ArchiverError, GoneError, NotReadyError, TemporaryError
from workers.twilio_api import TwilioApi

# How long after archival a deletion waits for what is unfinished or can't be listed; it must not block for ever.
PATIENCE: Final = timedelta(hours=24)
_UNFINISHED: Final = {"in-progress", "processing", "queued", "init", "pending"}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class KeptTexts:
    """What was kept, as the deletion receipt states it; `incomplete` names what was not waited for any longer."""

    transcriptions: int = 0
    add_on_results: int = 0
    key: str | None = None
    incomplete: str | None = None


def keep_texts(twilio: TwilioApi, archive: Archive, filing: Filing, archived_at: str) -> KeptTexts:
    """Archive the finished transcriptions and add-on results of a recording beside its receipt.

    Raises `NotReadyError` while one is in progress, or an `ArchiverError` while they can't be listed, for at most
    `PATIENCE` after archival; after that what there is is kept.
    """
    patient = datetime.now(UTC) < parse_iso(archived_at) + PATIENCE
    account_sid, recording_sid, incomplete = filing.account_sid, filing.recording_sid, None
    found: dict[str, list[Mapping[str, Any]]] = {"transcriptions": [], "add_on_results": []}
    for name, read in (("transcriptions", twilio.transcriptions), ("add_on_results", twilio.add_on_results)):
        try:
            found[name] = read(account_sid, recording_sid)
        except GoneError:
            continue  # an account in PCI mode has none
        except ArchiverError as error:
            if patient:
                raise
            incomplete = error.reason
    if any(item.get("status") in _UNFINISHED for items in found.values() for item in items):
        if patient:
            raise NotReadyError("transcription_in_progress", "the deletion waits for a transcription or add-on result")
        incomplete = "still in progress"
    if incomplete:
        log.warning("texts_incomplete", reason=incomplete)
    key = filing.transcriptions if any(found.values()) else None
    if key is not None:
        _write(archive, filing, found)
    return KeptTexts(len(found["transcriptions"]), len(found["add_on_results"]), key, incomplete)


def _write(archive: Archive, filing: Filing, found: Mapping[str, Any]) -> None:
    body = to_json(
        {
            "schema": TRANSCRIPTIONS_SCHEMA,
            "recording_sid": filing.recording_sid,
            "account_sid": filing.account_sid,
            **found,
            "kept_at": iso(datetime.now(UTC)),
            "archiver_version": archiver_version(),
        }
    )
    document = archive.write_once(filing.transcriptions, body)
    # An earlier attempt may have kept fewer: the newest list stands, older versions stay in a versioned bucket.
    if document.body != body and not archive.replace(document, body):
        raise TemporaryError("texts_contended", "another worker is keeping the same transcriptions")
