"""The S3 stores that one suite is held against: in memory, the local server, moto and, where asked for, AWS itself."""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
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

# Where a store differs from S3 in what the product leans on, and why that is no reason to mend it: (store, rule).
EXCEPTIONS = {
    ("real", ""): "",
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
