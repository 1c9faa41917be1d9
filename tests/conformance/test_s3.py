"""What the product leans on in S3, held against every stand-in and, with `CONFORMANCE_S3_BUCKET`, against S3 itself.

A rule that a stand-in does not keep is in `stores.EXCEPTIONS`, with the reason. Source of the rules:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.stores import NOBODY, Bucket, Store

BODY, OTHER = b"what was said on the phone", b"something else"
PART = 5 * 1024 * 1024  # the least that S3 takes for a part that is not the last
KEY = "recordings/RE01.wav"


def sha256(body: bytes) -> str:
    return b64encode(hashlib.sha256(body).digest()).decode()


def put(bucket: Bucket, key: str = KEY, body: bytes = BODY, **options: Any) -> Any:
    """Write as the product does, unless told otherwise."""
    checked = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": sha256(body)}
    return bucket.put_object(Key=bucket.prefix + key, Body=body, **checked | options)


def head(bucket: Bucket, key: str = KEY, **options: Any) -> Any:
    return bucket.head_object(Key=bucket.prefix + key, ChecksumMode="ENABLED", **options)


def read(bucket: Bucket, key: str = KEY, **options: Any) -> bytes:
    body: bytes = bucket.get_object(Key=bucket.prefix + key, **options)["Body"].read()
    return body


def keys(bucket: Bucket, prefix: str = "") -> list[str]:
    pages = bucket.pages("list_objects_v2", Prefix=bucket.prefix + prefix)
    return [item["Key"].removeprefix(bucket.prefix) for page in pages for item in page.get("Contents", ())]


def refused(act: Callable[[], object]) -> tuple[int, str]:
    """Return with which status and code S3 refuses something."""
    with pytest.raises(ClientError) as error:
        act()
    answer = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


class Upload:
    """A multipart upload of two parts, not completed yet."""

    def __init__(self, bucket: Bucket, **options: Any) -> None:
        self.bucket = bucket
        self.bodies = [bytes([65 + number]) * size for number, size in enumerate((PART, 1000))]
        self.target: dict[str, Any] = {"Key": bucket.prefix + KEY}
        begun = bucket.create_multipart_upload(ChecksumAlgorithm="SHA256", **self.target, **options)
        self.target["UploadId"] = begun["UploadId"]
        self.parts = [self._send(number, body) for number, body in enumerate(self.bodies, start=1)]

    @property
    def checksum(self) -> str:
        """Return S3's checksum of checksums."""
        digests = b"".join(b64decode(part["ChecksumSHA256"]) for part in self.parts)
        return f"{sha256(digests)}-{len(self.parts)}"

    def _send(self, number: int, body: bytes) -> dict[str, Any]:
        digest = sha256(body)
        answer = self.bucket.upload_part(PartNumber=number, Body=body, ChecksumSHA256=digest, **self.target)
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": digest}

    def complete(self, **changes: Any) -> Any:
        asked = {
            "MultipartUpload": {"Parts": self.parts},
            "ChecksumSHA256": self.checksum,
            "MpuObjectSize": sum(map(len, self.bodies)),
            "IfNoneMatch": "*",
        }
        return self.bucket.complete_multipart_upload(**self.target, **asked | changes)

    def abort(self) -> Any:
        return self.bucket.abort_multipart_upload(**self.target)


# One object


def test_what_is_stored_is_described(bucket: Bucket) -> None:
    """Size, type, metadata, version, ETag, encryption and time are as they were written."""
    written = put(bucket, ContentType="audio/x-wav", Metadata={"recording-sid": "RE01"}, ServerSideEncryption="AES256")
    found = head(bucket)
    assert (found["ContentLength"], found["ContentType"]) == (len(BODY), "audio/x-wav")
    assert found["Metadata"] == {"recording-sid": "RE01"}
    assert (found["VersionId"], found["ETag"]) == (written["VersionId"], written["ETag"])
    assert found["ServerSideEncryption"] == "AES256"
    assert abs(datetime.now(UTC) - found["LastModified"]) < timedelta(minutes=15)
    assert read(bucket) == BODY


