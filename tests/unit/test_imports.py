"""What importing the code does: nothing."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENTRY_MODULES = {"workers.worker", "workers.beat"}  # what Celery loads by name: they build the application

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("app", "workers")
    for path in (ROOT / package).rglob("*.py")
    if path.name != "__init__.py"
)

WATCH = """
import importlib, json, os, sys
from pathlib import Path

root = Path.cwd()
seen = []

def audit(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        seen.append(event)

class Watched(type(os.environ)):
    def __getitem__(self, name):
        frame = sys._getframe(1)
        while frame and frame.f_code.co_filename.startswith(("<frozen", os.__file__)):
            frame = frame.f_back
        if frame and any(Path(frame.f_code.co_filename).is_relative_to(root / mine) for mine in ("app", "workers")):
            seen.append(f"{frame.f_code.co_filename} reads {name}")
        return super().__getitem__(name)

os.environ.__class__ = Watched
sys.addaudithook(audit)
for module in sys.argv[1:]:
    importlib.import_module(module)
print(json.dumps({"seen": seen, "loaded": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


@cache
def imported(*modules: str, **environ: str) -> dict[str, list[str]]:
    """Import modules in a fresh process; return what they did (`seen`) and which top-level packages are `loaded`."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *modules],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, list[str]] = json.loads(done.stdout)
    return result


def modules_of(package: str) -> list[str]:
    return [name for name in MODULES if name.startswith(f"{package}.") and name not in ENTRY_MODULES]


@pytest.mark.parametrize("package", ["app", "workers"])
def test_imports_have_no_side_effect(package: str) -> None:
    """Importing any module works in an empty environment, connects to nothing and reads no variable."""
    assert imported(*modules_of(package))["seen"] == []


def test_the_watch_sees_a_variable_that_is_read() -> None:
    """The test above would notice: it sees settings being read when an entry module is imported."""
    seen = imported("workers.beat", REDIS_URL="redis://127.0.0.1:1/0")["seen"]
    assert any(line.endswith("settings.py reads REDIS_URL") for line in seen)


@pytest.mark.parametrize("framework", ["flask", "werkzeug", "gunicorn"])
def test_workers_never_load_the_web_framework(framework: str) -> None:
    """Everything that a worker imports leaves the web framework and its server out."""
    modules = modules_of("workers")
    assert "workers.tasks" in modules
    assert framework not in imported(*modules)["loaded"]


@pytest.mark.parametrize("library", ["workers", "boto3", "botocore", "requests"])
def test_web_never_loads_what_archives(library: str) -> None:
    """Everything that the endpoint imports leaves S3 and the archiving code out."""
    modules = modules_of("app")
    assert "app.factory" in modules
    assert library not in imported(*modules)["loaded"]


@pytest.mark.parametrize("package", ["app", "workers"])
def test_packages_are_empty(package: str) -> None:
    """The packages themselves hold no code, so that importing one module loads no other."""
    assert (ROOT / package / "__init__.py").read_text() == ""
