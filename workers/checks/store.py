"""Ask S3 anything about the bucket, and get an answer instead of an error."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from app.settings import WorkerSettings
from workers.archive import Archive
from workers.checks.network import TIMEOUT_S, Fault, fault_of

NO_CREDENTIALS = "NoCredentials"


@dataclass(frozen=True, slots=True)
class Reply:
    """S3's answer: `code` is empty when it did what it was asked; `fault` is set, and `status` 0, without an answer."""

    status: int
    code: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.status in range(200, 300) and not self.code

    @property
    def denied(self) -> bool:
        """Whether permission is what is missing."""
        return self.status == 403

    @property
    def unknown(self) -> bool:
        """Whether the store does not have this operation, or refuses something in it as not its own."""
        return self.status in (405, 411, 501) or self.code in ("NotImplemented", "MethodNotAllowed", "InvalidArgument")

    @property
    def words(self) -> str:
        """The answer in short."""
        return self.fault.words if self.fault else f"{self.status} {self.code}".strip()

    def mend(self, refused: str) -> str:
        """Return `refused`, the mend for a refusal, or that for an answer that did not come."""
        return "check again; if it stays so, look at the store and the network to it" if self.fault else refused


class Store:
    """The bucket of the settings, asked once and patient for seconds only.

    Raises `ArchiverError` when boto3 can't be set up from the environment.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.archive = Archive(settings, read_timeout_s=TIMEOUT_S, attempts=1)
        self.owner = settings.ARCHIVE_BUCKET_OWNER

    @property
    def region(self) -> str:
        """The region that requests are signed for."""
        return self.archive.client.meta.region_name

    @property
    def endpoint(self) -> str:
        """Where requests go."""
        return self.archive.client.meta.endpoint_url

    def ask(self, operation: str, *, any_owner: bool = False, **parameters: Any) -> Reply:
        """Call one of boto3's operations on the bucket; `any_owner` leaves ARCHIVE_BUCKET_OWNER out of it."""
        owner = {"ExpectedBucketOwner": self.owner} if self.owner and not any_owner else {}
        try:
            answer = getattr(self.archive.client, operation)(Bucket=self.archive.bucket, **owner, **parameters)
        except ClientError as error:
            return _reply(error.response, str(error.response.get("Error", {}).get("Code", "")))
        except (NoCredentialsError, PartialCredentialsError):
            return Reply(0, NO_CREDENTIALS, fault=Fault("credentials", "there are no AWS credentials"))
        except (BotoCoreError, OSError) as error:
            return Reply(0, type(error).__name__, fault=fault_of(error))
        return _reply(answer, "")


def _reply(answer: Mapping[str, Any], code: str) -> Reply:
    metadata = answer.get("ResponseMetadata", {})
    fields = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
    return Reply(int(metadata.get("HTTPStatusCode", 0)), code, fields, metadata.get("HTTPHeaders", {}))
