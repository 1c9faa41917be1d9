"""What a test sees in the bucket: documents, media and versions, by the layout and without the product's code."""

import json
from typing import TYPE_CHECKING, Any

from deploy.local.processes import wait_until
from deploy.local.twilio import SimRecording

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def folder(collection: str, recording: SimRecording) -> str:
    """Return where the layout files a recording: by its account and the UTC day of its creation."""
    return f"{collection}/account={recording.account_sid}/{recording.date_created:year=%Y/month=%m/day=%d}"


class Bucket:
    """One bucket, read from the outside."""

    def __init__(self, client: "S3Client", name: str) -> None:
        self.client = client
        self.name = name

    def body(self, key: str) -> bytes | None:
        """Return an object's bytes, or None when there is none."""
        try:
            return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None

    def media(self, recording: SimRecording, extension: str = "wav") -> bytes | None:
        """Return the archived media of a recording, or None."""
        return self.body(f"{folder('recordings', recording)}/{recording.sid}.{extension}")

    def document(self, collection: str, recording: SimRecording, extension: str = "json") -> dict[str, Any] | None:
        """Return a document of a recording, which is one line of JSON, or None."""
        body = self.body(f"{folder(collection, recording)}/{recording.sid}.{extension}")
        if body is None:
            return None
        assert body.count(b"\n") == 0
        document: dict[str, Any] = json.loads(body)
        return document

    def wait_for(self, collection: str, recording: SimRecording, timeout_s: float = 30) -> dict[str, Any]:
        """Wait until a document of a recording is there, and return it."""
        found = wait_until(lambda: self.document(collection, recording), timeout_s=timeout_s, what=collection)
        assert found is not None
        return found

    def keys(self, recording: SimRecording) -> list[str]:
        """Return every key that names the recording, in order."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [item["Key"] for page in pages for item in page.get("Contents", ()) if recording.sid in item["Key"]]

    def versions(self, recording: SimRecording) -> list[str]:
        """Return the key of every version that names the recording: a key that was overwritten comes twice."""
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.name)
        return [item["Key"] for page in pages for item in page.get("Versions", ()) if recording.sid in item["Key"]]
