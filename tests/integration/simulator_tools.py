"""Give the simulator's tests their clients: Twilio's own SDK, plain HTTP, a raw socket, and a callback URL."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qsl

import requests
from twilio.rest import Client

from deploy.local.twilio import Account, Simulator


def sdk(sim: Simulator, account: Account, password: str | None = None) -> Client:
    """Return Twilio's SDK, pointed at the simulator."""
    client = Client(account.sid, password or account.auth_tokens[0])
    client.api.base_url = sim.url
    return client


class Rest(requests.Session):
    """Plain HTTP to one account; a path that does not begin with a slash is below the account."""

    def __init__(self, sim: Simulator, account: Account) -> None:
        super().__init__()
        self.trust_env = False
        self.auth = (account.sid, account.auth_tokens[0])
        self.root, self.base = sim.url, f"{sim.url}/2010-04-01/Accounts/{account.sid}/"

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        if not url.startswith("http"):
            url = f"{self.root}{url}" if url.startswith("/") else f"{self.base}{url}"
        options.setdefault("timeout", 5)
        return super().request(method, url, **options)


def raw_get(sim: Simulator, account: Account, path: str) -> bytes:
    """Return all bytes that a GET is answered with until the connection ends. Raises ConnectionResetError."""
    auth = requests.auth._basic_auth_str(account.sid, account.auth_tokens[0])
    host, port = sim.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        target = f"/2010-04-01/Accounts/{account.sid}/{path}"
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\n\r\n".encode())
        answer = b""
        while block := connection.recv(65536):
            answer += block
        return answer


@dataclass
class Received:
    """One request that reached a callback URL, as raw as it came."""

    method: str
    target: str
    headers: HTTPMessage
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass
class Receiver:
    """A callback URL. It gives the answers of `script` in turn (status, headers), then 204 for ever.

    A script entry of None holds the request until `released` is set.
    """

    url: str = ""
    script: list[tuple[int, dict[str, str]] | None] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    released: Event = field(default_factory=Event)

    def answer(self, request: Received) -> tuple[int, dict[str, str]]:
        self.received.append(request)
        answer = self.script.pop(0) if self.script else (204, {})
        if answer is None:
            self.released.wait(10)
            return 204, {}
        return answer


@contextmanager
def receiver(*script: tuple[int, dict[str, str]] | None) -> Iterator[Receiver]:
    """Run a callback URL."""
    state = Receiver(script=list(script))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers = state.answer(Received(self.command, self.path, self.headers, body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_POST  # noqa: N815 (http.server's names)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/callback"
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
