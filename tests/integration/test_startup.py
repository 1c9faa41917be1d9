"""Starting with wrong settings, through the Procfile's own lines."""

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
    ],
    "worker": [
        "TWILIO_ACCOUNT_SID",
        "TWILIO_AUTH_TOKEN",
        "TWILIO_API_SECRET",
        "REDIS_URL",
        "ARCHIVE_BUCKET",
        "ARCHIVE_FORMAT",
        "LOG_LEVEL",
    ],
    "beat": ["REDIS_URL", "SWEEP_INTERVAL", "LOG_LEVEL"],
}


@pytest.mark.parametrize("process", EXPECTED)
def test_wrong_settings_stop_a_process(process: str) -> None:
    """Every mistake is listed by name, no value is shown, and the exit code is 5."""
    path = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ["PATH"]])
    ended = subprocess.run(
        ["sh", "-c", read_procfile(ROOT / "Procfile")[process]],
        cwd=ROOT,
        env={"PATH": path, **WRONG},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 5, ended.stderr
    listed = [line.strip().partition(":")[0] for line in ended.stderr.splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(EXPECTED[process])
    assert "planted" not in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
