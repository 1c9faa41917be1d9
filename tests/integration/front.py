"""What may stand in front of a server: a proxy that meddles with requests and answers, and one that ends TLS."""

import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Request:
    """A request on its way; header names as they came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def without(self, name: str) -> "Request":
        return replace(self, headers={key: value for key, value in self.headers.items() if key.lower() != name.lower()})


@dataclass(frozen=True)
class Answer:
    """An answer on its way back."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Front:
    """A proxy to `upstream` (a port). `meet` may change a request or answer it, `part` may change the answer."""

    def __init__(self) -> None:
        self.upstream = 0
        self.reset()

    def reset(self) -> None:
        """Pass everything on as it is."""
        self.meet: Callable[[Request], Request | Answer] = lambda request: request
        self.part: Callable[[Answer], Answer] = lambda answer: answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                met = front.meet(Request(self.command, self.path, dict(self.headers.items()), body))
                answer = front.part(front._forward(met) if isinstance(met, Request) else met)
                self.send_response_only(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_POST = do_GET  # noqa: N815 (http.server's names)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _forward(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=10)
        try:
            connection.request(request.method, request.target, request.body, request.headers)
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() != "content-length"}
            return Answer(answer.status, kept, answer.read())
        finally:
            connection.close()


@contextmanager
def tls_front(upstream: int, directory: Path) -> Iterator[int]:
    """End TLS in front of a port, with a certificate that nobody has reason to trust; yield the port."""
    make_certificate(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with ExitStack() as sockets, suppress(OSError):
                client = sockets.enter_context(context.wrap_socket(self.request, server_side=True))
                server = sockets.enter_context(socket.create_connection(("127.0.0.1", upstream)))
                back = Thread(target=_pump, args=(server, client))
                back.start()
                _pump(client, server)
                back.join()

    class Server(ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of clients that don't trust us."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until there are no more, and then say so to the other side."""
    with suppress(OSError):
        while block := source.recv(65536):
            sink.sendall(block)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def make_certificate(directory: Path) -> None:
    """Write `key.pem` and a self-signed `certificate.pem`."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "front")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    (directory / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem, open_ = serialization.Encoding.PEM, serialization.NoEncryption()
    (directory / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, open_))
