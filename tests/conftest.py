"""What every test may use: real servers, started at their first use and shared, isolated for each test."""

import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from deploy.local.processes import Process
from deploy.local.servers import RedisServer, S3Server
from deploy.local.twilio import Simulator
from tests.output import OUTPUT

SOCKETLESS = [Path(__file__).parent / name for name in ("unit", "model")]
LOOPBACK = ["127.0.0.1", "::1"]

hypothesis.settings.register_profile("any machine", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script, and in all that is started
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let unit tests and the model open no socket at all, and the others none that leaves the machine."""
    for item in items:
        socketless = any(map(item.path.is_relative_to, SOCKETLESS))
        item.add_marker(pytest.mark.disable_socket if socketless else pytest.mark.allow_hosts(LOOPBACK))


@pytest.fixture(scope="session", autouse=True)
def nothing_gets_out() -> Iterator[None]:
    """After all tests, search what the product put out in any of them for secrets and phone numbers."""
    Process.witnesses.append(OUTPUT.keep_of)
    yield
    assert OUTPUT.leaks() == []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what a test captured."""
    for kind, text in report.sections:
        OUTPUT.keep("captured", f"{kind}\n{text}")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Return the Redis server of the session; who wants to break one starts one."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Return the S3 server of the session."""
    with S3Server() as server:
        yield server


@pytest.fixture(scope="session")
def databases() -> Iterator[int]:
    """Yield numbers of databases, none twice: what one test left there, or what still runs, reaches no other."""
    return iter(range(RedisServer.databases))


@pytest.fixture
def redis_database(databases: Iterator[int]) -> int:
    """Return the number of an empty database of `redis_server`."""
    return next(databases)


@pytest.fixture
def redis_url(redis_server: RedisServer, redis_database: int) -> str:
    """Return the URL of an empty database."""
    return redis_server.url(redis_database)


@pytest.fixture
def make_bucket(s3_server: S3Server) -> Callable[..., str]:
    """Return `S3Server.make_bucket` with a fresh name each time: make_bucket(object_lock=True)."""

    def make(*, versioning: bool = True, object_lock: bool = False) -> str:
        name = f"test-{secrets.token_hex(8)}"
        return s3_server.make_bucket(name, versioning=versioning, object_lock=object_lock)

    return make


@pytest.fixture
def bucket(make_bucket: Callable[..., str]) -> str:
    """Return the name of a fresh, versioned bucket."""
    return make_bucket()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """Return a Twilio of this test's own, with one account."""
    with Simulator() as simulator:
        yield simulator
