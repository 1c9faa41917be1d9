"""Make the environments that the demo and the tests run in, with nothing but a Python and its standard library.

`.venv` holds the pinned dependencies and the checkout itself (editable), `.venv-s3` the S3 server, which pins
another botocore, and `.venv-deploy` what judges the files of deploy/: it is large, and only for tests. A stamp in each
says what it was made from, so a second run takes milliseconds: changed pins are installed over what is there; another
Python, a moved checkout or an interrupted run start from nothing.

The syntax stays that of Python 3.6, for an old `python3` must get as far as looking for a newer one.
"""

import concurrent.futures
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".local"  # lock and logs

_MIN_PYTHON = (3, 11)
_OTHER_PYTHONS = ("python3.13", "python3.12", "python3.11", "python3.14")  # newest with a record first
_NETWORK_SIGNS = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "ProxyError", "SSLError", "name resolution")
_CLEAN_UP_S = 3  # for what is interrupted to remove its scratch files


class BootstrapError(Exception):
    """An environment could not be made; the message is one line and names the mend."""


class Environment(NamedTuple):
    """A virtual environment of the checkout; `sources` are the files that decide its content."""

    name: str
    requirements: str
    sources: "tuple[str, ...]"
    editable: bool

    @property
    def directory(self) -> Path:
        return ROOT / self.name

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def log(self) -> Path:
        return WORK / f"bootstrap{self.name}.log"

    @property
    def stamp(self) -> Path:
        return self.directory / "made-from.json"


PRODUCT = Environment(".venv", "tests/requirements.txt", ("tests/requirements.txt", "pyproject.toml"), True)
S3 = Environment(".venv-s3", "deploy/local/s3-requirements.txt", ("deploy/local/s3-requirements.txt",), False)
DEPLOY = Environment(".venv-deploy", "tests/deploy/requirements.txt", ("tests/deploy/requirements.txt",), False)


def enter(argv: "list[str]", *more: Environment) -> None:
    """Continue as `argv` in `.venv`, with both environments (and `more`) as the checkout says.

    Returns only when this process runs there already; leaves with one line and exit code 1 when an
    environment can't be made, 130 when interrupted.
    """
    try:
        use_supported_python(argv)
        made = make_environments(PRODUCT, S3, *more)
    except BootstrapError as error:
        sys.exit(f"bootstrap: {error}")
    except OSError as error:  # a read-only checkout, a full disk
        sys.exit(f"bootstrap: {error}")
    except KeyboardInterrupt:
        say("interrupted; the next run starts over")
        sys.exit(130)
    if made or Path(sys.prefix).resolve() != PRODUCT.directory:
        os.execv(str(PRODUCT.python), [str(PRODUCT.python), *argv])  # noqa: S606 (no shell wanted)