def test_the_checksum_is_s3s_own(bucket: Bucket) -> None:
    """S3 states the SHA-256 of what it holds, also of nothing."""
    put(bucket)
    put(bucket, "index/RE01", b"")
    assert head(bucket)["ChecksumSHA256"] == sha256(BODY)
    assert head(bucket, "index/RE01")["ChecksumSHA256"] == sha256(b"")


def test_a_damaged_body_is_refused(bucket: Bucket) -> None:
    """What does not have its checksum becomes no object."""
    assert refused(lambda: put(bucket, ChecksumSHA256=sha256(OTHER))) == (400, "BadDigest")
    assert keys(bucket) == []


def test_a_storage_class_is_kept_and_the_standard_one_not_named(bucket: Bucket) -> None:
    """Of the storage class nothing is said where it is the standard one."""
    put(bucket)
    put(bucket, "rare", StorageClass="STANDARD_IA")
    assert head(bucket).get("StorageClass") is None
    assert head(bucket, "rare")["StorageClass"] == "STANDARD_IA"


def test_a_key_of_kms_is_named_by_its_arn(store: Store) -> None:
    """Whatever a write calls the key, S3 reports its ARN."""
    bucket, key_id = store.bucket(), "5c6f7a8b-1234-4321-9876-0123456789ab"
    if type(store).__name__ == "Real":
        pytest.skip("needs a key of the account")
    put(bucket, ServerSideEncryption="aws:kms", SSEKMSKeyId=key_id, BucketKeyEnabled=True)
    found = head(bucket)
    assert found["ServerSideEncryption"] == "aws:kms"
    assert found["SSEKMSKeyId"].startswith("arn:aws:kms:")
    assert found["SSEKMSKeyId"].endswith(f":key/{key_id}")


def test_what_is_missing_is_404(bucket: Bucket) -> None:
    """HEAD has no body to name its error; GET does."""
    assert refused(lambda: head(bucket)) == (404, "404")
    assert refused(lambda: read(bucket)) == (404, "NoSuchKey")


def test_a_bucket_that_is_missing_is_another_404(bucket: Bucket) -> None:
    """A wrong name of the bucket is never taken for a missing object."""
    assert refused(lambda: bucket.client.get_object(Bucket="conformance-nobodys", Key=KEY)) == (404, "NoSuchBucket")


def test_a_bucket_of_somebody_else_is_refused(bucket: Bucket) -> None:
    """`ExpectedBucketOwner` keeps recordings out of a bucket of the same name that is another account's."""
    assert refused(lambda: put(bucket, ExpectedBucketOwner=NOBODY)) == (403, "AccessDenied")
    assert keys(bucket) == []


# Conditions


def test_a_key_is_written_once(bucket: Bucket) -> None:
    """`If-None-Match: *` refuses a key that is taken, and leaves what is there."""
    first = put(bucket, IfNoneMatch="*")
    assert refused(lambda: put(bucket, body=OTHER, IfNoneMatch="*")) == (412, "PreconditionFailed")
    assert (read(bucket), head(bucket)["VersionId"]) == (BODY, first["VersionId"])


def test_of_many_at_once_one_writes(store: Store) -> None:
    """Two workers that write the same key at the same moment make one object."""
    if not store.is_server:
        pytest.skip("answers one at a time")
    bucket, bodies = store.bucket(), [f"attempt {number}".encode() for number in range(8)]

    def attempt(body: bytes) -> bool:
        try:
            put(bucket, body=body, IfNoneMatch="*")
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"] not in (409, 412)
        return True

    with ThreadPoolExecutor(len(bodies)) as pool:
        written = [body for body, done in zip(bodies, pool.map(attempt, bodies), strict=True) if done]
    assert [read(bucket)] == written


def test_a_key_is_free_again_behind_a_delete_marker(bucket: Bucket) -> None:
    """What was deleted does not stand in the way of the next write."""
    put(bucket)
    bucket.delete_object(Key=bucket.prefix + KEY)
    put(bucket, body=OTHER, IfNoneMatch="*")
    assert read(bucket) == OTHER


def test_a_document_is_replaced_only_as_it_was_read(bucket: Bucket) -> None:
    """`If-Match` takes the ETag of the latest version and no earlier one."""
    first = put(bucket)["ETag"]
    second = put(bucket, body=OTHER, IfMatch=first)["ETag"]
    assert refused(lambda: put(bucket, body=b"third", IfMatch=first)) == (412, "PreconditionFailed")
    put(bucket, body=b"third", IfMatch=second)
    assert read(bucket) == b"third"


