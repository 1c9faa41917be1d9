"""A bucket in memory, spoken to as boto3's client is: strict about S3's contract and about parameters.

It keeps versions, checksums, retention and legal holds, refuses what S3 refuses, and knows nothing of the product. What
it does where S3's documentation leaves a choice is asserted by `tests/conformance` against real servers.
Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html.
"""

import hashlib
from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

from botocore.exceptions import ClientError, ParamValidationError
from botocore.response import StreamingBody

MIN_PART_BYTES = 5 * 1024 * 1024
REGION_KEY = "arn:aws:kms:eu-central-1:111122223333:key/"

_BUCKET = frozenset({"Bucket", "ExpectedBucketOwner"})
_OBJECT = _BUCKET | {"Key"}
_STORED = frozenset(
    {
        *("BucketKeyEnabled", "ContentType", "Metadata", "ObjectLockMode", "ObjectLockRetainUntilDate"),
        *("SSEKMSKeyId", "ServerSideEncryption", "StorageClass"),
    }
)
_CHECKED = frozenset({"ChecksumAlgorithm", "ChecksumSHA256"})

# What the product may say, by operation; botocore refuses any other name, and so does this.
PARAMETERS: Mapping[str, frozenset[str]] = {
    "put_object": _OBJECT | _STORED | _CHECKED | {"Body", "IfNoneMatch", "IfMatch"},
    "head_object": _OBJECT | {"ChecksumMode", "VersionId"},
    "get_object": _OBJECT | {"ChecksumMode", "VersionId"},
    "delete_object": _OBJECT | {"VersionId"},
    "create_multipart_upload": _OBJECT | _STORED | {"ChecksumAlgorithm"},
    "upload_part": _OBJECT | _CHECKED | {"Body", "PartNumber", "UploadId"},
    "complete_multipart_upload": _OBJECT
    | {"ChecksumSHA256", "IfNoneMatch", "MpuObjectSize", "MultipartUpload", "UploadId"},
    "abort_multipart_upload": _OBJECT | {"UploadId"},
    "list_objects_v2": _BUCKET | {"ContinuationToken", "MaxKeys", "Prefix"},
    "list_multipart_uploads": _BUCKET | {"KeyMarker", "MaxUploads", "Prefix", "UploadIdMarker"},
    "list_object_versions": _BUCKET | {"Prefix"},
    "get_object_lock_configuration": _BUCKET,
    "put_object_legal_hold": _OBJECT | {"ChecksumAlgorithm", "LegalHold", "VersionId"},
    "put_object_retention": _OBJECT | {"BypassGovernanceRetention", "ChecksumAlgorithm", "Retention", "VersionId"},
}


def s3_error(status: int, code: str, operation: str, message: str = "") -> ClientError:
    """Make an error as botocore raises it for what S3 answered."""
    details = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(details, "".join(word.title() for word in operation.split("_")))


@dataclass(slots=True)
class Version:
    """One version of an object; `body` None is a delete marker. `checksum` is S3's SHA-256 in base64, if it has one."""

    key: str
    version_id: str
    body: bytes | None
    etag: str
    modified: datetime
    content_type: str = "binary/octet-stream"
    metadata: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "STANDARD"
    sse: str = "AES256"
    kms_key_id: str | None = None
    checksum: str | None = None
    lock_mode: str | None = None
    retain_until: datetime | None = None
    legal_hold: bool = False


@dataclass(slots=True)
class Upload:
    """A multipart upload that has begun: nothing of it is visible."""

    key: str
    began: datetime
    asked: Mapping[str, Any]
    parts: dict[int, tuple[bytes, str, str]] = field(default_factory=dict)  # body, ETag, SHA-256


@dataclass(frozen=True, slots=True)
class Traits:
    """What kind of bucket it is, or what kind of store: some keep no checksums, or know no conditions."""

    name: str = "archive"
    owner: str = "111122223333"
    versioning: bool = True
    object_lock: bool = False
    default_days: int = 0
    checksums: bool = True
    conditions: bool = True
    min_part_bytes: int = MIN_PART_BYTES
    page_size: int = 1000


