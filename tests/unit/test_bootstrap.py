"""Environments are made once, again when what they were made from changes, and failures say what to mend."""

import ast
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from deploy.local.processes import group_runs, wait_until

ROOT = Path(__file__).resolve().parents[2]
FAILING_PIP = "#!/bin/sh\necho {line}\nexit 1\n"


class Checkout:
    """A checkout with nothing in it but bootstrap.py, pins, and environments that only look like ones."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bootstrap = root / "deploy" / "local" / "bootstrap.py"
        for name in ("tests/requirements.txt", "deploy/local/s3-requirements.txt", "pyproject.toml"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"# {name}\n")
        shutil.copy(ROOT / "deploy" / "local" / "bootstrap.py", self.bootstrap)
        module = self._load()
        self.product, self.s3, self.new_stamp = module.PRODUCT, module.S3, module.new_stamp
        for environment in (self.product, self.s3):
            environment.python.parent.mkdir(parents=True)
            self.let_python(environment.name, "#!/bin/sh\necho ran $*\n")
            environment.stamp.write_text(json.dumps(self.new_stamp(environment)))

    def _load(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location("bootstrap_of_the_test", self.bootstrap)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def let_python(self, name: str, script: str) -> None:
        """Replace the interpreter of an environment."""
        python = self.root / name / "bin" / "python"
        python.write_text(script)
        python.chmod(0o755)

    def change(self, name: str) -> None:
        (self.root / name).write_text("# changed\n")

    def start(self, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, self.bootstrap],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **environment: str) -> tuple[int, str, str]:
        """Run bootstrap.py and return its exit code, stdout and stderr."""
        with self.start(**environment) as process:
            out, err = process.communicate(timeout=30)
        return process.returncode, out, err


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("name", ["deploy/local/bootstrap.py", "deploy/local/demo", "tests/run"])
def test_an_old_python_understands_the_commands(name: str) -> None:
    """What a user's python3 reads first parses on Python 3.6, so that it can look for a newer one."""
    ast.parse((ROOT / name).read_text(), feature_version=(3, 6))


def test_current_environments_are_left_alone(checkout: Checkout) -> None:
    """With environments as the checkout says, the program continues in `.venv` without a word."""
    assert checkout.run() == (0, f"ran {checkout.bootstrap}\n", "")


@pytest.mark.parametrize("name", ["tests/requirements.txt", "pyproject.toml"])
def test_changed_pins_are_installed(checkout: Checkout, name: str) -> None:
    """A changed source is installed over what is there, and the stamp is renewed."""
    checkout.change(name)
    code, out, err = checkout.run()
    assert (code, out) == (0, f"ran {checkout.bootstrap}\n")
    assert "installing tests/requirements.txt" in err
    assert "s3" not in err
    assert json.loads(checkout.product.stamp.read_text()) == checkout.new_stamp(checkout.product)


def test_a_failed_install_is_one_line(checkout: Checkout) -> None:
    """When pip fails, its last error is shown on one line, with the place of the log."""
    checkout.change("tests/requirements.txt")
    checkout.let_python(".venv", FAILING_PIP.format(line="ERROR: no space left; echo more"))
    code, _, err = checkout.run()
    assert code == 1
    assert err.splitlines()[-1] == "bootstrap: .venv: ERROR: no space left (log: .local/bootstrap.venv.log)"


def test_a_read_only_checkout_is_one_line(checkout: Checkout) -> None:
    """Where nothing can be written, the error says what and where."""
    checkout.change("tests/requirements.txt")
    (checkout.root / ".local").write_text("a file in the way of the directory\n")
    code, _, err = checkout.run()
    assert code == 1
    assert err == f"bootstrap: [Errno 17] File exists: '{checkout.root / '.local'}'\n"


@pytest.mark.parametrize(
    ("number", "expected", "pip"),
    [
        (signal.SIGINT, 130, "exec sleep 60"),
        (signal.SIGHUP, 128 + 1, "exec sleep 60"),
        (signal.SIGTERM, 128 + 15, "trap '' INT; sleep 60 & wait"),
    ],
)
def test_what_was_started_ends_with_a_signal(
    checkout: Checkout, tmp_path: Path, number: signal.Signals, expected: int, pip: str
) -> None:
    """A signal to the run alone ends pip too, one that does not listen included, and leaves no stamp."""
    checkout.change("tests/requirements.txt")
    checkout.let_python(
        ".venv", f"#!/bin/sh\necho $$ > {tmp_path}/started && mv {tmp_path}/started {tmp_path}/pid\n{pip}\n"
    )
    with checkout.start() as run:
        wait_until((tmp_path / "pid").exists, timeout_s=20, what="pip")
        run.send_signal(number)
        assert run.wait(timeout=20) == expected
    assert not group_runs(int((tmp_path / "pid").read_text()))
    assert not checkout.product.stamp.exists()


def test_a_missing_network_is_said(checkout: Checkout) -> None:
    """When no package index answers, the error says so instead of naming a package."""
    checkout.change("deploy/local/s3-requirements.txt")
    checkout.let_python(".venv-s3", FAILING_PIP.format(line="NewConnectionError: 1; echo ERROR: no version found"))
    code, _, err = checkout.run()
    assert code == 1
    assert "no package index could be reached; check the network" in err
    assert "ERROR" not in err


def test_an_unfinished_install_leaves_no_stamp(checkout: Checkout) -> None:
    """After a failure the environment counts as unmade."""
    checkout.change("tests/requirements.txt")
    checkout.let_python(".venv", FAILING_PIP.format(line="ERROR"))
    checkout.run()
    assert not checkout.product.stamp.exists()


def test_a_missing_ensurepip_is_said(checkout: Checkout, tmp_path: Path) -> None:
    """A Python that can't make environments is named as the reason, with the package that mends it."""
    checkout.change("tests/requirements.txt")
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "ensurepip.py").write_text("raise ImportError\n")
    code, _, err = checkout.run(PYTHONPATH=str(tmp_path / "without"))
    assert code == 1
    assert err == (
        "bootstrap: this Python has no ensurepip module: install it (Debian and Ubuntu: apt install python3-venv)\n"
    )


def test_a_second_run_waits(checkout: Checkout) -> None:
    """While another run holds the lock, a run waits, and then uses what the other has made."""
    (checkout.root / ".local").mkdir()
    checkout.change("tests/requirements.txt")
    with (checkout.root / ".local" / "bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with checkout.start() as second:
            assert second.stderr is not None
            assert "waiting for another run" in second.stderr.readline()
            checkout.product.stamp.write_text(json.dumps(checkout.new_stamp(checkout.product)))
            fcntl.flock(lock, fcntl.LOCK_UN)
            out, err = second.communicate(timeout=30)
    assert (second.returncode, out, err) == (0, f"ran {checkout.bootstrap}\n", "")


def test_a_moved_checkout_starts_over(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The stamp of an environment that was copied from elsewhere does not count: its scripts lead back there."""
    stamp = checkout.product.stamp.read_text()
    moved = Checkout(tmp_path_factory.mktemp("moved"))
    assert json.loads(stamp) != moved.new_stamp(moved.product)
    assert json.loads(stamp)["sha256"] == moved.new_stamp(moved.product)["sha256"]
