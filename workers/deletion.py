"""Delete the source of an archived recording, and prove that it is gone.

Takes nothing but a verified receipt. A request document is written before the DELETE (evidence, never permission),
a deletion receipt after Twilio's soft-deleted resource has confirmed it. A crash anywhere in between is completed by
the next run, which starts again at invariant 1.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import structlog

from app.receipt import DELETION_REQUEST_SCHEMA, DELETION_SCHEMA, DELETIONS_PAUSED, archiver_version, iso, to_json
from app.recording import Recording
from app.settings import WorkerSettings
from workers.archive import Archive
from workers.errors import ForbiddenDeletionError, GoneError, NotReadyError
from workers.next_step import deletion_is_due
from workers.twilio_api import TwilioApi
from workers.verification import VerifiedReceipt

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Deletion:
    """The deletion of sources, with the two sides that it works on."""

    settings: WorkerSettings
    twilio: TwilioApi
    archive: Archive

    def delete_source(self, verified: VerifiedReceipt) -> None:
        """Delete the recording at Twilio and write the deletion receipt.

        `verified` must be of this moment: S3 has just confirmed media and receipt. Raises `ForbiddenDeletionError`
        when a delay, a legal hold, a quarantine or the stop switch forbids it. Harmless to repeat.
        """
        self._check_allowed(verified)
        filing, receipt = verified.filing, verified.receipt
        self.archive.write_once(filing.deletion_request, self._request(verified))
        status = self.twilio.delete(receipt.account_sid, receipt.recording_sid)
        self._confirm(verified, status)
        log.info("source_deleted", account_sid=receipt.account_sid, recording_sid=receipt.recording_sid)

    def complete(self, verified: VerifiedReceipt) -> bool:
        """Finish a deletion that was requested, carried out, and not confirmed. Returns whether there was one."""
        if self.archive.read(verified.filing.deletion_request) is None:
            return False
        self._confirm(verified, None)
        return True

    def _check_allowed(self, verified: VerifiedReceipt) -> None:
        if not deletion_is_due(verified.receipt, self.settings.TWILIO_DELETE, datetime.now(UTC)):
            raise ForbiddenDeletionError("deletion_not_due", "TWILIO_DELETE asks to keep the source for now")
        if verified.legal_hold:
            raise ForbiddenDeletionError("legal_hold", "the media is under an S3 legal hold")
        if self.archive.head(verified.filing.quarantine) is not None:
            raise ForbiddenDeletionError("quarantined", "the recording is in quarantine")
        if self.archive.head(self.archive.prefix + DELETIONS_PAUSED) is not None:
            raise ForbiddenDeletionError("deletions_paused", "resume with: archiver deletions resume")

    def _request(self, verified: VerifiedReceipt) -> bytes:
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
                "requested_at": iso(datetime.now(UTC)),
                "archiver_version": archiver_version(),
            }
        )

    def _confirm(self, verified: VerifiedReceipt, status: int | None) -> None:
        """Ask for the soft-deleted resource and write the deletion receipt; `status` is the answer to the DELETE.

        Raises `NotReadyError` while Twilio still calls the recording something else than deleted.
        """
        filing, receipt = verified.filing, verified.receipt
        confirmation: Recording | None
        try:
            confirmation = self.twilio.fetch(receipt.account_sid, receipt.recording_sid)
        except GoneError:
            confirmation = None  # gone altogether: more than the 40 days that metadata stays
        if confirmation is not None and confirmation.status != "deleted":
            raise NotReadyError("deletion_unconfirmed", "Twilio does not call the recording deleted yet")
        document = {
            "schema": DELETION_SCHEMA,
            "recording_sid": receipt.recording_sid,
            "account_sid": receipt.account_sid,
            "receipt": {"key": filing.receipt, "version_id": verified.version_id},
            "answer": {"status": status},
            "confirmation": None if confirmation is None else confirmation.raw,
            "deleted_at": iso(datetime.now(UTC)),
            "archiver_version": archiver_version(),
        }
        self.archive.write_once(filing.deletion, to_json(document))