class S3:
    """One bucket. `clock` says the true time; `on_change` is told of every version that becomes the latest."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        traits: Traits | None = None,
        on_change: Callable[[Version, Version | None], None] = lambda _version, _previous: None,
    ) -> None:
        self.traits = traits or Traits()
        self.uploads: dict[str, Upload] = {}
        self._clock = clock
        self._on_change = on_change
        self._versions: dict[str, list[Version]] = {}
        self._keys: list[str] = []  # of all that ever were, in order
        self._count = 0

    # For whoever looks from the outside

    def latest(self, key: str) -> Version | None:
        """Return the object under a key; None when there is none."""
        versions = self._versions.get(key)
        return versions[-1] if versions and versions[-1].body is not None else None

    def versions(self, key: str) -> list[Version]:
        """Return everything that ever was under a key, oldest first."""
        return list(self._versions.get(key, ()))

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of the objects that are visible, in order."""
        found = []
        for key in self._keys[bisect_left(self._keys, prefix) :]:
            if not key.startswith(prefix):
                break
            if self.latest(key) is not None:
                found.append(key)
        return found

    # Objects

    def put_object(self, **asked: Any) -> dict[str, Any]:
        self._check("put_object", asked, "Key", "Body")
        body = bytes(asked["Body"])
        digest = self._digest("put_object", asked, body)
        self._check_conditions("put_object", asked)
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        checksum = digest if asked.keys() & _CHECKED else None
        version = self._store("put_object", asked["Key"], body, etag, checksum, asked)
        return self._answer({"ETag": version.etag, "ChecksumSHA256": checksum} | self._version_id(version))

    def head_object(self, **asked: Any) -> dict[str, Any]:
        return self._describe("head_object", asked, "404")[1]

    def get_object(self, **asked: Any) -> dict[str, Any]:
        body, answer = self._describe("get_object", asked, "NoSuchKey")
        return answer | {"Body": StreamingBody(BytesIO(body), len(body))}

    def delete_object(self, **asked: Any) -> dict[str, Any]:
        self._check("delete_object", asked, "Key")
        key = asked["Key"]
        if "VersionId" in asked:
            return self._delete_version(key, asked["VersionId"])
        if not self.traits.versioning:
            previous = self.latest(key)
            self._versions.pop(key, None)
            if previous is not None:
                self._on_change(Version(key, "null", None, "", self._now()), previous)
            return self._answer({})
        marker = Version(key, self._next("v"), None, "", self._now())
        self._add(marker)
        return self._answer({"DeleteMarker": True, "VersionId": marker.version_id})

    def _delete_version(self, key: str, version_id: str) -> dict[str, Any]:
        for version in self._versions.get(key, ()):
            if version.version_id == version_id:
                if version.legal_hold or (version.retain_until and version.retain_until > self._clock()):
                    raise s3_error(403, "AccessDenied", "delete_object")
                self._versions[key].remove(version)
                self._on_change(Version(key, version_id, None, "", self._now()), version)
                break
        return self._answer({"VersionId": version_id})

    def _describe(self, operation: str, asked: Mapping[str, Any], missing: str) -> tuple[bytes, dict[str, Any]]:
        self._check(operation, asked, "Key")
        version = self._find(operation, asked, missing)
        body = version.body or b""
        answer: dict[str, Any] = {
            "ContentLength": len(body),
            "ETag": version.etag,
            "LastModified": version.modified,
            "ContentType": version.content_type,
            "Metadata": dict(version.metadata),
            "ServerSideEncryption": version.sse,
            "SSEKMSKeyId": version.kms_key_id,
            "StorageClass": None if version.storage_class == "STANDARD" else version.storage_class,
            "ObjectLockMode": version.lock_mode,
            "ObjectLockRetainUntilDate": version.retain_until,
            "ObjectLockLegalHoldStatus": "ON" if version.legal_hold else None,
        }
        if asked.get("ChecksumMode") == "ENABLED" and version.checksum:
            answer["ChecksumSHA256"] = version.checksum
        return body, self._answer(answer | self._version_id(version))

    def _find(self, operation: str, asked: Mapping[str, Any], missing: str) -> Version:
        versions = self._versions.get(asked["Key"], ())
        if "VersionId" not in asked:
            if not versions or versions[-1].body is None:
                raise s3_error(404, missing, operation)
            return versions[-1]
        for version in versions:
            if version.version_id == asked["VersionId"]:
                if version.body is None:
                    raise s3_error(405, "405" if missing == "404" else "MethodNotAllowed", operation)
                return version
        raise s3_error(404, "404" if missing == "404" else "NoSuchVersion", operation)

    # Multipart uploads

    def create_multipart_upload(self, **asked: Any) -> dict[str, Any]:
        self._check("create_multipart_upload", asked, "Key")
        self._lock("create_multipart_upload", asked)
        upload_id = self._next("u")
        self.uploads[upload_id] = Upload(asked["Key"], self._now(), asked)
        return self._answer({"UploadId": upload_id, "Key": asked["Key"]})

    def upload_part(self, **asked: Any) -> dict[str, Any]:
        self._check("upload_part", asked, "Key", "Body", "PartNumber", "UploadId")
        upload = self._upload("upload_part", asked)
        if not 1 <= asked["PartNumber"] <= 10_000:
            raise s3_error(400, "InvalidArgument", "upload_part")
        body = bytes(asked["Body"])
        digest = self._digest("upload_part", asked, body)
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        upload.parts[asked["PartNumber"]] = (body, etag, digest)
        return self._answer({"ETag": etag, "ChecksumSHA256": digest})

    def complete_multipart_upload(self, **asked: Any) -> dict[str, Any]:
        operation = "complete_multipart_upload"
        self._check(operation, asked, "Key", "UploadId", "MultipartUpload")
        upload = self._upload(operation, asked)
        parts = self._parts(upload, asked["MultipartUpload"].get("Parts", ()))
        body = b"".join(part for part, _, _ in parts)
        if asked.get("MpuObjectSize", len(body)) != len(body):
            raise s3_error(400, "InvalidRequest", operation)
        whole = hashlib.sha256(b"".join(b64decode(digest) for _, _, digest in parts))
        checksum = f"{b64encode(whole.digest()).decode()}-{len(parts)}"
        if asked.get("ChecksumSHA256", checksum) != checksum:
            raise s3_error(400, "BadDigest", operation)
        self._check_conditions(operation, asked)
        whole_md5 = hashlib.md5(b"".join(bytes.fromhex(etag) for _, etag, _ in parts), usedforsecurity=False)
        etag = f"{whole_md5.hexdigest()}-{len(parts)}"
        kept = checksum if "ChecksumAlgorithm" in upload.asked else None
        del self.uploads[asked["UploadId"]]
        version = self._store(operation, upload.key, body, etag, kept, upload.asked)
        return self._answer({"ETag": etag, "ChecksumSHA256": kept} | self._version_id(version))

    def abort_multipart_upload(self, **asked: Any) -> dict[str, Any]:
        self._check("abort_multipart_upload", asked, "Key", "UploadId")
        self._upload("abort_multipart_upload", asked)
        del self.uploads[asked["UploadId"]]
        return self._answer({})

    def _upload(self, operation: str, asked: Mapping[str, Any]) -> Upload:
        upload = self.uploads.get(asked["UploadId"])
        if upload is None or upload.key != asked["Key"]:
            raise s3_error(404, "NoSuchUpload", operation)
        return upload

    def _parts(self, upload: Upload, named: list[Mapping[str, Any]]) -> list[tuple[bytes, str, str]]:
        """Return the parts that a completion names. Raises like S3 when they are not those that were uploaded."""
        operation = "complete_multipart_upload"
        numbers = [part["PartNumber"] for part in named]
        if not numbers:
            raise s3_error(400, "MalformedXML", operation)
        if numbers != sorted(set(numbers)):
            raise s3_error(400, "InvalidPartOrder", operation)
        parts = []
        for part in named:
            known = upload.parts.get(part["PartNumber"])
            if known is None or part["ETag"] != known[1] or part.get("ChecksumSHA256", known[2]) != known[2]:
                raise s3_error(400, "InvalidPart", operation)
            parts.append(known)
        if any(len(body) < self.traits.min_part_bytes for body, _, _ in parts[:-1]):
            raise s3_error(400, "EntityTooSmall", operation)
        return parts

    def encrypt_anew(self, key: str, key_id: str) -> None:
        """Encrypt the latest version under another key, which whoever may do that does without a new version."""
        version = self._versions[key][-1]
        version.sse, version.kms_key_id = "aws:kms", REGION_KEY + key_id
        self._on_change(version, version)

    # Lists

    def list_objects_v2(self, **asked: Any) -> dict[str, Any]:
        self._check("list_objects_v2", asked)
        after, size = asked.get("ContinuationToken", ""), asked.get("MaxKeys", self.traits.page_size)
        found = [key for key in self.keys(asked.get("Prefix", "")) if key > after.removeprefix("after:")]
        contents = [
            {
                "Key": key,
                "LastModified": version.modified,
                "ETag": version.etag,
                "Size": len(version.body or b""),
                "StorageClass": version.storage_class,
            }
            for key in found[:size]
            if (version := self.latest(key)) is not None
        ]
        answer: dict[str, Any] = {"IsTruncated": len(found) > size, "KeyCount": len(contents)}
        if contents:
            answer["Contents"] = contents
        if answer["IsTruncated"]:
            answer["NextContinuationToken"] = f"after:{found[size - 1]}"
        return self._answer(answer)

    def list_multipart_uploads(self, **asked: Any) -> dict[str, Any]:
        self._check("list_multipart_uploads", asked)
        marker = (asked.get("KeyMarker", ""), asked.get("UploadIdMarker", ""))
        size = asked.get("MaxUploads", self.traits.page_size)
        found = sorted(
            (upload.key, upload_id)
            for upload_id, upload in self.uploads.items()
            if upload.key.startswith(asked.get("Prefix", "")) and (upload.key, upload_id) > marker
        )
        answer: dict[str, Any] = {"IsTruncated": len(found) > size}
        if found:
            answer["Uploads"] = [
                {"Key": key, "UploadId": upload_id, "Initiated": self.uploads[upload_id].began}
                for key, upload_id in found[:size]
            ]
        if answer["IsTruncated"]:
            answer["NextKeyMarker"], answer["NextUploadIdMarker"] = found[size - 1]
        return self._answer(answer)

    def list_object_versions(self, **asked: Any) -> dict[str, Any]:
        self._check("list_object_versions", asked)
        answer: dict[str, Any] = {"Versions": [], "DeleteMarkers": []}
        for key in self._keys:
            if key.startswith(asked.get("Prefix", "")):
                for version in reversed(self._versions.get(key, [])):
                    kind = "DeleteMarkers" if version.body is None else "Versions"
                    answer[kind].append({"Key": key, "VersionId": version.version_id})
        return self._answer({name: found for name, found in answer.items() if found})

    # Object Lock

    def get_object_lock_configuration(self, **asked: Any) -> dict[str, Any]:
        self._check("get_object_lock_configuration", asked)
        if not self.traits.object_lock:
            raise s3_error(404, "ObjectLockConfigurationNotFoundError", "get_object_lock_configuration")
        found: dict[str, Any] = {"ObjectLockEnabled": "Enabled"}
        if self.traits.default_days:
            found["Rule"] = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": self.traits.default_days}}
        return self._answer({"ObjectLockConfiguration": found})

    def put_object_legal_hold(self, **asked: Any) -> dict[str, Any]:
        self._check("put_object_legal_hold", asked, "Key", "LegalHold")
        if not self.traits.object_lock:
            raise s3_error(400, "InvalidRequest", "put_object_legal_hold")
        version = self._find("put_object_legal_hold", asked, "NoSuchKey")
        version.legal_hold = asked["LegalHold"]["Status"] == "ON"
        self._on_change(version, version)
        return self._answer({})

    def put_object_retention(self, **asked: Any) -> dict[str, Any]:
        self._check("put_object_retention", asked, "Key", "Retention")
        if not self.traits.object_lock:
            raise s3_error(400, "InvalidRequest", "put_object_retention")
        version = self._find("put_object_retention", asked, "NoSuchKey")
        mode, until = asked["Retention"]["Mode"], asked["Retention"]["RetainUntilDate"]
        weaker = version.retain_until is not None and (until < version.retain_until or mode != version.lock_mode)
        bypassed = version.lock_mode == "GOVERNANCE" and asked.get("BypassGovernanceRetention")
        if weaker and not bypassed:
            raise s3_error(403, "AccessDenied", "put_object_retention")
        version.lock_mode, version.retain_until = mode, until
        self._on_change(version, version)
        return self._answer({})

    def _lock(self, operation: str, asked: Mapping[str, Any]) -> tuple[str | None, datetime | None]:
        """Return the retention that a write gets. Raises like S3 for one that it does not take."""
        mode, until = asked.get("ObjectLockMode"), asked.get("ObjectLockRetainUntilDate")
        if mode is None and until is None:
            days = self.traits.default_days
            return ("GOVERNANCE", self._clock() + timedelta(days=days)) if days else (None, None)
        if not self.traits.object_lock:
            raise s3_error(400, "InvalidRequest", operation, "Bucket is missing Object Lock Configuration")
        if mode is None or until is None or not asked.keys() & _CHECKED:
            raise s3_error(400, "InvalidRequest", operation)
        if until <= self._clock():
            raise s3_error(400, "InvalidArgument", operation, "The retain until date must be in the future!")
        return mode, until

    # What all have in common

    def _check(self, operation: str, asked: Mapping[str, Any], *required: str) -> None:
        unknown = asked.keys() - PARAMETERS[operation]
        missing = {"Bucket", *required} - asked.keys()
        if unknown or missing:
            raise ParamValidationError(report=f"{operation}: unknown {sorted(unknown)}, missing {sorted(missing)}")
        if asked["Bucket"] != self.traits.name:
            raise s3_error(404, "NoSuchBucket", operation)
        if asked.get("ExpectedBucketOwner", self.traits.owner) != self.traits.owner:
            raise s3_error(403, "AccessDenied", operation)

    def _digest(self, operation: str, asked: Mapping[str, Any], body: bytes) -> str:
        digest = b64encode(hashlib.sha256(body).digest()).decode()
        if asked.get("ChecksumSHA256", digest) != digest:
            raise s3_error(400, "BadDigest", operation)
        return digest

    def _check_conditions(self, operation: str, asked: Mapping[str, Any]) -> None:
        if not self.traits.conditions:
            return
        latest = self.latest(asked["Key"])
        if asked.get("IfNoneMatch", "*") != "*":
            raise s3_error(501, "NotImplemented", operation)
        if "IfNoneMatch" in asked and latest is not None:
            raise s3_error(412, "PreconditionFailed", operation)
        if "IfMatch" in asked and latest is None:
            raise s3_error(404, "NoSuchKey", operation)
        if "IfMatch" in asked and latest is not None and asked["IfMatch"] != latest.etag:
            raise s3_error(412, "PreconditionFailed", operation)

    def _store(
        self, operation: str, key: str, body: bytes, etag: str, checksum: str | None, asked: Mapping[str, Any]
    ) -> Version:
        mode, until = self._lock(operation, asked)
        kms = asked.get("ServerSideEncryption") == "aws:kms"
        key_id = str(asked.get("SSEKMSKeyId", "aws-s3-managed"))
        version = Version(
            key=key,
            version_id=self._next("v") if self.traits.versioning else "null",
            body=body,
            etag=etag,
            modified=self._now(),
            content_type=asked.get("ContentType", "binary/octet-stream"),
            metadata=dict(asked.get("Metadata", {})),
            storage_class=asked.get("StorageClass", "STANDARD"),
            sse=asked.get("ServerSideEncryption", "AES256"),
            kms_key_id=(key_id if key_id.startswith("arn:") else REGION_KEY + key_id) if kms else None,
            checksum=checksum if self.traits.checksums else None,
            lock_mode=mode,
            retain_until=until,
        )
        self._add(version)
        return version

    def _add(self, version: Version) -> None:
        versions = self._versions.setdefault(version.key, [])
        place = bisect_left(self._keys, version.key)
        if self._keys[place : place + 1] != [version.key]:
            self._keys.insert(place, version.key)
        previous = self.latest(version.key)
        if not self.traits.versioning:
            versions.clear()
        versions.append(version)
        self._on_change(version, previous)

    def _version_id(self, version: Version) -> dict[str, Any]:
        return {"VersionId": version.version_id} if self.traits.versioning else {}

    @staticmethod
    def _answer(fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is there, as botocore does: a field without a value is not given."""
        return {name: value for name, value in fields.items() if value is not None}

    def _now(self) -> datetime:
        return self._clock().replace(microsecond=0)

    def _next(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count:06}"