def test_what_is_gone_is_not_replaced(bucket: Bucket) -> None:
    """`If-Match` where there is nothing is a 404, and writes nothing."""
    assert refused(lambda: put(bucket, IfMatch='"0123456789abcdef0123456789abcdef"')) == (404, "NoSuchKey")
    assert keys(bucket) == []


# Versions


def test_an_overwritten_object_has_another_version(bucket: Bucket) -> None:
    """The latest version is not the one that was written first, which is still there."""
    first, second = put(bucket), put(bucket, body=OTHER)
    assert head(bucket)["VersionId"] == second["VersionId"] != first["VersionId"]
    assert read(bucket, VersionId=first["VersionId"]) == BODY
    assert head(bucket, VersionId=first["VersionId"])["ChecksumSHA256"] == sha256(BODY)


def test_a_deleted_object_is_not_shown(bucket: Bucket) -> None:
    """A delete marker hides an object from HEAD, GET and the list, and not its versions."""
    version = put(bucket)["VersionId"]
    bucket.delete_object(Key=bucket.prefix + KEY)
    assert refused(lambda: head(bucket)) == (404, "404")
    assert refused(lambda: read(bucket)) == (404, "NoSuchKey")
    assert keys(bucket) == []
    assert read(bucket, VersionId=version) == BODY


def test_what_is_not_there_can_be_deleted(bucket: Bucket) -> None:
    """A second removal of a document is no error."""
    bucket.delete_object(Key=bucket.prefix + KEY)
    assert keys(bucket) == []


def test_without_versioning_there_is_one_version(store: Store) -> None:
    """A bucket without versioning states no version, or `null`."""
    bucket = store.bucket(versioning=False)
    assert put(bucket).get("VersionId", "null") == "null"
    assert put(bucket, body=OTHER).get("VersionId", "null") == "null"
    assert (read(bucket), head(bucket).get("VersionId", "null")) == (OTHER, "null")


# Lists


def test_a_list_is_in_the_order_of_bytes_and_in_pages(bucket: Bucket) -> None:
    """Keys come sorted, those under the prefix and no others, however many pages that takes."""
    for name in ("day=22/RE0b", "day=22/RE0B", "day=22/RE01", "day=22/RE010", "day=2/RE00", "day=23/RE00"):
        put(bucket, name)
    pages = bucket.pages("list_objects_v2", Prefix=bucket.prefix + "day=22/", MaxKeys=3)
    found = [[item["Key"].rpartition("/")[2] for item in page["Contents"]] for page in pages]
    assert found == [["RE01", "RE010", "RE0B"], ["RE0b"]]
    assert [page["IsTruncated"] for page in pages] == [True, False]


def test_a_list_says_when_and_how_large(bucket: Bucket) -> None:
    """The time of a listed object is that of its HEAD, give or take a fraction of a second."""
    put(bucket)
    [page] = bucket.pages("list_objects_v2", Prefix=bucket.prefix + "recordings/")
    [item] = page["Contents"]
    assert abs(item["LastModified"] - head(bucket)["LastModified"]) < timedelta(seconds=1)
    assert item["Size"] == len(BODY)


def test_an_empty_list_has_a_page(bucket: Bucket) -> None:
    """Nothing is found where nothing is."""
    [page] = bucket.pages("list_objects_v2", Prefix=bucket.prefix + "nothing/")
    assert not page.get("Contents")


# Multipart uploads


def test_parts_are_invisible_until_they_are_completed(bucket: Bucket) -> None:
    """Nothing of an upload is an object before its end; then all of it is, with the checksum of its checksums."""
    upload = Upload(bucket, ContentType="audio/x-wav", Metadata={"recording-sid": "RE01"})
    assert keys(bucket) == []
    assert refused(lambda: head(bucket)) == (404, "404")
    done = upload.complete()
    found = head(bucket)
    assert found["ChecksumSHA256"] == upload.checksum
    assert (found["ContentLength"], found["VersionId"]) == (PART + 1000, done["VersionId"])
    assert (found["ContentType"], found["Metadata"]) == ("audio/x-wav", {"recording-sid": "RE01"})
    assert read(bucket) == b"".join(upload.bodies)


