"""Both sides of an archiver as a stack can use them, in a process of their own: see `sides_server`."""

import http.client
import json
import secrets
import sys
from dataclasses import dataclass
from typing import Any

from deploy.local.servers import ROOT, LocalServer
from deploy.local.twilio import Account

ACCOUNT = Account(sid="AC" + "a1" * 16, auth_tokens=["token-of-the-bench"])


def new_sid(size_bytes: int) -> str:
    """Make the SID of a recording whose WAV file has so many bytes."""
    return f"RE{size_bytes:010x}{secrets.token_hex(11)}"


@dataclass(frozen=True)
class Event:
    """One request as it was about to be answered; `at_s` is the monotonic time of this machine."""

    at_s: float
    method: str
    path: str

    @property
    def side(self) -> str:
        return "Twilio" if self.path.startswith("/2010-04-01/") else "S3"


class Sides(LocalServer):
    """Twilio and S3 in one: what `Stack` asks of a simulator and of an S3 server. Each request waits `latency_ms`."""

    name = "sides"

    def __init__(self, latency_ms: float = 0.0) -> None:
        super().__init__()
        self.latency_ms = latency_ms
        self.accounts = {ACCOUNT.sid: ACCOUNT}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return boto3's settings for this server."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": str(ROOT / "tests" / "bench" / "aws-config"),
        }

    def make_bucket(self, name: str, **_options: bool) -> str:
        """Return the name: every bucket is there."""
        return name

    def events(self) -> list[Event]:
        """Return the requests since `forget`, in order."""
        return [Event(*event) for event in json.loads(self._ask("GET"))]

    def forget(self) -> None:
        self._ask("DELETE")

    def _ask(self, method: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, "/_bench/events")
            return connection.getresponse().read()
        finally:
            connection.close()

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "tests.bench.sides_server", str(self.port), str(self.latency_ms)]

    def _environment(self) -> dict[str, Any]:
        return {"PYTHONPATH": str(ROOT)}

    def _answers(self) -> bool:
        try:
            return bool(self._ask("GET"))
        except OSError:
            return False
