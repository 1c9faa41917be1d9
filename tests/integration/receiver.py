"""A receiver of notifications by the book: `standardwebhooks` says what is genuine, and nobody here does."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self

from standardwebhooks import Webhook, WebhookVerificationError

from deploy.local.processes import wait_until

SECRET, OLD_SECRET = "whsec_bm90aWZpY2F0aW9ucyBvZiB0aGUgdGVzdHMgMDAx", "whsec_bm90aWZpY2F0aW9ucyBvZiB0aGUgdGVzdHMgMDAy"


class Receiver:
    """Takes what is signed with its secret, each once, as the id says; answers with what `answer` returns."""

    def __init__(self, port: int = 0, secret: str = SECRET) -> None:
        self._port = port
        self._webhook = Webhook(secret)
        self.requests: list[dict[str, str]] = []
        self.events: dict[str, dict[str, Any]] = {}
        self.answer: Callable[[dict[str, Any]], int] = lambda _event: 204
        self.location = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hooks?key=part-of-the-url"

    @property
    def types(self) -> list[str]:
        """Return the types of what was taken, in order."""
        return [event["type"] for event in self.events.values()]

    def data(self, kind: str, recording_sid: str = "") -> dict[str, Any]:
        """Return the data of the one event of a type, about one recording where it is named."""
        (found,) = [
            event["data"]
            for event in self.events.values()
            if event["type"] == kind and recording_sid in ("", event["data"].get("recording_sid"))
        ]
        data: dict[str, Any] = found
        return data

    def wait_for(self, *types: str, timeout_s: float = 40) -> None:
        """Wait until as many of these types were taken as are named."""
        wait_until(lambda: sorted(self.types) == sorted(types), timeout_s=timeout_s, what=f"{types}: {self.types}")

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response_only(receiver._take(self.path, dict(self.headers.items()), body))
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        assert path == "/hooks?key=part-of-the-url"
        self.requests.append(headers)
        try:
            self._webhook.verify(body, {name.lower(): value for name, value in headers.items()})
        except WebhookVerificationError:
            return 401
        event = json.loads(body)
        status = self.answer(event)
        if status < 300:
            self.events.setdefault(headers["webhook-id"], event)
        return status
