"""What botocore's errors mean for us: passing, a person's to mend, or no error at all."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError

from workers.errors import ArchiverError, ConfigurationError, NotRestoredError, TemporaryError, ThrottledError
from workers.s3_errors import AlreadyThereError, translated


def client_error(status: int, code: str, **headers: str) -> ClientError:
    """Make the error that boto3 raises for an answer of S3."""
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    response = {"Error": {"Code": code, "Message": "secret"}, "ResponseMetadata": metadata}
    return ClientError(response, "PutObject")  # type: ignore[arg-type]


def raised(error: Exception, **options: bool) -> ArchiverError:
    with pytest.raises(ArchiverError) as caught, translated(**options):  # type: ignore[arg-type]
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", ThrottledError),
        (503, "RequestLimitExceeded", ThrottledError),
        (400, "ThrottlingException", ThrottledError),
        (429, "", ThrottledError),
        (500, "InternalError", TemporaryError),
        (503, "ServiceUnavailable", TemporaryError),
        (501, "NotImplemented", TemporaryError),
        (400, "BadDigest", TemporaryError),
        (400, "XAmzContentSHA256Mismatch", TemporaryError),
        (400, "IncompleteBody", TemporaryError),
        (400, "RequestTimeout", TemporaryError),
        (404, "NoSuchUpload", TemporaryError),
        (408, "", TemporaryError),
        (409, "ConditionalRequestConflict", TemporaryError),
        (409, "OperationAborted", TemporaryError),
        (403, "AccessDenied", ConfigurationError),
        (403, "RequestTimeTooSkewed", ConfigurationError),
        (403, "InvalidObjectState", NotRestoredError),
        (404, "NoSuchBucket", ConfigurationError),
        (404, "NoSuchKey", ConfigurationError),
        (400, "KMS.NotFoundException", ConfigurationError),
        (400, "InvalidRequest", ConfigurationError),
    ],
)
def test_an_answer_says_what_to_do(status: int, code: str, kind: type[ArchiverError]) -> None:
    """Each answer becomes one of our errors, which holds nothing but status, code and operation."""
    error = raised(client_error(status, code))
    assert type(error) is kind
    assert "secret" not in str(error)


def test_a_wrong_clock_is_called_that() -> None:
    """S3 refuses what is signed with another time; policy and keys have nothing to do with it."""
    error = raised(client_error(403, "RequestTimeTooSkewed"))
    assert error.reason == "clock_wrong"
    assert "NTP" in error.detail


@pytest.mark.parametrize("ahead", [timedelta(minutes=16), -timedelta(minutes=16)])
def test_a_wrong_clock_is_seen_without_a_body(ahead: timedelta) -> None:
    """What answers HEAD holds no code; the time at which S3 answered shows whose clock is off."""
    error = raised(client_error(403, "403", date=format_datetime(datetime.now(UTC) - ahead, usegmt=True)))
    assert error.reason == "clock_wrong"


def test_without_a_body_it_may_be_any_refusal() -> None:
    """With a clock like S3's, or where S3 does not say its time, a refusal is a matter of policy and keys."""
    now = format_datetime(datetime.now(UTC), usegmt=True)
    for headers in ({"date": now}, {"date": "yesterday"}, {"date": "Thu, 26 Nov"}, {"date": ""}, {}):
        assert raised(client_error(403, "403", **headers)).reason == "s3_refused"


@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchVersion", "404", "ObjectLockConfigurationNotFoundError"])
def test_what_is_not_there_may_be_no_error(code: str) -> None:
    """Where a missing object is an answer, the block ends quietly; a missing bucket is an error nevertheless."""
    with translated(missing_ok=True):
        raise client_error(404, code)
    assert type(raised(client_error(404, "NoSuchBucket"), missing_ok=True)) is ConfigurationError


@pytest.mark.parametrize("code", ["PreconditionFailed", "412"])
def test_a_key_that_is_taken_is_told(code: str) -> None:
    """A failed condition is no failure: somebody was first."""
    with pytest.raises(AlreadyThereError), translated():
        raise client_error(412, code)


def test_an_upload_that_is_gone_counts_as_taken_where_asked() -> None:
    """At the commit a missing upload may be our own one, completed before its answer was lost."""
    with pytest.raises(AlreadyThereError), translated(taken=frozenset({"NoSuchUpload"})):
        raise client_error(404, "NoSuchUpload")


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (NoCredentialsError(), ConfigurationError, "AWS_ACCESS_KEY_ID"),
        (EndpointConnectionError(endpoint_url="https://secret"), TemporaryError, "EndpointConnectionError"),
        (ReadTimeoutError(endpoint_url="https://secret"), TemporaryError, "ReadTimeoutError"),
    ],
)
def test_what_is_no_answer_is_told_by_its_type(error: Exception, kind: type[ArchiverError], told: str) -> None:
    """Without credentials a person must act; a connection that fails is tried again, and no address is told."""
    ours = raised(error)
    assert type(ours) is kind
    assert told in str(ours)
    assert "secret" not in str(ours)