def test_a_taken_key_is_not_completed(bucket: Bucket) -> None:
    """`If-None-Match: *` holds for uploads as well, and leaves the parts to be thrown away."""
    upload = Upload(bucket)
    put(bucket)
    assert refused(upload.complete) == (412, "PreconditionFailed")
    assert read(bucket) == BODY
    upload.abort()


def test_a_damaged_part_is_refused(bucket: Bucket) -> None:
    """A part without its checksum is not taken."""
    upload = Upload(bucket)
    again = {"PartNumber": 2, "Body": OTHER, "ChecksumSHA256": sha256(BODY), **upload.target}
    assert refused(lambda: bucket.upload_part(**again)) == (400, "BadDigest")
    upload.complete()


@pytest.mark.parametrize("wrong", ["ETag", "ChecksumSHA256"])
def test_only_the_parts_that_were_sent_are_completed(bucket: Bucket, wrong: str) -> None:
    """A part that is named with another ETag or checksum than it has ends in no object."""
    upload = Upload(bucket)
    others = {"ETag": '"0123456789abcdef0123456789abcdef"', "ChecksumSHA256": sha256(OTHER)}
    parts = [upload.parts[0] | {wrong: others[wrong]}, upload.parts[1]]
    assert refused(lambda: upload.complete(MultipartUpload={"Parts": parts})) == (400, "InvalidPart")
    assert keys(bucket) == []


def test_the_checksum_of_the_whole_is_compared(bucket: Bucket) -> None:
    """An upload whose checksum of checksums is another one becomes no object."""
    upload = Upload(bucket)
    status, _ = refused(lambda: upload.complete(ChecksumSHA256=f"{sha256(OTHER)}-2"))
    assert (status, keys(bucket)) == (400, [])


def test_the_size_of_the_whole_is_compared(bucket: Bucket) -> None:
    """An upload of another size than was said becomes no object."""
    upload = Upload(bucket)
    status, _ = refused(lambda: upload.complete(MpuObjectSize=PART))
    assert (status, keys(bucket)) == (400, [])


def test_a_completed_upload_makes_no_second_version(bucket: Bucket) -> None:
    """After a lost answer the completion is repeated: the upload is gone, or the key is taken, or it is the same."""
    upload = Upload(bucket)
    first = upload.complete()["VersionId"]
    said = ""
    try:
        upload.complete()
    except ClientError as error:
        said = error.response["Error"]["Code"]
    assert said in ("", "NoSuchUpload", "PreconditionFailed")
    assert head(bucket)["VersionId"] == first


def test_an_aborted_upload_is_gone(bucket: Bucket) -> None:
    """Its parts can't be completed any more."""
    upload = Upload(bucket)
    upload.abort()
    assert refused(upload.complete) == (404, "NoSuchUpload")
    assert keys(bucket) == []


def test_open_uploads_are_listed(bucket: Bucket) -> None:
    """Until it ends, an upload is listed under its key with the time at which it began; one page after another."""
    uploads = [Upload(bucket), Upload(bucket)]
    pages = bucket.pages("list_multipart_uploads", Prefix=bucket.prefix + "recordings/", MaxUploads=1)
    found = [item for page in pages for item in page.get("Uploads", ())]
    assert sorted(item["UploadId"] for item in found) == sorted(upload.target["UploadId"] for upload in uploads)
    assert {item["Key"] for item in found} == {bucket.prefix + KEY}
    assert all(abs(datetime.now(UTC) - item["Initiated"]) < timedelta(minutes=15) for item in found)
    for upload in uploads:
        upload.abort()
    [page] = bucket.pages("list_multipart_uploads", Prefix=bucket.prefix + "recordings/")
    assert not page.get("Uploads")


# Object Lock


