"""Both sides of an archiver, as fast as Python sockets are: python -m tests.bench.sides_server PORT LATENCY_MS.

Twilio serves a WAV file of any size, S3 takes what it is given and believes its checksums: no bottleneck and no
judgement. Every request waits for the latency before it is answered. A recording's SID holds its size, so that
nothing needs to be told before. `GET /_bench/events` lists the requests, `DELETE /_bench/events` forgets them.
"""

import base64
import hashlib
import itertools
import json
import os
import re
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

BYTES_PER_S: Final = 32_000  # two channels, 8 kHz, 16 bits
_BUFFER_BYTES: Final = 1024 * 1024
_MAX_DOCUMENT_BYTES: Final = 256 * 1024
_HEADER_BYTES: Final = 44
_TWILIO: Final = re.compile(
    r"/2010-04-01/Accounts/(AC[0-9a-f]{32})/Recordings/(RE[0-9a-f]{32})(\.wav|\.json|/\w+\.json)"
)
_CREATED: Final = "Mon, 02 Nov 2026 10:00:00 +0000"
_NOT_FOUND: Final = b"<Error><Code>NoSuchKey</Code></Error>"


def size_of(sid: str) -> int:
    """Return the size in bytes of the WAV file of a recording, which its SID holds."""
    return int(sid[2:12], 16)


@dataclass
class Stored:
    """What S3 has under a key; documents are kept, media is not."""

    size: int
    checksum: str
    body: bytes


@dataclass
class Sides:
    """The state of both sides."""

    latency_s: float
    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, dict[int, tuple[int, str]]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    events: list[tuple[float, str, str]] = field(default_factory=list)
    numbers: Any = field(default_factory=itertools.count)
    audio: int = field(default_factory=lambda: os.memfd_create("audio"))

    def __post_init__(self) -> None:
        os.write(self.audio, bytes(64 * 1024 * 1024))


