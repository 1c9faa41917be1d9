"""Say which IAM actions an S3 request needs, and which condition keys AWS would know of it.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html.
"""

from collections.abc import Iterator
from typing import Final

from deploy.local.s3_proxy import Event
from tests.deploy.policies import Request

KEY: Final = "arn:aws:kms:eu-central-1:123456789012:key/0123"
_KMS: Final = {"kms:ViaService": "s3.eu-central-1.amazonaws.com"}
# On AWS the same requests go over TLS.
_TLS: Final = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}
_OF_THE_BUCKET: Final = {
    "ListObjects": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "ListObjectVersions": "s3:ListBucketVersions",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "HeadBucket": "s3:ListBucket",
    "GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "GetBucketPolicyStatus": "s3:GetBucketPolicyStatus",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
}
_OF_AN_OBJECT: Final = {
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "CompleteMultipartUpload": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "DeleteObject": "s3:DeleteObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "PutObjectLegalHold": "s3:PutObjectLegalHold",
    "UploadPart": "s3:PutObject",
}
_CREATE: Final = {"CompleteMultipartUpload", "PutObject"}  # the others of the upload accept no condition
_WITH_VERSIONS: Final = {"s3:DeleteObject", "s3:GetObject"}


def needed(event: Event, bucket: str) -> Iterator[Request]:
    """Yield what must be allowed for a request, for a bucket of that name that has a KMS key."""
    arn = f"arn:aws:s3:::{bucket}"
    if event.operation in _OF_THE_BUCKET:
        yield Request(_OF_THE_BUCKET[event.operation], arn, _TLS)
        return
    action, target = _OF_AN_OBJECT[event.operation], f"{arn}/{event.key}"
    if "versionId" in event.query and action in _WITH_VERSIONS:
        action += "Version"
    conditions = {f"s3:{name}": event.headers[name] for name in ("if-match", "if-none-match") if name in event.headers}
    if action == "s3:PutObject":
        conditions["s3:ObjectCreationOperation"] = str(event.operation in _CREATE).lower()
        yield Request("kms:GenerateDataKey", KEY, _KMS)
    if action == "s3:PutObject" or event.operation == "GetObject":
        yield Request("kms:Decrypt", KEY, _KMS)
    yield Request(action, target, _TLS | conditions)
    if "x-amz-object-lock-mode" in event.headers:
        yield Request("s3:PutObjectRetention", target, _TLS)
    if "x-amz-object-lock-legal-hold" in event.headers:
        yield Request("s3:PutObjectLegalHold", target, _TLS)
    if "x-amz-bypass-governance-retention" in event.headers:
        yield Request("s3:BypassGovernanceRetention", target, _TLS)
