"""The Dockerfile by its text; `deploy/image-check` carries it out."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch

import pytest

from deploy.local.servers import ROOT
from deploy.local.stack import read_procfile
from tests.deploy.conftest import Tool

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
PROCESS = ROOT / "deploy" / "bin" / "process"


def instructions(name: str) -> list[str]:
    """Return the arguments of each instruction of a kind, each as one line."""
    text = re.sub(r"\\\n\s*", "", "".join(f"{line}\n" for line in DOCKERFILE.splitlines() if not line.startswith("#")))
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


def copied() -> Iterator[str]:
    """Yield what the Dockerfile copies from the checkout."""
    for line in instructions("COPY"):
        if not line.startswith("--from"):
            yield from shlex.split(line)[:-1]


def test_hadolint_finds_nothing(tool: Tool) -> None:
    """The Dockerfile passes its linter without an ignored rule."""
    judged = tool("hadolint", "deploy/Dockerfile")
    assert (judged.returncode, judged.stdout) == (0, "")
    assert "hadolint ignore" not in DOCKERFILE


def test_the_base_can_be_pinned() -> None:
    """Every stage begins with the one base that a build argument can pin to a digest."""
    assert set(instructions("FROM")) == {"${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"}
    base, requirements = instructions("ARG")
    assert requirements == "REQUIREMENTS=requirements.txt"
    assert base.startswith(f"PYTHON_IMAGE=python:{(ROOT / '.python-version').read_text().strip()}-slim-")


def test_the_image_is_not_roots() -> None:
    """It runs as a number that is not 0, and its entry is a program that gets the signals, not a shell's line."""
    (user,) = instructions("USER")
    assert re.fullmatch(r"[1-9][0-9]{3,}:[1-9][0-9]{3,}", user)
    assert [line[0] for line in (*instructions("ENTRYPOINT"), *instructions("CMD"))] == ["[", "["]


def test_only_pinned_packages_are_installed() -> None:
    """What pip installs comes from the hashes in requirements.txt, and nothing is fetched in another way."""
    installs = [line for line in instructions("RUN") if "install" in line]
    assert len(installs) == 1
    assert "--require-hashes" in installs[0]
    assert "--only-binary :all:" in installs[0]
    assert not re.search(r"\b(ADD|curl|wget|apt-get)\b", DOCKERFILE)


def test_what_is_copied_reaches_the_build() -> None:
    """Each file that is copied exists and is let through by the Dockerfile's own ignore file; the rest is not."""
    lines = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    let_through = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert all((ROOT / name).exists() for name in copied())
    assert set(copied()) == set(let_through)
    assert not any(fnmatch(name, pattern) for pattern in let_through for name in (".git", ".venv", "tests"))


@pytest.mark.parametrize("name", ["web", "worker", "beat"])
def test_the_entry_becomes_a_process_of_the_procfile(name: str) -> None:
    """The image's entry starts the Procfile's command without a shell, with the arguments that are added."""
    line = read_procfile(ROOT / "Procfile")[name]
    assert not re.search(r"[$|&;<>=`]|\benv\b", line.replace("'", "")), "needs a shell"
    assert _command(name, "--queues", "delete") == [*shlex.split(line), "--queues", "delete"]


def test_the_entry_is_the_command_line_otherwise() -> None:
    """What is no process is a command of `archiver`; nothing at all shows its help."""
    assert _command("health", "worker") == ["python", "-m", "workers.cli", "health", "worker"]
    assert _command() == ["python", "-m", "workers.cli", "--help"]


def test_the_command_line_runs_uninstalled() -> None:
    """Where the source tree is not installed, as in the image and on Heroku, it knows its version all the same."""
    code = (
        "import importlib.metadata as m\n"
        "def version(name): raise m.PackageNotFoundError(name)\n"
        "m.version = version\n"
        "import sys; sys.argv = ['archiver', '--version']\n"
        "from workers.cli import main; main()"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert shown.stdout == f"archiver, version {version[1]}\n"


def _command(*arguments: str) -> list[str]:
    """Return what the entry would become."""
    namespace: dict[str, object] = {"__name__": "process", "__file__": str(PROCESS)}
    exec(compile(PROCESS.read_text(), PROCESS, "exec"), namespace)  # noqa: S102 (our own script, which has no suffix)
    command = namespace["command"]
    assert callable(command)
    return list(command((ROOT / "Procfile").read_text(), list(arguments)))
