"""The product on the local stack: its processes as the Procfile says, with real Redis, S3 and the simulator."""

from collections.abc import Iterator

import pytest

from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import Account, Simulator
from tests.integration.bucket import Bucket

MAIN = Account(
    sid="AC" + "a1" * 16, auth_tokens=["main-token-one", "main-token-two"], api_keys={"SK" + "5e" * 16: "key-secret"}
)
SUB = Account(sid="AC" + "b2" * 16, auth_tokens=["sub-token"], parent=MAIN.sid)


@pytest.fixture(scope="module")
def stack(redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> Iterator[Stack]:
    """Return a running product with two accounts, shared by the tests of a module."""
    with (
        Simulator(accounts=[MAIN, SUB]) as simulator,
        Stack(
            ("web", "worker"),
            redis_server=redis_server,
            database=next(databases),
            s3_server=s3_server,
            simulator=simulator,
        ) as stack,
    ):
        yield stack


@pytest.fixture(scope="module")
def archived(stack: Stack) -> Bucket:
    """Return the bucket of `stack`."""
    return Bucket(stack.s3.client(), stack.bucket)
