"""Starting with wrong settings, through the Procfile's own lines."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.servers import ROOT
from deploy.local.stack import read_procfile

WRONG = {
    "TWILIO_AUTH_TOKEN": "",
    "TWILIO_ACCOUNT_SID": "AC-planted-value",
    "TWILIO_API_KEY": "SK" + "0" * 32,
    "REDIS_URL": "amqp://user:planted-password@127.0.0.1",
    "PUBLIC_URL": "example.com",
    "ARCHIVE_FORMAT": "flac",
    "SWEEP_INTERVAL": "often",
    "LOG_LEVEL": "loud",
    "PORT": "99999",
    "WEB_CONCURRENCY": "planted-number",
    "CELERY_CONCURRENCY": "planted-number",
}
EXPECTED = {
    "web": [
        "TWILIO_ACCOUNT_SID",
        "TWILIO_AUTH_TOKEN",
        "TWILIO_API_SECRET",
        "REDIS_URL",
        "PUBLIC_URL",
        "LOG_LEVEL",
        "PORT",
        "WEB_CONCURRENCY",
    ],
    "worker": [  # which needs no auth token beside an API key
        "TWILIO_ACCOUNT_SID",
        "TWILIO_API_SECRET",
        "REDIS_URL",
        "ARCHIVE_BUCKET",
        "ARCHIVE_FORMAT",
        "LOG_LEVEL",
        "CELERY_CONCURRENCY",
    ],
    "beat": ["REDIS_URL", "SWEEP_INTERVAL", "LOG_LEVEL"],
}


def run(process: str, *options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a line of the Procfile, with options behind it, in an environment of its own until it ends."""
    return subprocess.run(
        ["sh", "-c", " ".join([read_procfile(ROOT / "Procfile")[process], *options])],
        cwd=ROOT,
        env={"PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ["PATH"]]), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("process", EXPECTED)
def test_wrong_settings_stop_a_process(process: str) -> None:
    """Every mistake is listed by name, no value is shown, and the exit code is 5."""
    ended = run(process, **WRONG)
    assert ended.returncode == 5, ended.stderr
    listed = [line.strip().partition(":")[0] for line in ended.stderr.splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(EXPECTED[process])
    assert "planted" not in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr


def test_empty_settings_are_as_good_as_none() -> None:
    """A variable that is set to nothing leaves the default, also where gunicorn would read it first."""
    required = {
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "token",
        "REDIS_URL": "redis://127.0.0.1",
        "PUBLIC_URL": "https://example.com",
    }
    ended = run("web", "--check-config", **required, WEB_CONCURRENCY="", PORT="")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("option", ["--queues archive,delte", "--queues 'archive, delete'", "--exclude-queues delte"])
def test_a_worker_for_a_queue_that_does_not_exist_is_stopped(option: str) -> None:
    """It would be well and take nothing, or take what it was to leave out; the queues that there are are named."""
    required = {
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "token",
        "REDIS_URL": "redis://127.0.0.1:1",
        "ARCHIVE_BUCKET": "recordings",
    }
    ended = run("worker", option, **required)
    assert ended.returncode == 5, ended.stderr
    assert f"{option.split()[0]}: names a queue that does not exist; there are sweep, audit, delete" in ended.stderr
    assert "delte" not in ended.stderr


@pytest.mark.parametrize(
    "entry",
    ["import workers.worker", "import workers.beat", "from app.wsgi import main; main()"],
    ids=["worker", "beat", "web"],
)
def test_a_misspelled_setting_is_said_at_start(entry: str) -> None:
    """Each process warns of it by its name: without a word, TWILIO_DELET=never would let it delete."""
    environment = {
        "PATH": os.environ["PATH"],
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "token",
        "REDIS_URL": "redis://127.0.0.1:1",
        "PUBLIC_URL": "https://example.com",
        "ARCHIVE_BUCKET": "recordings",
        "TWILIO_DELET": "planted-value",
    }
    started = subprocess.run(
        [sys.executable, "-c", entry], cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    (line,) = [json.loads(line) for line in started.stderr.splitlines() if "setting_misspelled" in line]
    assert (line["level"], line["name"], line["meant"]) == ("warning", "TWILIO_DELET", "TWILIO_DELETE")
    assert "planted" not in started.stderr
