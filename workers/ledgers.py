"""Read what S3's listings say of a day's recordings: 1,000 keys a request, and no request per recording."""

from datetime import date
from typing import Final

import structlog

from app.receipt import HOLDS, day_prefix
from app.recording import SID_CHARS, is_sid
from workers.archive import Archive
from workers.judgement import Ledger

# In the reverse order of writing, so that whatever a document proves is found after it: an audit that runs beside the
# workers must not see a receipt and miss its media. Quarantine last, since it is removed when it is resolved.
_COLLECTIONS: Final = ("deletions", "receipts", "recordings", "absences", "quarantine")

log = structlog.get_logger()


def read_day(archive: Archive, account_sid: str, day: date) -> tuple[dict[str, Ledger], int]:
    """Return the ledgers of a day's recordings by SID, and how many keys belong to none."""
    ledgers: dict[str, Ledger] = {}
    foreign = 0
    for collection in _COLLECTIONS:
        foreign += _read(archive, collection, account_sid, day, ledgers)
    return ledgers, foreign


def read_undated(archive: Archive, account_sid: str) -> dict[str, Ledger]:
    """Return the ledgers of recordings that were filed before their day was known, by SID."""
    ledgers: dict[str, Ledger] = {}
    for collection in ("absences", "quarantine"):
        _read(archive, collection, account_sid, None, ledgers)
    return ledgers


def read_holds(archive: Archive, account_sid: str) -> frozenset[str]:
    """Return the SIDs of the recordings for which a legal hold was ever placed."""
    prefix = f"{archive.prefix}{HOLDS}account={account_sid}/"
    start, end = len(prefix), len(prefix) + SID_CHARS
    return frozenset(key[start:end] for key, _ in archive.listing(prefix))


def _read(archive: Archive, collection: str, account_sid: str, day: date | None, ledgers: dict[str, Ledger]) -> int:
    prefix = day_prefix(archive.prefix, collection, account_sid, day)
    start, end = len(prefix), len(prefix) + SID_CHARS
    foreign = 0
    for page in archive.listing_pages(prefix):
        for key, written in page:
            sid = key[start:end]
            ledger = ledgers.get(sid)
            if ledger is None:
                if not is_sid(sid, "RE"):
                    foreign += 1
                    continue
                ledger = ledgers[sid] = Ledger(touched=written)  # what was written last comes first, see above
            if collection == "deletions":
                if key.endswith(".requested.json"):
                    ledger.request = True
                else:
                    ledger.deletion = written
            elif collection == "receipts":
                ledger.receipt = written
            elif collection == "recordings":
                ledger.media += 1
            elif collection == "absences":
                ledger.absence = True
            else:
                ledger.quarantine = True
    if foreign:
        log.warning("foreign_keys", collection=collection, account_sid=account_sid, day=str(day), count=foreign)
    return foreign
