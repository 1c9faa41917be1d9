"""Remember accounts, calls and recordings, and what happens to them over time. Thread-safe, no HTTP."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from threading import RLock

from .accounts import Account, SimCall
from .errors import ApiError
from .recordings import SimRecording

SOFT_DELETED_FOR = timedelta(days=40)


class Store:
    """All accounts, calls and recordings, newest first; every change happens under `lock`."""

    def __init__(self, accounts: list[Account], clock: Callable[[], datetime]) -> None:
        self.lock = RLock()
        self.clock = clock
        self.accounts = {account.sid: account for account in accounts}
        self.calls: dict[str, SimCall] = {}
        self.recordings: dict[str, SimRecording] = {}
        self._by_age: list[tuple[datetime, int, str]] = []

    def add(self, recording: SimRecording) -> None:
        """Take in a recording; those of the same second keep the order in which they came."""
        with self.lock:
            recording.order = (recording.date_created, len(self.recordings))
            self.recordings[recording.sid] = recording
            insort(self._by_age, (*recording.order, recording.sid))

    def newest_first(self, account_sid: str) -> Iterator[SimRecording]:
        """Yield every recording of an account that is not forgotten, soft-deleted ones included."""
        with self.lock:
            sids = [sid for _, _, sid in reversed(self._by_age)]
        for sid in sids:
            recording = self.recordings[sid]
            if recording.account_sid == account_sid and self.remembered(recording):
                yield recording

    def remembered(self, recording: SimRecording) -> bool:
        """Tell whether Twilio still knows the recording: metadata outlives a deletion by 40 days."""
        return recording.deleted_at is None or self.clock() - recording.deleted_at < SOFT_DELETED_FOR

    def find(self, account_sid: str, recording_sid: str, *, include_soft_deleted: bool = False) -> SimRecording:
        """Return a recording of the account. Raises ApiError 20404."""
        recording = self.recordings.get(recording_sid)
        if recording is None or recording.account_sid != account_sid or not self.remembered(recording):
            raise ApiError(404, 20404)
        if recording.deleted_at is not None and not include_soft_deleted:
            raise ApiError(404, 20404)
        return recording

    def delete(self, recording: SimRecording) -> None:
        """Delete the media for good; an unfinished transcription breaks (13618). Raises ApiError 20009, 20404."""
        with self.lock:
            if recording.deleted_at is not None:
                raise ApiError(404, 20404)
            if recording.status != "completed":
                raise ApiError(409, 20009)
            recording.status = "deleted"
            recording.deleted_at = recording.date_updated = self.clock()
            for transcription in recording.transcriptions:
                if transcription["status"] == "in-progress":
                    transcription["status"] = "failed"

    def complete(self, recording: SimRecording, status: str = "completed", error_code: int | None = None) -> None:
        """End a live or processing recording."""
        with self.lock:
            recording.status, recording.error_code = status, error_code
            recording.completed_at = recording.date_updated = self.clock()