class Connection:
    """One connection; requests are answered in order."""

    def __init__(self, sides: Sides, connected: socket.socket) -> None:
        self.sides, self.socket = sides, connected
        self.file = connected.makefile("rb", buffering=64 * 1024)
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))

    def serve(self) -> None:
        """Answer until the client closes."""
        try:
            while line := self.file.readline():
                self._answer(line.decode("latin-1"))
        except ConnectionError:
            pass
        finally:
            self.file.close()
            self.socket.close()

    def _answer(self, line: str) -> None:
        method, target, _ = line.split(" ")
        headers: dict[str, str] = {}
        while (field_line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = field_line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        url = urlsplit(target)
        path = unquote(url.path)
        if "100-continue" in headers.get("expect", ""):
            self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = int(headers.get("content-length", "0"))
        body = self._read(size)
        if path.startswith("/_bench/"):
            self._bench(method)
            return
        if self.sides.latency_s:
            time.sleep(self.sides.latency_s)
        self.sides.events.append((time.monotonic(), method, path + (f"?{url.query}" if url.query else "")))
        if match := _TWILIO.fullmatch(path):
            self._twilio(method, *match.groups())
        else:
            self._s3(method, path, url.query, headers, size, body)

    def _read(self, size: int) -> bytes:
        """Take a body from the connection; what is too large for a document is thrown away."""
        if size <= _MAX_DOCUMENT_BYTES:
            return self.file.read(size)
        left = size
        while left:
            left -= self.file.readinto(self.buffer[: min(left, _BUFFER_BYTES)])
        return b""

    def _send(self, status: str, body: bytes = b"", *, length: int | None = None, **headers: str) -> None:
        fields = {"Content-Length": str(len(body) if length is None else length), **headers}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        self.socket.sendall(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body)

    def _bench(self, method: str) -> None:
        if method == "DELETE":
            self.sides.events.clear()
        self._send("200 OK", json.dumps(self.sides.events).encode())

    # Twilio

    def _twilio(self, method: str, account_sid: str, sid: str, rest: str) -> None:
        if method == "DELETE":
            self.sides.deleted.add(sid)
            self._send("204 No Content")
        elif rest == ".wav":
            self._send_audio(size_of(sid))
        elif rest == ".json":
            self._send("200 OK", json.dumps(self._resource(account_sid, sid)).encode(), Content_Type="application/json")
        else:
            name = "transcriptions" if rest.startswith("/Trans") else "add_on_results"
            body = json.dumps({name: [], "next_page_uri": None}).encode()
            self._send("200 OK", body, Content_Type="application/json")

    def _resource(self, account_sid: str, sid: str) -> dict[str, Any]:
        return {
            "sid": sid,
            "account_sid": account_sid,
            "call_sid": f"CA{sid[2:]}",
            "conference_sid": None,
            "status": "deleted" if sid in self.sides.deleted else "completed",
            "channels": 2,
            "duration": str((size_of(sid) - _HEADER_BYTES) // BYTES_PER_S),
            "date_created": _CREATED,
            "date_updated": _CREATED,
            "start_time": _CREATED,
            "source": "DialVerb",
            "error_code": None,
            "encryption_details": None,
            "media_url": None,
        }

    def _send_audio(self, size: int) -> None:
        data = size - _HEADER_BYTES
        header = b"RIFF" + (size - 8).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
        header += b"\x01\x00\x02\x00" + (8000).to_bytes(4, "little") + BYTES_PER_S.to_bytes(4, "little")
        header += b"\x04\x00\x10\x00data" + data.to_bytes(4, "little")
        self._send("200 OK", header, length=size, Content_Type="audio/x-wav")
        while data:
            data -= os.sendfile(self.socket.fileno(), self.sides.audio, 0, min(data, 64 * 1024 * 1024))

    # S3

    def _s3(self, method: str, path: str, query: str, headers: dict[str, str], size: int, body: bytes) -> None:
        checksum = headers.get("x-amz-checksum-sha256", "")
        upload = re.search(r"uploadId=(\w+)", query)
        stored = self.sides.objects.get(path)
        if method in ("GET", "HEAD"):
            self._send_object(method, stored)
        elif method == "DELETE":
            self.sides.objects.pop(path, None)
            self._send("204 No Content")
        elif method == "POST" and upload is None:
            upload_id = f"u{next(self.sides.numbers)}"
            self.sides.uploads[upload_id] = {}
            answer = f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
            self._send("200 OK", answer.encode())
        elif method == "PUT" and upload is not None:
            number = int(re.findall(r"partNumber=(\d+)", query)[0])
            self.sides.uploads[upload[1]][number] = (size, checksum)
            self._send("200 OK", ETag=f'"{number}"', x_amz_checksum_sha256=checksum)
        elif headers.get("if-none-match") == "*" and stored is not None:
            self._send("412 Precondition Failed", b"<Error><Code>PreconditionFailed</Code></Error>")
        elif upload is not None:
            self._complete(path, self.sides.uploads.pop(upload[1]))
        else:
            self.sides.objects[path] = Stored(size, checksum, body)
            self._send("200 OK", ETag='"0"', x_amz_checksum_sha256=checksum)

    def _send_object(self, method: str, stored: Stored | None) -> None:
        if stored is None:
            self._send("404 Not Found", b"" if method == "HEAD" else _NOT_FOUND)
            return
        fields = {"ETag": '"0"', "Last_Modified": _CREATED.replace("+0000", "GMT")}
        fields["x_amz_checksum_sha256"] = stored.checksum
        self._send("200 OK", b"" if method == "HEAD" else stored.body, length=stored.size, **fields)

    def _complete(self, path: str, parts: dict[int, tuple[int, str]]) -> None:
        digests = [base64.b64decode(checksum) for _, (_, checksum) in sorted(parts.items())]
        whole = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
        size = sum(size for size, _ in parts.values())
        self.sides.objects[path] = Stored(size, f"{whole}-{len(parts)}", b"")
        self._send("200 OK", b'<CompleteMultipartUploadResult><ETag>"0"</ETag></CompleteMultipartUploadResult>')


def main() -> None:
    """Serve until the end of the process."""
    sides = Sides(float(sys.argv[2]) / 1000)
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512) as server:
        while True:
            connected, _ = server.accept()
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=Connection(sides, connected).serve, daemon=True).start()


if __name__ == "__main__":
    main()