def use_supported_python(argv: "list[str]") -> None:
    """Become a Python that is new enough, if this one is not. Raises `BootstrapError` when there is none."""
    if sys.version_info >= _MIN_PYTHON:
        return
    wanted = ".".join(map(str, _MIN_PYTHON))
    for name in _OTHER_PYTHONS:
        try:  # a version manager's shim is on the PATH even where it leads nowhere
            question = f"import sys; print(sys.version_info >= {_MIN_PYTHON})"
            answer = subprocess.check_output([name, "-c", question], stderr=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            continue
        if answer.strip() == b"True":
            os.execvp(name, [name, *argv])  # noqa: S606 (no shell wanted)
    raise BootstrapError(f"Python {wanted} or newer is needed, and this is {sys.version.split()[0]}: install one")


def make_environments(*wanted: Environment) -> bool:
    """Bring environments up to date, side by side; True when there was anything to do.

    One run at a time: a second one waits for the first. Raises `BootstrapError`.
    """
    if all(map(is_current, wanted)):
        return False
    for module in ("venv", "ensurepip"):
        try:
            __import__(module)
        except ImportError:
            raise BootstrapError(
                f"this Python has no {module} module: install it (Debian and Ubuntu: apt install python3-venv)"
            ) from None
    WORK.mkdir(exist_ok=True)
    with (WORK / "bootstrap.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another run that makes the environments")
            fcntl.flock(lock, fcntl.LOCK_EX)
        outdated = [environment for environment in wanted if not is_current(environment)]
        with concurrent.futures.ThreadPoolExecutor() as pool, Steps() as steps:
            for made in [pool.submit(make, environment, steps, lock.fileno()) for environment in outdated]:
                made.result()
    return True


def is_current(environment: Environment) -> bool:
    """Tell whether the environment was made completely, from these files, by this Python, in this place."""
    return os.access(str(environment.python), os.X_OK) and read_stamp(environment) == new_stamp(environment)


class Steps:
    """The programs that are at work; an interrupt, SIGTERM or SIGHUP within the block ends them, and starts no more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = set()  # type: set[subprocess.Popen[bytes]]
        self._cancelled = False

    def __enter__(self) -> "Steps":
        def leave(number: int, frame: object) -> None:
            sys.exit(128 + number)

        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, leave)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        cancelled = isinstance(error, (KeyboardInterrupt, SystemExit))
        for number, handler in self._before.items():  # who is impatient can't hasten the end
            signal.signal(number, signal.SIG_IGN if cancelled else handler)
        if cancelled:
            self._cancel()

    def run(self, command: "list[str]", **options: object) -> int:
        """Run a program and return its exit code. Raises `BootstrapError` when nothing is to be started any more."""
        with self._lock:
            if self._cancelled:
                raise BootstrapError("interrupted")
            program = subprocess.Popen(command, start_new_session=True, **options)  # its signals come from here
            self._running.add(program)
        code = program.wait()
        with self._lock:
            self._running.discard(program)
        return code

    def _cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            programs = list(self._running)
        for number in (signal.SIGINT, signal.SIGKILL):  # pip and venv clean up after an interrupt
            programs = [program for program in programs if program.poll() is None]
            for program in programs:
                os.killpg(program.pid, number)
            deadline = time.monotonic() + _CLEAN_UP_S
            while any(program.poll() is None for program in programs) and time.monotonic() < deadline:
                time.sleep(0.02)


def make(environment: Environment, steps: Steps, lock: int) -> None:
    """Make or update one environment. Raises `BootstrapError`.

    `lock` is inherited by what is started here: should this process be killed, the lock outlives it until
    pip has ended too.
    """
    began = time.monotonic()
    before, after = read_stamp(environment), new_stamp(environment)
    environment.log.write_bytes(b"")
    if before is None or before["made_by"] != after["made_by"] or not os.access(str(environment.python), os.X_OK):
        say(f"making {environment.name} with Python {sys.version.split()[0]}")
        base = getattr(sys, "_base_executable", sys.executable)  # not this environment's own link to it
        run(environment, [base, "-m", "venv", "--clear", str(environment.directory)], steps, lock)
    else:
        environment.stamp.unlink()
    say(f"installing {environment.requirements}")
    pip = [str(environment.python), "-I", "-m", "pip", "install", "--quiet"]
    run(environment, [*pip, "--require-hashes", "--requirement", environment.requirements], steps, lock)
    if environment.editable:
        run(environment, [*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], steps, lock)
    unfinished = environment.stamp.with_suffix(".part")
    unfinished.write_text(json.dumps(after))
    unfinished.replace(environment.stamp)
    say(f"{environment.name} is ready ({time.monotonic() - began:.0f} s)")


def run(environment: Environment, command: "list[str]", steps: Steps, lock: int) -> None:
    """Run one step; what it prints goes to the environment's log. Raises `BootstrapError`."""
    settings = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    with environment.log.open("ab") as log:
        code = steps.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=str(ROOT),
            env={**os.environ, **settings},
            pass_fds=[lock],
        )
    if code == 0:
        return
    printed = environment.log.read_text(errors="replace")
    if any(sign in printed for sign in _NETWORK_SIGNS):
        reason = "no package index could be reached; check the network, the proxy and pip's settings"
    else:
        lines = [line.strip() for line in printed.splitlines() if line.strip()]
        errors = [line for line in lines if line.upper().startswith("ERROR")]
        reason = (errors or lines or [f"exit code {code}"])[-1]
    raise BootstrapError(f"{environment.name}: {reason} (log: {environment.log.relative_to(ROOT)})")


def new_stamp(environment: Environment) -> "dict[str, str]":
    """Return the stamp of an environment that is made now."""
    content = hashlib.sha256()
    for name in environment.sources:
        content.update(hashlib.sha256((ROOT / name).read_bytes()).digest())
    version = ".".join(map(str, sys.version_info[:2]))
    return {"made_by": f"{sys.implementation.name} {version} in {environment.directory}", "sha256": content.hexdigest()}


def read_stamp(environment: Environment) -> "dict[str, str] | None":
    """Return the stamp of the environment, or None when it is absent or unfinished."""
    try:
        stamp = json.loads(environment.stamp.read_text())
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) and {"made_by", "sha256"} <= stamp.keys() else None


def say(line: str) -> None:
    """Tell the user on stderr, so that stdout stays the caller's."""
    print(f"bootstrap: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    enter([__file__])
