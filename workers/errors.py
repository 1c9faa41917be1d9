"""Everything that can stop a step, split by what the caller must do.

    ArchiverError
    ├── TemporaryError            try again soon (network, 5xx, timeouts); `retry_after_s` where the other side said
    │   ├── NotReadyError         Twilio says the media or the recording is not there yet
    │   └── ThrottledError        429: the request was not processed
    ├── ConfigurationError        401, 403, a missing bucket, a refused redirect: keep the work, alert, count nothing
    │   ├── NotRestoredError      the object is in an archive tier: restore it before it is read
    │   └── UnprovenDeletionError the source is gone, and the proof of it can't be made before something is mended
    ├── GoneError                 Twilio no longer has the recording
    ├── NoSuchLayoutError         400 for a media request: step down the channel ladder
    ├── ContentError              corrupt, wrong or foreign bytes: quarantine, count the failure
    ├── ForbiddenDeletionError    a check of invariant 1 does not hold, or something forbids the deletion
    ├── ReleaseError              a file that was made and verified can't take its name
    ├── DecryptionError           the private key, the details and the ciphertext do not belong together
    └── JunkMessageError          a queue message that is not ours

Messages name the mend and hold neither credentials nor content. How often a task retries by itself is decided here and
nowhere else; what still fails then is left to the sweep.
"""

from typing import ClassVar


class ArchiverError(Exception):
    """Any failure of a step that was foreseen; `reason` is a static name for logs and metrics."""

    retries: ClassVar[int] = 0

    def __init__(self, reason: str, detail: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


class TemporaryError(ArchiverError):
    """The same call may succeed later."""

    retries = 6


class NotReadyError(TemporaryError):
    """Twilio has not finished with the recording."""


class ThrottledError(TemporaryError):
    """Twilio or S3 asked to slow down; nothing was processed."""


class ConfigurationError(ArchiverError):
    """Credentials, permissions or names are wrong: a person must mend them, and the work waits."""

    retries = 3


class NotRestoredError(ConfigurationError):
    """S3 keeps the object in an archive tier; its bytes can't be read before it is restored."""


class UnprovenDeletionError(ConfigurationError):
    """The DELETE was sent and answered; what proves it can't be read or written before a person mends something."""


class GoneError(ArchiverError):
    """Twilio answers 404, also for soft-deleted recordings."""


class NoSuchLayoutError(ArchiverError):
    """Twilio answers 400 to a media request; `status` and `code` are its answer."""

    def __init__(self, status: int, code: int | None) -> None:
        super().__init__("no_such_layout", f"Twilio answered {status} with code {code}")
        self.status = status
        self.code = code


class ContentError(ArchiverError):
    """The bytes are not the recording that Twilio describes, or the archive holds something else under its key."""

    retries = 2


class ForbiddenDeletionError(ArchiverError):
    """The source must not be deleted now."""


class ReleaseError(ArchiverError):
    """A verified file cannot take its name; what is there already stays as it is."""


class DecryptionError(ArchiverError):
    """An encrypted recording cannot be opened; no plaintext was left behind."""


class JunkMessageError(ArchiverError):
    """A message that is not ours; its content is neither used nor logged."""
