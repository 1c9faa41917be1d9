"""Turn botocore's errors into ours, once: what is temporary, what a person must mend, what is no error at all."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from workers.errors import ArchiverError, ConfigurationError, NotRestoredError, TemporaryError, ThrottledError

TAKEN: Final = frozenset({"PreconditionFailed", "412"})
_MISSING: Final = {"NoSuchKey", "NoSuchVersion", "404", "NotFound", "ObjectLockConfigurationNotFoundError"}
_THROTTLED: Final = {"SlowDown", "RequestLimitExceeded", "ThrottlingException", "429"}
_DAMAGED_ON_THE_WAY: Final = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"}
_CLOCK_SKEW: Final = timedelta(minutes=15)  # S3 refuses what was signed longer ago, or later
_PASSING: Final = {"RequestTimeout", "NoSuchUpload", "OperationAborted", "ConditionalRequestConflict"}


class AlreadyThereError(Exception):
    """The key holds an object: perhaps our own earlier attempt, whose answer was lost."""


@contextmanager
def translated(*, missing_ok: bool = False, taken: frozenset[str] = TAKEN) -> Iterator[None]:
    """Turn botocore's errors into ours.

    With `missing_ok`, an object that is not there ends the block quietly; codes in `taken` become `AlreadyThereError`.
    """
    try:
        yield
    except ClientError as error:
        metadata = error.response.get("ResponseMetadata", {})
        status = int(metadata.get("HTTPStatusCode", 0))
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code == "403" and _is_skewed(metadata.get("HTTPHeaders", {})):
            code = "RequestTimeTooSkewed"
        if missing_ok and code in _MISSING:
            return
        if code in taken:
            raise AlreadyThereError from None
        raise _our_error(status, code, error.operation_name) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise ConfigurationError("s3_refused", "no AWS credentials; set AWS_ACCESS_KEY_ID or a role") from None
    except BotoCoreError as error:
        raise TemporaryError("s3_unreachable", type(error).__name__) from None


def _is_skewed(headers: Mapping[str, str]) -> bool:
    """Tell whether S3's clock and ours differ by too much: an answer to HEAD has no body that would say so."""
    with suppress(TypeError, ValueError):  # without the header, or with a time that is none
        return abs(parsedate_to_datetime(headers.get("date", "")) - datetime.now(UTC)) > _CLOCK_SKEW
    return False


def _our_error(status: int, code: str, operation: str) -> ArchiverError:
    detail = f"S3 answered {status} {code} to {operation}"
    if code in _THROTTLED or status == 429:
        return ThrottledError("s3_throttled", detail)
    if code == "RequestTimeTooSkewed":
        return ConfigurationError("clock_wrong", f"{detail}: this machine's clock is off; let NTP set it")
    if code == "InvalidObjectState":
        return NotRestoredError("object_in_archive_tier", "S3 keeps the object in an archive tier; restore it first")
    if status >= 500 or status in (0, 408, 409) or code in _DAMAGED_ON_THE_WAY | _PASSING:
        return TemporaryError("s3_failed", detail)
    return ConfigurationError("s3_refused", f"{detail}; check the bucket, its policy and the key")
