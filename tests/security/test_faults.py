"""A fault of our own: the answer says nothing about it, and the log says where it is and not with which values."""

import json
import subprocess
import sys

import pytest

from deploy.local.servers import ROOT
from tests.integration.callback_tools import PUBLIC_URL

PROGRAM = """
import sys
from app.factory import create_app
from app.logs import configure_logs
from app.settings import WebSettings, load

configure_logs(sys.argv[1], "debug")
app = create_app(load(WebSettings))

@app.get("/fault")
def fault():
    try:
        int(sys.argv[2])
    except ValueError as error:
        raise RuntimeError(sys.argv[3]) from error

answer = app.test_client().get("/fault?phone=+15550001111")
print(answer.status_code, answer.content_type, answer.get_data(as_text=True), sep="\\n")
"""
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "TWILIO_ACCOUNT_SID": "AC" + "a1" * 16,
    "TWILIO_AUTH_TOKEN": "planted-token",
    "PUBLIC_URL": PUBLIC_URL,
    "REDIS_URL": "redis://:planted-password@127.0.0.1:1/0",
}


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_fault_shows_no_value(log_format: str) -> None:
    """An unexpected exception is answered with a plain 500 and logged with its place, without its message."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, log_format, "planted +15550001111", "planted-secret"],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    status, content_type, body = done.stdout.splitlines()
    assert (status, content_type, json.loads(body)["status"]) == ("500", "application/problem+json", 500)
    assert all(part in done.stderr for part in ("request_failed", "ValueError", "RuntimeError", "in fault"))
    assert "planted" not in done.stdout + done.stderr
    assert "1111" not in done.stdout + done.stderr
