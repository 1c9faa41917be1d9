"""Make the HTTP exchanges of a callback, each bounded in time and written to the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from time import monotonic
from urllib.parse import parse_qs, parse_qsl, urlsplit

from .journal import Event, Journal
from .recordings import SimRecording


@dataclass(frozen=True)
class CallbackAnswer:
    """The last answer to a callback, and how many attempts it took; `status` is None where none came.

    `error` is `ct` (connecting failed or timed out), `rt` (no answer in time, or a broken one) or None.
    Header names are in lower case.
    """

    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    attempts: int = 1
    error: str | None = None


@dataclass(frozen=True)
class Delivery:
    """Twilio's connection settings of one URL: its defaults, or what the fragment of the URL asks for.

    Times are in seconds. `retry_on` holds `ct`, `rt`, `4xx`, `5xx` or `all` (Webhooks: connection overrides).
    """

    connect_timeout_s: float = 5.0
    read_timeout_s: float = 15.0
    total_timeout_s: float = 15.0
    retries: int = 1
    retry_on: frozenset[str] = frozenset({"ct"})

    @classmethod
    def of(cls, fragment: str) -> Delivery:
        """Read a fragment such as `rc=5&rp=all`; what is malformed or out of bounds keeps its default."""
        asked = {name: values[0] for name, values in parse_qs(fragment).items()}

        def seconds(name: str, most_ms: int, default: float) -> float:
            value = asked.get(name, "")
            return int(value) / 1000 if value.isdigit() and 100 <= int(value) <= most_ms else default

        retries = asked.get("rc", "")
        return cls(
            connect_timeout_s=seconds("ct", 10_000, cls.connect_timeout_s),
            read_timeout_s=seconds("rt", 15_000, cls.read_timeout_s),
            total_timeout_s=seconds("tt", 15_000, cls.total_timeout_s),
            retries=int(retries) if retries.isdigit() and int(retries) <= 5 else cls.retries,
            retry_on=frozenset(asked["rp"].split(",")) if "rp" in asked else cls.retry_on,
        )

    def retries_after(self, answer: CallbackAnswer) -> bool:
        """Tell whether an answer is one to try again after."""
        outcome = answer.error or f"{(answer.status or 0) // 100}xx"
        return outcome in self.retry_on or ("all" in self.retry_on and outcome in ("ct", "rt", "4xx", "5xx"))


@dataclass(frozen=True)
class Exchanges:
    """What all exchanges of one callback share: their limits, the deadline and where they are written down."""

    journal: Journal
    delivery: Delivery
    deadline: float
    recording: SimRecording

    def make(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> CallbackAnswer:
        """Make one exchange on a connection of its own."""
        sequence = self.journal.number()
        answer = self._exchange(method, url, body, headers)
        target = urlsplit(url)
        self.journal.append(
            Event(
                sequence=sequence,
                kind="callback",
                method=method,
                path=target.path,
                query=dict(parse_qsl(target.query, keep_blank_values=True)),
                endpoint="callback",
                account_sid=self.recording.account_sid,
                recording_sid=self.recording.sid,
                status=answer.status,
                body_bytes=len(answer.body),
                complete=answer.error is None,
                authorized="Authorization" in headers,
            )
        )
        return answer

    def _exchange(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> CallbackAnswer:
        target = urlsplit(url)
        connection = HTTPConnection(target.hostname or "", target.port)
        if target.scheme == "https":
            connection = HTTPSConnection(target.hostname or "", target.port)
        try:
            connection.timeout = self._bounded(self.delivery.connect_timeout_s)
            connection.connect()
        except OSError:
            return CallbackAnswer(None, error="ct")
        try:
            connection.sock.settimeout(self._bounded(self.delivery.read_timeout_s))
            path = (target.path or "/") + (f"?{target.query}" if target.query or url.endswith("?") else "")
            connection.request(method, path, None if method == "GET" else body, dict(headers))
            sock = connection.sock  # http.client forgets it when the answer closes the connection
            response = connection.getresponse()
            content = b""
            while block := self._read(response, sock):
                content += block
        except (OSError, HTTPException):
            return CallbackAnswer(None, error="rt")
        finally:
            connection.close()
        answered = {name.lower(): value for name, value in response.getheaders()}
        return CallbackAnswer(response.status, answered, content)

    def _read(self, response: HTTPResponse, sock: object) -> bytes:
        sock.settimeout(self._bounded(self.delivery.read_timeout_s))  # type: ignore[attr-defined]
        return response.read1(65536)

    def _bounded(self, timeout_s: float) -> float:
        """Return what is left of a time limit; raises TimeoutError where nothing is."""
        left = self.deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        return min(timeout_s, left)
