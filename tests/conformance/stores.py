"""The S3 stores that one suite is held against: in memory, the local server, moto and, where asked for, AWS itself."""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from moto import mock_aws

from deploy.local.servers import S3Server
from tests.model.client import Client
from tests.model.s3 import S3, Traits

NOBODY = "999999999999"  # an account that owns none of the buckets

_ARN = "reports a key of KMS as it was called; nothing local encrypts, and the model's store reports the ARN"
_OWNER = "knows one account; the model's store refuses another one's bucket"
_PAST = "takes a date that is past; the product leaves such a date out itself, and the model's store refuses it"
_UPLOADS = "locks no uploads; the model's store does, and the product looks at every object that it has stored"
_UNCHECKED = "compares no checksum and no size; the other two do"
_UNLOCKED = "lets retention be shortened by anybody; the other two do not"

# Where a store differs from S3 in what the product leans on, and why no test is fooled by it: by (store, rule). What
# one does not do another does: the model's store keeps each rule, and the local server nearly each.
EXCEPTIONS: Mapping[tuple[str, str], str] = {
    ("local", "a_key_of_kms_is_named_by_its_arn"): _ARN,
    ("local", "a_bucket_of_somebody_else_is_refused"): _OWNER,
    ("local", "a_retention_that_is_past_is_refused"): _PAST,
    ("local", "what_is_uploaded_in_parts_is_locked_as_well"): _UPLOADS,
    ("moto", "a_key_of_kms_is_named_by_its_arn"): _ARN,
    ("moto", "a_bucket_of_somebody_else_is_refused"): _OWNER,
    ("moto", "a_retention_that_is_past_is_refused"): _PAST,
    ("moto", "what_is_uploaded_in_parts_is_locked_as_well"): _UPLOADS,
    ("moto", "a_damaged_body_is_refused"): _UNCHECKED,
    ("moto", "a_damaged_part_is_refused"): _UNCHECKED,
    ("moto", "only_the_parts_that_were_sent_are_completed ChecksumSHA256"): _UNCHECKED,
    ("moto", "the_checksum_of_the_whole_is_compared"): _UNCHECKED,
    ("moto", "the_size_of_the_whole_is_compared"): _UNCHECKED,
    ("moto", "parts_are_invisible_until_they_are_completed"): "states the checksum of checksums without its -2",
    ("moto", "an_aborted_upload_is_gone"): "fails instead of answering 404",
    ("moto", "open_uploads_are_listed"): "gives every upload the same time",
    ("moto", "a_retention_is_shortened_only_by_who_may"): _UNLOCKED,
    ("moto", "compliance_gives_way_to_nobody"): _UNLOCKED,
}


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket, the part of it that a test may use, and a client that speaks to it."""

    client: Any
    name: str
    prefix: str = ""

    def __getattr__(self, operation: str) -> Any:
        """Return an operation of the client on this bucket."""
        act = getattr(self.client, operation)
        return lambda **asked: act(Bucket=self.name, **asked)

    def pages(self, operation: str, **asked: Any) -> list[Any]:
        """Return all pages of a list, as the client's own paginator makes them."""
        return list(self.client.get_paginator(operation).paginate(Bucket=self.name, **asked))


class Store(ABC):
    """One S3: makes buckets, each fresh for its test."""

    is_server = False  # which answers several at once

    @abstractmethod
    def bucket(self, *, versioning: bool = True, object_lock: bool = False, default_days: int = 0) -> Bucket:
        """Make a bucket; with `default_days` of default retention in governance mode."""


class InMemory(Store):
    """What the model lives on."""

    def bucket(self, *, versioning: bool = True, object_lock: bool = False, default_days: int = 0) -> Bucket:
        traits = Traits("conformance", versioning=versioning, object_lock=object_lock, default_days=default_days)
        return Bucket(Client(S3(lambda: datetime.now(UTC), traits), lambda _call, act: act()), "conformance")


class ByBoto3(Store):
    """A store that boto3 makes the buckets of."""

    def __init__(self, client: Any, *, is_server: bool) -> None:
        self._client = client
        self.is_server = is_server

    def bucket(self, *, versioning: bool = True, object_lock: bool = False, default_days: int = 0) -> Bucket:
        name = f"conformance-{secrets.token_hex(8)}"
        self._client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=object_lock)
        if versioning and not object_lock:
            self._client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        if default_days:
            rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": default_days}}
            self._client.put_object_lock_configuration(
                Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
            )
        return Bucket(self._client, name)


class Real(Store):
    """Buckets of an AWS account, with boto3's own settings for credentials and region.

    `CONFORMANCE_S3_BUCKET` is versioned and without Object Lock, `CONFORMANCE_S3_LOCKED_BUCKET` has Object Lock without
    a default retention. What is written stays: give them a lifecycle rule.
    """

    is_server = True

    def bucket(self, *, versioning: bool = True, object_lock: bool = False, default_days: int = 0) -> Bucket:
        name = os.environ.get("CONFORMANCE_S3_LOCKED_BUCKET" if object_lock else "CONFORMANCE_S3_BUCKET")
        if name is None or not versioning or default_days:
            pytest.skip("there is no such bucket to try it with")
        return Bucket(boto3.client("s3"), name, f"conformance/{secrets.token_hex(8)}/")


@contextmanager
def opened(name: str, request: pytest.FixtureRequest) -> Iterator[Store]:
    """Open a store by its name."""
    if name == "memory":
        yield InMemory()
    elif name == "local":
        server: S3Server = request.getfixturevalue("s3_server")
        client = server.client()
        try:
            yield ByBoto3(client, is_server=True)
        finally:
            client.close()
    elif name == "moto":
        nobody = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1"}
        with patch.dict(os.environ, nobody), mock_aws():
            yield ByBoto3(boto3.client("s3"), is_server=False)
    else:
        yield Real()


STORES = ("memory", "local", "moto", *(["real"] if os.environ.get("CONFORMANCE_S3_BUCKET") else []))