def soon(**ahead: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(**ahead)


def lock(until: datetime, mode: str = "GOVERNANCE") -> dict[str, Any]:
    return {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": until}


def test_a_locked_object_is_kept(locked: Bucket) -> None:
    """The retention is as it was asked for, and the version can't be removed before."""
    until = soon(minutes=2)
    version = put(locked, **lock(until))["VersionId"]
    found = head(locked)
    assert (found["ObjectLockMode"], found["ObjectLockRetainUntilDate"]) == ("GOVERNANCE", until)
    remove = {"Key": locked.prefix + KEY, "VersionId": version}
    assert refused(lambda: locked.delete_object(**remove)) == (403, "AccessDenied")
    assert read(locked) == BODY


def test_what_is_uploaded_in_parts_is_locked_as_well(locked: Bucket) -> None:
    """The retention of an upload is that of its object."""
    until = soon(minutes=2)
    Upload(locked, **lock(until)).complete()
    found = head(locked)
    assert (found["ObjectLockMode"], found["ObjectLockRetainUntilDate"]) == ("GOVERNANCE", until)


def test_a_retention_that_is_past_is_refused(locked: Bucket) -> None:
    """A write with such a date fails instead of not being locked."""
    assert refused(lambda: put(locked, **lock(soon(days=-1))))[0] == 400
    assert keys(locked) == []


def test_a_bucket_without_object_lock_takes_no_retention(bucket: Bucket) -> None:
    """A write that asks for retention fails where there is none, instead of not being locked."""
    assert refused(lambda: put(bucket, **lock(soon(minutes=2)))) == (400, "InvalidRequest")
    assert keys(bucket) == []


def test_a_retention_is_shortened_only_by_who_may(locked: Bucket) -> None:
    """Governance gives way to whoever says so, and to nobody else; HEAD shows what is left."""
    until, sooner = soon(minutes=3), soon(minutes=2)
    put(locked, **lock(until))
    shorter = {"Key": locked.prefix + KEY, "Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": sooner}}
    assert refused(lambda: locked.put_object_retention(**shorter)) == (403, "AccessDenied")
    assert head(locked)["ObjectLockRetainUntilDate"] == until
    locked.put_object_retention(BypassGovernanceRetention=True, **shorter)
    assert head(locked)["ObjectLockRetainUntilDate"] == sooner


def test_compliance_gives_way_to_nobody(locked: Bucket) -> None:
    """A retention in compliance mode is not shortened."""
    until = soon(minutes=2)
    put(locked, **lock(until, "COMPLIANCE"))
    retention = {"Mode": "COMPLIANCE", "RetainUntilDate": soon(minutes=1)}
    shorter = {"Key": locked.prefix + KEY, "Retention": retention, "BypassGovernanceRetention": True}
    assert refused(lambda: locked.put_object_retention(**shorter)) == (403, "AccessDenied")
    assert head(locked)["ObjectLockRetainUntilDate"] == until


def test_a_legal_hold_is_shown_and_holds(locked: Bucket) -> None:
    """What is under a legal hold says so and can't be removed until it is lifted."""
    version = put(locked)["VersionId"]
    target = {"Key": locked.prefix + KEY, "VersionId": version}
    locked.put_object_legal_hold(LegalHold={"Status": "ON"}, ChecksumAlgorithm="SHA256", **target)
    assert head(locked)["ObjectLockLegalHoldStatus"] == "ON"
    assert refused(lambda: locked.delete_object(**target)) == (403, "AccessDenied")
    locked.put_object_legal_hold(LegalHold={"Status": "OFF"}, ChecksumAlgorithm="SHA256", **target)
    assert head(locked).get("ObjectLockLegalHoldStatus", "OFF") == "OFF"


def test_the_default_retention_is_told_and_given(store: Store) -> None:
    """The bucket says how long it keeps what asks for nothing, and does."""
    bucket = store.bucket(object_lock=True, default_days=7)
    found = bucket.get_object_lock_configuration()["ObjectLockConfiguration"]
    rule = found["Rule"]["DefaultRetention"]
    assert (rule["Mode"], rule["Days"], rule.get("Years", 0)) == ("GOVERNANCE", 7, 0)
    put(bucket)
    assert abs(head(bucket)["ObjectLockRetainUntilDate"] - soon(days=7)) < timedelta(minutes=15)


def test_a_bucket_says_whether_it_has_object_lock(bucket: Bucket, locked: Bucket) -> None:
    """One without has no configuration, which is a 404 of its own."""
    missing = (404, "ObjectLockConfigurationNotFoundError")
    assert refused(bucket.get_object_lock_configuration) == missing
    found = locked.get_object_lock_configuration()["ObjectLockConfiguration"]
    assert found["ObjectLockEnabled"] == "Enabled"
