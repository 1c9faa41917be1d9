"""Heroku: the Procfile under a runner, a Redis whose certificate nobody can verify, and the add-ons' variables."""

import http.client
import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.settings import BeatSettings, FetchSettings, WebSettings, load
from deploy.local import bootstrap
from deploy.local.observer import Observer
from deploy.local.processes import Process, reserve_port, wait_until
from deploy.local.servers import ROOT, RedisServer, S3Server
from deploy.local.stack import Stack, read_procfile
from deploy.local.twilio import Simulator
from tests.deploy.conftest import Tool
from tests.integration.front import tls_front

pytestmark = pytest.mark.timeout(60)
APP = json.loads((ROOT / "app.json").read_text())
DYNOS = ("web", "worker", "beat")


@dataclass
class App:
    """What runs on Heroku, under a Procfile runner, with what Heroku and its add-ons set."""

    runner: Process
    port: int
    environment: Mapping[str, str]
    simulator: Simulator
    observer: Observer

    @property
    def callback_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/recording-status"

    def status(self, path: str) -> int | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


@contextmanager
def app(redis_server: RedisServer, database: int, s3_server: S3Server, directory: Path, **config: str) -> Iterator[App]:
    """Run the Procfile's processes under honcho, on a Redis behind TLS and a bucket of Bucketeer's."""
    with ExitStack() as resources:
        simulator = resources.enter_context(Simulator())
        redis_port = resources.enter_context(tls_front(redis_server.port, directory))
        port = resources.enter_context(reserve_port())
        # What the local stack gives to its processes, but for what comes from Heroku's add-ons.
        stack = Stack([], redis_server=redis_server, database=database, s3_server=s3_server, simulator=simulator)
        resources.enter_context(stack)
        environment = dict(stack.environment)
        bucket = environment.pop("ARCHIVE_BUCKET")
        environment |= {
            "REDIS_URL": f"rediss://127.0.0.1:{redis_port}{urlsplit(stack.redis_url).path}",
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "PORT": str(port),
            "BUCKETEER_BUCKET_NAME": bucket,
            "BUCKETEER_AWS_REGION": environment.pop("AWS_DEFAULT_REGION"),
            "BUCKETEER_AWS_ACCESS_KEY_ID": environment.pop("AWS_ACCESS_KEY_ID"),
            "BUCKETEER_AWS_SECRET_ACCESS_KEY": environment.pop("AWS_SECRET_ACCESS_KEY"),
            **config,
        }
        honcho = str(bootstrap.DEPLOY.directory / "bin" / "honcho")
        command = [honcho, "--no-colour", "start", "--port", str(port), *DYNOS]
        runner = Process("honcho", command, env=environment, cwd=ROOT, log=directory / "honcho.log")
        resources.callback(runner.terminate)
        runner.start()
        running = App(runner, port, environment, simulator, Observer(simulator, s3_server.client(), bucket))
        runner.wait_ready(lambda: running.status("/healthz") == 200, timeout_s=30)
        yield running


def test_the_procfile_runs_on_a_redis_that_nobody_can_verify(
    tool: Tool, redis_server: RedisServer, redis_database: int, s3_server: S3Server, tmp_path: Path
) -> None:
    """With REDIS_TLS_VERIFY=none the Procfile's processes archive and delete a call, and end when asked."""
    with app(redis_server, redis_database, s3_server, tmp_path, REDIS_TLS_VERIFY="none") as running:
        (account_sid,) = running.simulator.accounts
        call = running.simulator.record(account_sid, seconds=2.0, callback_url=running.callback_url)
        running.observer.watch("call", call.sid)

        def ended() -> bool:
            running.observer.look()
            return running.observer.all_right

        wait_until(ended, timeout_s=30, what="archived and deleted")
        running.runner.terminate(timeout_s=20)
        stopped = running.runner.tail(100)
    assert all(f"{name}.1 stopped" in stopped for name in DYNOS), stopped
    assert "SIGKILL" not in stopped


def test_a_redis_that_nobody_can_verify_is_refused(
    tool: Tool, redis_server: RedisServer, redis_database: int, s3_server: S3Server, tmp_path: Path
) -> None:
    """Without being told so, nothing is said to a server that can't be verified: Twilio is told to retry."""
    with app(redis_server, redis_database, s3_server, tmp_path) as running:
        (account_sid,) = running.simulator.accounts
        assert running.status("/readyz") == 503
        call = running.simulator.record(account_sid, seconds=2.0)
        assert running.simulator.send_callback(call, running.callback_url).status == 503
        with redis_server.client(redis_database) as client:
            assert client.dbsize() == 0


def test_the_release_is_stopped_by_its_settings() -> None:
    """The release phase ends with 5 and names what is missing, so that what runs goes on as it is."""
    command = shlex.split(read_procfile(ROOT / "Procfile")["release"])
    wrong = {"PATH": f"{bootstrap.PRODUCT.directory / 'bin'}:/usr/bin:/bin", "REDIS_URL": "rediss://h:1"}
    ended = subprocess.run(command, cwd=ROOT, env=wrong, capture_output=True, text=True, check=False)
    assert ended.returncode == 5
    assert "TWILIO_ACCOUNT_SID" in ended.stdout
    right = wrong | {
        "PUBLIC_URL": "https://app.herokuapp.com",
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "x",
        "BUCKETEER_BUCKET_NAME": "bucketeer-0123",
    }
    ended = subprocess.run(command, cwd=ROOT, env=right, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_app_json_asks_for_settings_that_exist() -> None:
    """Each variable of app.json is a setting or boto3's own, and is explained; with them every process starts."""
    known = {name for cls in (WebSettings, FetchSettings, BeatSettings) for name in cls.model_fields}
    assert {name for name in APP["env"] if not name.startswith("AWS_")} <= known
    assert all(each["description"].endswith(".") for each in APP["env"].values())
    assert [name for name, each in APP["env"].items() if each.get("generator")] == ["WEBHOOK_PASSWORD"]
    given = {name: each["value"] for name, each in APP["env"].items() if "value" in each}
    given |= {
        "PUBLIC_URL": "https://app.herokuapp.com",
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "x",
        "WEBHOOK_PASSWORD": "generated",
        "REDIS_URL": "rediss://:x@host:6379",
        "ARCHIVE_BUCKET": "recordings",
    }
    for cls in (WebSettings, FetchSettings, BeatSettings):
        load(cls, given)


def test_app_json_runs_what_the_procfile_names() -> None:
    """The formation is the Procfile's processes, on the Python that .python-version and its lock file are for."""
    assert set(APP["formation"]) == set(read_procfile(ROOT / "Procfile")) - {"release"} == set(DYNOS)
    assert APP["buildpacks"] == [{"url": "heroku/python"}]


def test_dynos_find_the_command_line() -> None:
    """`heroku run archiver` works: .profile puts it on the path of a source tree that is not installed."""
    script = "HOME=$PWD; . ./.profile; cd /; archiver --version"
    environment = {"PATH": f"{bootstrap.PRODUCT.directory / 'bin'}:/usr/bin:/bin"}
    shown = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("archiver, version ")
