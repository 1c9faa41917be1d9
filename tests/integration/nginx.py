"""nginx in front of the product, as an unprivileged process on loopback."""

import contextlib
import datetime
import http.client
import os
import shutil
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.local.servers import LocalServer

HOST = "archive.example.com"
PROGRAM = shutil.which(
    "nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
)

CONFIG = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream web {{ server 127.0.0.1:{upstream}; keepalive 4; }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    server {{
        listen 127.0.0.1:{port}{tls};
        location {stripped}/ {{ proxy_pass http://web{slash}; }}
    }}
}}
"""
TLS_CONFIG = " ssl;\n        ssl_certificate {directory}/certificate.pem; ssl_certificate_key {directory}/key.pem"


class Nginx(LocalServer):
    """A reverse proxy to a local port that may end TLS and may strip a path prefix."""

    name = "nginx"

    def __init__(self, upstream: int, *, tls: bool = False, stripped: str = "") -> None:
        super().__init__()
        assert PROGRAM is not None
        self._upstream, self._tls, self._stripped = upstream, tls, stripped

    @property
    def tls(self) -> ssl.SSLContext | None:
        """Return what a client needs to trust the server."""
        return ssl.create_default_context(cafile=str(self.directory / "certificate.pem")) if self._tls else None

    def _command(self) -> list[str]:
        if self._tls:
            _make_certificate(self.directory)
        config = CONFIG.format(
            directory=self.directory,
            port=self.port,
            upstream=self._upstream,
            tls=TLS_CONFIG.format(directory=self.directory) if self._tls else "",
            stripped=self._stripped,
            slash="/" if self._stripped else "",  # with a path, nginx puts it in the place of the location's
        )
        (self.directory / "nginx.conf").write_text(config)
        return [str(PROGRAM), "-e", "stderr", "-p", str(self.directory), "-c", str(self.directory / "nginx.conf")]

    def _answers(self) -> bool:
        if self.tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        else:
            unchecked = ssl._create_unverified_context()  # noqa: S323 (only asks whether it is there)
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=unchecked)
        with contextlib.closing(connection):
            try:
                connection.request("GET", f"{self._stripped}/healthz")
                return connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):
                return False


def _make_certificate(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    unencrypted = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unencrypted)
    (directory / "key.pem").write_bytes(pem)
