"""What judges the files of deploy/: tools in an environment of their own, made when a test first needs one."""

import subprocess
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from deploy.local import bootstrap
from deploy.local.servers import ROOT, RedisServer, S3Server
from tests.deploy.split import Split, running_split

Tool: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def tool() -> Tool:
    """Return what runs a program of that environment in the checkout: tool("hadolint", "deploy/Dockerfile")."""
    bootstrap.make_environments(bootstrap.DEPLOY)

    def run(name: str, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command = [str(bootstrap.DEPLOY.directory / "bin" / name), *arguments]
        return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def split(redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> Iterator[Split]:
    """Return a product that has archived and deleted recordings of every kind and was looked after by an operator."""
    with running_split(redis_server, next(databases), s3_server) as running:
        yield running
