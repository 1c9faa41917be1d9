"""Keep transcriptions and add-on results before their recording is deleted: Twilio deletes or breaks them with it.

Sources: https://www.twilio.com/docs/voice/api/recording-transcription and https://www.twilio.com/docs/api/errors/13618.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from app.receipt import TRANSCRIPTIONS_SCHEMA, Filing, archiver_version, from_json, iso, parse_iso, to_json
from workers.archive import Archive, Document
from workers.errors import ArchiverError, GoneError, NotReadyError, TemporaryError
from workers.twilio_api import TwilioApi

# How long a deletion waits for what is unfinished or can't be listed; it must not block for ever.
PATIENCE: Final = timedelta(hours=24)
_UNFINISHED: Final = {"in-progress", "processing", "queued", "init", "pending"}

Texts = list[Mapping[str, Any]]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class KeptTexts:
    """What was kept, as the deletion receipt states it; `incomplete` names what was not waited for any longer."""

    transcriptions: int = 0
    add_on_results: int = 0
    key: str | None = None
    incomplete: str | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """What the document of a recording says; `waiting_since` is when something was first missing."""

    transcriptions: Texts
    add_on_results: Texts
    waiting_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class ListedTexts:
    """What Twilio lists of a recording; `failure` is why that is not all, if it is not."""

    transcriptions: Texts
    add_on_results: Texts
    failure: ArchiverError | None


NO_TEXTS: Final = ListedTexts([], [], None)


def keep_texts(archive: Archive, filing: Filing, listed: ListedTexts) -> KeptTexts:
    """Archive the transcriptions and add-on results of a recording beside its receipt.

    Raises `NotReadyError` while one is in progress, or an `ArchiverError` while they can't be listed, for at most
    `PATIENCE` after that was seen first; after that what there is is kept. What was kept once stays, also when Twilio
    shows it no longer.
    """
    failure = listed.failure
    if failure is None and not (listed.transcriptions or listed.add_on_results):
        return KeptTexts()
    document = archive.read(filing.transcriptions)
    known = _parse(document)
    now = datetime.now(UTC)
    since = known.waiting_since or now
    if now >= since + 2 * PATIENCE:
        since = now  # of a wait that ended long ago, and nobody came to write that down
    kept = _Known(
        _with(known.transcriptions, listed.transcriptions),
        _with(known.add_on_results, listed.add_on_results),
        since if failure else None,
    )
    if document is None or kept != known:
        _write(archive, filing, document, kept)
    if failure and now < since + PATIENCE:
        raise failure
    if failure:
        log.warning("texts_incomplete", reason=failure.reason)
    incomplete = failure.reason if failure else None
    return KeptTexts(len(kept.transcriptions), len(kept.add_on_results), filing.transcriptions, incomplete)


def list_texts(twilio: TwilioApi, filing: Filing) -> ListedTexts:
    """Return what Twilio lists, all of it or not; raises nothing of `workers.errors`."""
    found: dict[str, Texts] = {"transcriptions": [], "add_on_results": []}
    failure: ArchiverError | None = None
    for name, read in (("transcriptions", twilio.transcriptions), ("add_on_results", twilio.add_on_results)):
        try:
            found[name] = read(filing.account_sid, filing.recording_sid)
        except GoneError:
            continue  # an account in PCI mode has none
        except ArchiverError as error:
            failure = error
    if failure is None and any(str(item.get("status")) in _UNFINISHED for items in found.values() for item in items):
        failure = NotReadyError("transcription_in_progress", "the deletion waits for a transcription or add-on result")
    return ListedTexts(found["transcriptions"], found["add_on_results"], failure)


def _with(known: Texts, listed: Texts) -> Texts:
    """Return what is listed now, and what was known of others: a list that is read later may say less."""
    sids = {item.get("sid") for item in listed}
    return [item for item in known if item.get("sid") not in sids] + listed


def _parse(document: Document | None) -> _Known:
    """Read the document of an earlier attempt; what nobody can read says nothing."""
    try:
        raw = from_json(document.body if document else b"{}", TRANSCRIPTIONS_SCHEMA)
        since = raw.get("waiting_since")
        texts = (_items(raw, "transcriptions"), _items(raw, "add_on_results"))
        return _Known(*texts, parse_iso(since) if since is not None else None)
    except (KeyError, TypeError, ValueError):
        return _Known([], [])


def _items(raw: Mapping[str, Any], name: str) -> Texts:
    items = raw[name]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise TypeError(name)
    return items


def _write(archive: Archive, filing: Filing, document: Document | None, kept: _Known) -> None:
    """Write the document, or its next version: older ones stay in a versioned bucket."""
    body = to_json(
        {
            "schema": TRANSCRIPTIONS_SCHEMA,
            "recording_sid": filing.recording_sid,
            "account_sid": filing.account_sid,
            "transcriptions": kept.transcriptions,
            "add_on_results": kept.add_on_results,
            "waiting_since": iso(kept.waiting_since) if kept.waiting_since else None,
            "kept_at": iso(datetime.now(UTC)),
            "archiver_version": archiver_version(),
        }
    )
    if document is None:
        written = archive.write_once(filing.transcriptions, body).body == body
    else:
        written = archive.replace(document, body)
    if not written:
        raise TemporaryError("texts_contended", "another worker is keeping the same transcriptions")
