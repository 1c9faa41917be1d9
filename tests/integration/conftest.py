"""The product on the local stack: its processes as the Procfile says, with real Redis, S3 and the simulator."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deploy.local.s3_proxy import S3Proxy
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import Account, Simulator
from tests.integration.bucket import Bucket
from tests.integration.command_line import CommandLine
from tests.integration.simulator_tools import Rest
from tests.integration.sweep_bench import SweepBench
from tests.integration.workbench import Workbench

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


@pytest.fixture
def account() -> Account:
    """Return an account with nothing special; a module of tests may have another one."""
    return Account()


@pytest.fixture
def sim(account: Account) -> Iterator[Simulator]:
    """Return a simulator that knows `account`."""
    with Simulator(accounts=[account]) as running:
        yield running


@pytest.fixture
def rest(sim: Simulator, account: Account) -> Iterator[Rest]:
    """Return plain HTTP to `account` at `sim`."""
    with Rest(sim, account) as session:
        yield session


@pytest.fixture(scope="session")
def s3_proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    """Return a proxy in front of the S3 server of the session."""
    with S3Proxy(s3_server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def aws_environment(s3_proxy: S3Proxy, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """Tell boto3 where S3 is and who we are, as the environment of a worker would; faults end with the test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:  # nothing of whoever runs this
        monkeypatch.delenv(name)
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    for name, value in {**files, **s3_server.environment(), "AWS_ENDPOINT_URL_S3": s3_proxy.url}.items():
        monkeypatch.setenv(name, value)
    yield s3_proxy
    s3_proxy.clear_faults()


@pytest.fixture
def make_workbench(
    aws_environment: S3Proxy, s3_server: S3Server, make_bucket: Callable[..., str], simulator: Simulator
) -> Iterator[Callable[..., Workbench]]:
    """Return what makes the parts of a worker with a fresh bucket, as `make_bucket` makes it, and no settings."""
    with closing(s3_server.client()) as client:
        yield lambda **options: Workbench(simulator, aws_environment, Bucket(client, make_bucket(**options)))


@pytest.fixture
def workbench(make_workbench: Callable[..., Workbench]) -> Workbench:
    """Return the parts of a worker with a fresh, versioned bucket."""
    return make_workbench()


@pytest.fixture
def archiver(aws_environment: S3Proxy, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    """Return the command line, in an empty directory, with Redis and S3 in its environment; give it a workbench."""
    monkeypatch.chdir(tmp_path)
    command_line = CommandLine(monkeypatch)
    command_line.set(REDIS_URL=redis_url, PUBLIC_URL="https://archive.example.com")
    return command_line


@pytest.fixture
def bench_of_sweeps(
    aws_environment: S3Proxy, redis_server: RedisServer, redis_database: int, bucket: str
) -> Iterator[SweepBench]:
    """Return both sides and the queue of sweeps, with one account and a fresh bucket."""
    with Simulator(accounts=[MAIN]) as simulator:
        yield SweepBench(MAIN, simulator, aws_environment, redis_server, redis_database, bucket)
