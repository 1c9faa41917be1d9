"""Find where recordings are filed: by the index in the bucket, else by what Twilio says of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from app.receipt import Filing, index_prefix
from app.recording import is_sid
from workers.archive import Archive
from workers.errors import ArchiverError, GoneError
from workers.twilio_api import TwilioApi


class NotFoundError(ArchiverError):
    """Neither the archive nor Twilio knows of it, in any of the accounts that were looked at."""


@dataclass(frozen=True, slots=True)
class Finder:
    """Looks in the archive and at Twilio, account by account."""

    archive: Archive
    twilio: TwilioApi
    account_sids: tuple[str, ...]

    def recording(self, recording_sid: str) -> Filing:
        """Return where a recording is filed, or would be.

        Raises `NotFoundError`; where an account could not be asked, that account's error.
        """
        filing = next(self._indexed("recording", recording_sid), None)
        return filing or self._known_to_twilio(recording_sid)

    def parent(self, kind: str, sid: str) -> list[Filing]:
        """Return where the recordings of a call or conference (`kind`) are filed, archived or not, oldest first.

        Raises like `recording`.
        """
        found = {filing.recording_sid: filing for filing in self._indexed(kind, sid)}
        failure: ArchiverError | None = None
        for account_sid in self.account_sids:
            try:
                for recording in self.twilio.recordings_of(account_sid, kind, sid):
                    found.setdefault(recording.sid, Filing.of(self.archive.prefix, recording))
            except ArchiverError as error:
                failure = failure or error
        if not found:
            raise failure or _not_found(sid)
        return sorted(found.values(), key=lambda filing: filing.day or date.min)

    def _indexed(self, kind: str, sid: str) -> Iterator[Filing]:
        for account_sid in self.account_sids:
            yield from indexed(self.archive, account_sid, kind, sid)

    def _known_to_twilio(self, recording_sid: str) -> Filing:
        failure: ArchiverError | None = None
        for account_sid in self.account_sids:
            undated = Filing(self.archive.prefix, account_sid, recording_sid, None)
            try:
                return Filing.of(self.archive.prefix, self.twilio.fetch(account_sid, recording_sid))
            except GoneError:
                pass
            except ArchiverError as error:
                # Of an account that is no longer configured there is at least the archive to look at.
                failure = failure or error
            if any(self.archive.head(key) is not None for key in (undated.absence, undated.quarantine)):
                return undated
        raise failure or _not_found(recording_sid)


def indexed(archive: Archive, account_sid: str, kind: str, sid: str) -> Iterator[Filing]:
    """Yield where the index of an account files a SID; `kind` is `recording`, `call` or `conference`."""
    prefix = index_prefix(archive.prefix, account_sid, kind, sid)
    for key, _ in archive.listing(prefix):
        *recording_sid, day = key.removeprefix(prefix).split("/")
        filing = _filing(archive.prefix, account_sid, *(recording_sid or [sid]), day=day)
        if filing is not None:
            yield filing


def _filing(prefix: str, account_sid: str, recording_sid: str, *rest: str, day: str) -> Filing | None:
    """Return what an entry of the index means; None when it is not one."""
    try:
        filing = Filing(prefix, account_sid, recording_sid, date.fromisoformat(day))
    except ValueError:
        return None
    return filing if is_sid(recording_sid, "RE") and not rest else None


def _not_found(sid: str) -> NotFoundError:
    return NotFoundError("not_found", f"neither the archive nor Twilio knows of {sid} in these accounts")
