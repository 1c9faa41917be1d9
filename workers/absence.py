"""Document why a recording has no audio to archive: absent, failed, or stored externally."""

from collections.abc import Mapping
from datetime import UTC, datetime

from app.receipt import ABSENCE_SCHEMA, ERROR_EXPLANATIONS, Filing, archiver_version, iso, to_json
from app.recording import Recording
from workers.archive import Archive


def record_absence(
    archive: Archive,
    filing: Filing,
    recording: Recording | None,
    callback: Mapping[str, str] | None,
    *,
    stored_externally: bool = False,
) -> None:
    """Write the absence document once; `recording` is None where Twilio answers 404 for it."""
    error_code = _error_code(recording, callback)
    if stored_externally:
        reason, explanation = "stored_externally", "Twilio wrote the media to the account's own external storage"
    else:
        status = recording.status if recording else (callback or {}).get("RecordingStatus")
        reason = "failed" if status == "failed" else "absent"
        explanation = ERROR_EXPLANATIONS.get(error_code or 0, "Twilio gave no reason")
    document = {
        "schema": ABSENCE_SCHEMA,
        "recording_sid": filing.recording_sid,
        "account_sid": filing.account_sid,
        "call_sid": recording.call_sid if recording else (callback or {}).get("CallSid"),
        "conference_sid": recording.conference_sid if recording else (callback or {}).get("ConferenceSid"),
        "reason": reason,
        "error_code": error_code,
        "explanation": explanation,
        "source": recording.raw if recording else None,
        "callback": callback,
        "recorded_at": iso(datetime.now(UTC)),
        "archiver_version": archiver_version(),
    }
    archive.write_once(filing.absence, to_json(document), recording.start_time if recording else None)


def _error_code(recording: Recording | None, callback: Mapping[str, str] | None) -> int | None:
    if recording and recording.error_code:
        return recording.error_code
    given = (callback or {}).get("ErrorCode", "")
    return int(given) or None if given.isascii() and given.isdigit() else None
