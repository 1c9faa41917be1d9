"""One suite for every stand-in: a test runs once against each, and the known exceptions are strict."""

import os
from collections.abc import Iterator

import pytest

from tests.conformance import stores, twilios
from tests.conformance.stores import STORES, Bucket, Store
from tests.conformance.twilios import TWILIOS, Party


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the exceptions of the tables to fail, and let the real services be reached where they are asked for."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is None or not item.path.is_relative_to(os.path.dirname(__file__)):
            continue
        for fixture, exceptions in (("store", stores.EXCEPTIONS), ("party", twilios.EXCEPTIONS)):
            name = callspec.params.get(fixture)
            others = [str(value) for parameter, value in callspec.params.items() if parameter != fixture]
            rule = " ".join([item.name.partition("[")[0].removeprefix("test_"), *others])
            if reason := exceptions.get((name, rule)):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
            if name == "real":
                item.add_marker(pytest.mark.enable_socket)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Return an S3."""
    with stores.opened(request.param, request) as opened:
        yield opened


@pytest.fixture
def bucket(store: Store) -> Bucket:
    """Return a versioned bucket."""
    return store.bucket()


@pytest.fixture
def locked(store: Store) -> Bucket:
    """Return a bucket with Object Lock."""
    return store.bucket(object_lock=True)


@pytest.fixture(params=TWILIOS)
def party(request: pytest.FixtureRequest) -> Iterator[Party]:
    """Return a Twilio account that recordings can be made in."""
    with twilios.opened(request.param) as opened:
        yield opened
