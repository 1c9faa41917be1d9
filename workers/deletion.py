"""Delete the source of an archived recording, and prove that it is gone.

Takes nothing but a verified receipt. A request document is written before the DELETE (evidence, never permission),
a deletion receipt after Twilio's soft-deleted resource has confirmed it. A crash anywhere in between is completed by
the next run, which starts again at invariant 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

import structlog

from app.receipt import (
    DELETION_REQUEST_SCHEMA,
    DELETION_SCHEMA,
    DELETIONS_PAUSED,
    PAUSE_SCHEMA,
    archiver_version,
    from_json,
    iso,
    to_json,
)
from app.recording import Recording
from app.settings import WorkerSettings
from workers.archive import Archive
from workers.errors import (
    ConfigurationError,
    ForbiddenDeletionError,
    GoneError,
    NotReadyError,
    TemporaryError,
    UnprovenDeletionError,
)
from workers.holds import is_hold_asked_for
from workers.next_step import deletion_is_due
from workers.transcriptions import KeptTexts
from workers.twilio_api import TwilioApi
from workers.verification import VerifiedReceipt

_MOMENT_S: Final = 10.0  # S3 answers in a fraction of it; one attempt at a request that it does not answer takes longer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Deletion:
    """The deletion of sources, with the two sides that it works on."""

    settings: WorkerSettings
    twilio: TwilioApi
    archive: Archive
    clock: Callable[[], float] = monotonic

    def delete_source(self, verified: VerifiedReceipt, texts: KeptTexts) -> bool:
        """Delete the recording at Twilio and write the deletion receipt; False when that was done before.

        `verified` must be of this moment: S3 has just confirmed media and receipt. `texts` is what was kept of the
        subresources that vanish with the source. Raises `ForbiddenDeletionError` when a delay, a legal hold, a
        quarantine or the stop switch forbids it, `TemporaryError` when S3 was so slow that this may have changed
        meanwhile, and `UnprovenDeletionError` when the source is gone and something is wrong with what proves it.
        Harmless to repeat.
        """
        began = self.clock()
        self._check_allowed(verified)
        request = self._request(verified, texts)
        started = Recording.parse(verified.receipt.source).start_time
        first = self.archive.write_once(verified.filing.deletion_request, request, started).body
        if first != request and self.archive.head(verified.filing.deletion) is not None:
            return False
        if self.clock() - began > _MOMENT_S:
            raise TemporaryError("checks_outdated", "S3 was slow: what allows a deletion is looked at again")
        status = self.twilio.delete(verified.filing.account_sid, verified.filing.recording_sid)
        # A 404 to a first request is somebody else's deletion; to a later one, ours whose answer was lost.
        by_archiver = status == 204 or first != request
        try:
            self._confirm(verified, {"status": status, "by_archiver": by_archiver}, _latest(texts, first))
        except ConfigurationError as error:
            raise UnprovenDeletionError(error.reason, error.detail) from None
        log.info("source_deleted", answer=status, by_archiver=by_archiver)
        return True

    def _check_allowed(self, verified: VerifiedReceipt) -> None:
        if not deletion_is_due(verified.receipt, self.settings.TWILIO_DELETE, datetime.now(UTC)):
            raise ForbiddenDeletionError("deletion_not_due", "TWILIO_DELETE asks to keep the source for now")
        if verified.legal_hold:
            raise ForbiddenDeletionError("legal_hold", "the media is under an S3 legal hold")
        # S3 shows a hold only to whoever may see holds (s3:GetObjectLegalHold), and its reason is written before it.
        if is_hold_asked_for(self.archive, verified.filing):
            raise ForbiddenDeletionError("legal_hold", "control/holds in the bucket says why")
        if self.archive.head(verified.filing.quarantine) is not None:
            raise ForbiddenDeletionError("quarantined", "the recording is in quarantine")
        if self.archive.head(self.archive.prefix + DELETIONS_PAUSED) is not None:
            raise ForbiddenDeletionError("deletions_paused", f"{DELETIONS_PAUSED} in the bucket says why")

    def _request(self, verified: VerifiedReceipt, texts: KeptTexts) -> bytes:
        receipt = verified.receipt
        return to_json(
            {
                "schema": DELETION_REQUEST_SCHEMA,
                "recording_sid": receipt.recording_sid,
                "account_sid": receipt.account_sid,
                "receipt": {"key": verified.filing.receipt, "version_id": verified.version_id},
                "checks": {
                    "media": asdict(receipt.media) | {"attempts": [asdict(a) for a in receipt.media.attempts]},
                    "storage": asdict(receipt.storage),
                    "method": receipt.verification.method,
                    "checksum": receipt.verification.checksum,
                    "legal_hold": False,
                    "quarantined": False,
                    "deletions_paused": False,
                },
                "transcriptions": asdict(texts),
                "requested_at": iso(datetime.now(UTC)),
                "archiver_version": archiver_version(),
            }
        )

    def _confirm(self, verified: VerifiedReceipt, answer: Mapping[str, Any], texts: KeptTexts) -> None:
        """Ask for the soft-deleted resource and write the deletion receipt; `answer` is that to the DELETE.

        Raises `NotReadyError` while Twilio still calls the recording something else than deleted, or knows nothing of
        it although it has not just deleted it: so answers another region, and nobody there has deleted anything.
        """
        filing, receipt = verified.filing, verified.receipt
        confirmation: Recording | None
        try:
            confirmation = self.twilio.fetch(receipt.account_sid, receipt.recording_sid)
        except GoneError:
            if answer["status"] != 204:
                raise NotReadyError(
                    "deletion_unconfirmed",
                    "Twilio knows neither the recording nor that it was deleted; check the region",
                ) from None
            confirmation = None  # deleted, and gone altogether
        if confirmation is not None and confirmation.status != "deleted":
            raise NotReadyError("deletion_unconfirmed", "Twilio does not call the recording deleted yet")
        document = {
            "schema": DELETION_SCHEMA,
            "recording_sid": receipt.recording_sid,
            "account_sid": receipt.account_sid,
            "receipt": {"key": filing.receipt, "version_id": verified.version_id},
            "answer": answer,
            "confirmation": None if confirmation is None else confirmation.raw,
            "transcriptions": asdict(texts),
            "deleted_at": iso(datetime.now(UTC)),
            "archiver_version": archiver_version(),
        }
        self.archive.write_once(filing.deletion, to_json(document), Recording.parse(receipt.source).start_time)


def _latest(texts: KeptTexts, request: bytes) -> KeptTexts:
    """Return what was kept of the texts, as the first request says where Twilio shows none any more."""
    if texts.key is not None:
        return texts
    try:
        return KeptTexts(**from_json(request, DELETION_REQUEST_SCHEMA)["transcriptions"])
    except (KeyError, TypeError, ValueError):
        return texts


def pause_deletions(archive: Archive, reason: str, recording_sid: str | None = None) -> None:
    """Set the stop switch: from now on no source is deleted. What is there already stands."""
    document = {
        "schema": PAUSE_SCHEMA,
        "reason": reason,
        "recording_sid": recording_sid,
        "paused_at": iso(datetime.now(UTC)),
        "archiver_version": archiver_version(),
    }
    archive.write_once(archive.prefix + DELETIONS_PAUSED, to_json(document))
    log.error("deletions_paused", reason=reason)
