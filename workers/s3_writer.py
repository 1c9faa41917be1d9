"""Write an object to S3 while it is made, in parts: memory is one part whatever the length, and no file is needed."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

REPORT_PART_BYTES: Final = 5 * 1024 * 1024  # the least that S3 takes for a part; 10,000 of them hold 50 GB


class ObjectWriter(io.RawIOBase):
    """A binary file whose bytes become one object at `commit`, in the place of what is there.

    Nothing is visible before; after `abort` nothing is left. Raises botocore's errors.
    """

    def __init__(self, client: "S3Client", target: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        super().__init__()
        self._client = client
        self._target = dict(target)
        self._options = dict(options)
        self._buffer = bytearray()
        self._parts: list[CompletedPartTypeDef] = []

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, data: Any, /) -> int:
        """Take bytes, and send a part when there is one."""
        self._buffer += data
        if len(self._buffer) >= REPORT_PART_BYTES:
            self._send_part()
        return len(data)

    def commit(self) -> None:
        """Make the object visible."""
        if "UploadId" not in self._target:
            self._client.put_object(
                **self._target, **self._options, ChecksumAlgorithm="SHA256", Body=bytes(self._buffer)
            )
            return
        if self._buffer:
            self._send_part()
        self._client.complete_multipart_upload(**self._target, MultipartUpload={"Parts": self._parts})

    def abort(self) -> None:
        """Throw away the parts that were sent."""
        if "UploadId" in self._target:
            self._client.abort_multipart_upload(**self._target)

    def _send_part(self) -> None:
        if "UploadId" not in self._target:
            answer = self._client.create_multipart_upload(**self._target, **self._options, ChecksumAlgorithm="SHA256")
            self._target["UploadId"] = answer["UploadId"]
        number = len(self._parts) + 1
        sent = self._client.upload_part(
            **self._target, PartNumber=number, Body=bytes(self._buffer), ChecksumAlgorithm="SHA256"
        )
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": sent["ChecksumSHA256"]})
        self._buffer.clear()
