"""The whole system on one machine: Redis, S3, a Twilio simulator, and the processes that the Procfile names."""

import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from deploy.local.processes import Process, StartError, reserve_port, scratch_directory, wait_until
from deploy.local.servers import ROOT, RedisServer, S3Server, answers
from deploy.local.twilio import Account, Simulator

_START_TIMEOUT_S = 30
_RESPAWN_INTERVAL_S = 0.25


class Stack:
    """A running Recording Archiver with all that it talks to; use it in a `with` statement.

    `processes` are names of Procfile lines, each run as it stands there, in the checkout, with a fresh
    environment; a number tells several of a kind apart, as in `worker.2`. `settings` are added to that
    environment (None removes one), and `commands` take the place of lines of the Procfile. With `respawn` a
    process that dies is started again, as Heroku and ECS do.
    `redis_server`, `s3_server` and `simulator` may be given, running; what is not given is started, and stopped
    at the end. Entering waits until everything answers.

    Raises `StartError` when something does not start. An exception that leaves the block carries the ends of
    the logs as a note. SIGTERM unwinds the block like Ctrl-C; whatever the end, nothing is left behind.
    """

    def __init__(
        self,
        processes: Sequence[str] = ("web", "worker"),
        *,
        settings: Mapping[str, str | None] | None = None,
        commands: Mapping[str, str] | None = None,
        object_lock: bool = False,
        respawn: bool = False,
        redis_server: RedisServer | None = None,
        database: int = 0,
        s3_server: S3Server | None = None,
        simulator: Simulator | None = None,
    ) -> None:
        self.bucket = f"archive-{secrets.token_hex(4)}"
        self.processes: dict[str, Process] = {}
        self._names = processes
        self._settings = dict(settings or {})
        self._commands = dict(commands or {})
        self._object_lock = object_lock
        self._respawn = respawn
        self._given = (redis_server, s3_server, simulator)
        self._database = database
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as resources:
            resources.enter_context(_exit_on_sigterm())
            self._enter(resources)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.__exit__(kind, error, trace)

    @property
    def web(self) -> Process:
        return self.processes["web"]

    @property
    def worker(self) -> Process:
        return self.processes["worker"]

    @property
    def beat(self) -> Process:
        return self.processes["beat"]

    @property
    def public_url(self) -> str:
        """The origin of `web`, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def callback_url(self) -> str:
        """What a Twilio user would configure as the RecordingStatusCallback."""
        return f"{self.public_url}/recording-status"

    @property
    def redis_url(self) -> str:
        return self.redis.url(self._database)

    def restart(self, name: str) -> None:
        """Kill a process, start it again and wait until it is ready."""
        self.processes[name].restart()
        self.wait_ready(name)

    def wait_ready(self, name: str, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Wait until a process does its work: `web` answers, `worker` waits for messages."""
        ways = {"web": lambda: answers(self.port, "/healthz"), "worker": self._workers_consume}
        ready = ways.get(_kind(name), lambda: True)
        if not self._respawn:
            self.processes[name].wait_ready(ready, timeout_s=timeout_s)
            return
        try:  # it may be killed before it is ready, and comes back
            wait_until(ready, timeout_s=timeout_s, what=f"{name} ready")
        except TimeoutError as error:
            raise StartError(f"{error}\n{self.processes[name].tail()}") from error

    def tails(self, lines: int = 20) -> str:
        """Return the ends of all logs."""
        return "\n".join(process.tail(lines) for process in self.processes.values())

    def _enter(self, resources: contextlib.ExitStack) -> None:
        redis_server, s3_server, simulator = self._given
        self.directory = resources.enter_context(scratch_directory("stack"))
        self.port = resources.enter_context(reserve_port())
        self.redis = redis_server or resources.enter_context(RedisServer())
        self.s3 = s3_server or resources.enter_context(S3Server())
        self.simulator = simulator or resources.enter_context(Simulator())
        self.s3.make_bucket(self.bucket, object_lock=self._object_lock)
        self.environment = self._environment()
        self.environment_file = self.directory / "environment"  # for a shell to read: `set -a; . FILE`
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in self.environment.items()]
        self.environment_file.write_text("".join(lines))
        procfile = read_procfile(ROOT / "Procfile") | self._commands
        shell = shutil.which("bash") or "sh"  # as on Heroku; bash becomes the program, so that the pid is its own
        for name in self._names:
            self.processes[name] = Process(
                name,
                [shell, "-c", procfile.get(name) or procfile[_kind(name)]],
                env=self.environment,
                cwd=ROOT,
                log=self.directory / f"{name}.log",
            )
            resources.callback(self.processes[name].terminate)
            self.processes[name].start()
        if self._respawn:
            resources.enter_context(self._respawning())
        for name in self._names:
            self.wait_ready(name)
        resources.push(self._explain)

    def _environment(self) -> dict[str, str]:
        """Return the whole environment of the product's processes; nothing is inherited but the PATH."""
        environment: dict[str, str | None] = {
            "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath)]),
            "HOME": str(self.directory),  # no credentials or settings of whoever runs this
            "TMPDIR": str(self.directory),
            "LANG": "C.UTF-8",
            "PORT": str(self.port),
            "PUBLIC_URL": self.public_url,
            "REDIS_URL": self.redis_url,
            "ARCHIVE_BUCKET": self.bucket,
            "TWILIO_API_BASE_URL": self.simulator.url,
            **_twilio_settings(list(self.simulator.accounts.values())),
            **self.s3.environment(),
            **self._settings,
        }
        return {name: value for name, value in environment.items() if value is not None}

    def _workers_consume(self) -> bool:
        """Tell whether every worker that runs here waits for messages: kombu does so with BRPOP."""
        running = [each for name, each in self.processes.items() if _kind(name) == "worker" and each.alive]
        with contextlib.suppress(redis.RedisError), self.redis.client() as client:
            clients = client.client_list()
            waiting = [each for each in clients if each["cmd"] == "brpop" and each["db"] == str(self._database)]
            return len(waiting) >= max(1, len(running))
        return False

    @contextlib.contextmanager
    def _respawning(self) -> Iterator[None]:
        stopping = threading.Event()

        def watch() -> None:
            while not stopping.wait(_RESPAWN_INTERVAL_S):
                for process in self.processes.values():
                    process.respawn()

        thread = threading.Thread(target=watch, name="respawn")
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    def _explain(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            error.add_note(self.tails())


def _kind(name: str) -> str:
    """Return which Procfile line a process is of."""
    return name.partition(".")[0]


def read_procfile(path: Path) -> dict[str, str]:
    """Return the command of each process by its name."""
    lines = path.read_text().splitlines()
    return {match[1]: match[2] for line in lines if (match := re.fullmatch(r"([\w-]+):\s*(.+)", line))}


def _twilio_settings(accounts: Sequence[Account]) -> dict[str, str]:
    main, *others = accounts
    settings = {"TWILIO_ACCOUNT_SID": main.sid, "TWILIO_AUTH_TOKEN": ",".join(main.auth_tokens)}
    if main.api_keys:
        settings["TWILIO_API_KEY"], settings["TWILIO_API_SECRET"] = next(iter(main.api_keys.items()))
    if others:
        settings["TWILIO_ACCOUNTS"] = json.dumps(
            [
                {"account_sid": other.sid, "auth_tokens": other.auth_tokens, "shared_keys": other.shared_keys}
                for other in others
            ]
        )
    return settings


@contextlib.contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Make SIGTERM unwind the program, unless it does something else already (main thread only)."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, frame: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
