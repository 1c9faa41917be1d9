"""Sentry and OpenTelemetry with real processes: what leaves them, as a receiver on this machine sees it."""

import gzip
import json
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import Account, Match, OtherAudio, Simulator

MAIN = Account(sid="AC" + "a1" * 16, auth_tokens=["main-token-one"])


class Collector:
    """Takes whatever is posted."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []

    def __enter__(self) -> Self:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                elif self.headers.get("Content-Encoding") == "deflate":
                    body = zlib.decompress(body)
                collector.bodies.append((self.path, body))
                self.send_response_only(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def issues(self) -> list[str]:
        """Return the names of Sentry's events."""
        lines = [line for path, body in self.bodies if "/envelope/" in path for line in body.splitlines()]
        return [json.loads(line)["message"] for line in lines if b'"message"' in line]

    @property
    def spans(self) -> dict[str, dict[str, str]]:
        """Return the attributes of OpenTelemetry's spans by their names."""
        found = {}
        for path, body in self.bodies:
            if path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for span in (span for scope in resource.scope_spans for span in scope.spans):
                        found[span.name] = {each.key: each.value.string_value for each in span.attributes}
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def test_what_leaves_the_processes(
    redis_server: RedisServer, redis_database: int, s3_server: S3Server, collector: Collector
) -> None:
    """A quarantined recording is an event, a call is a trace; no token, query or text of an error is in either."""
    settings = {
        "SENTRY_DSN": f"http://key-of-sentry@{collector.address}/1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.address}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "QUARANTINE_AFTER": "1",
    }
    with (
        Simulator(accounts=[MAIN]) as simulator,
        Stack(
            ("web", "worker"),
            settings=settings,
            redis_server=redis_server,
            database=redis_database,
            s3_server=s3_server,
            simulator=simulator,
        ) as stack,
    ):
        simulator.inject(OtherAudio(channels=1), match=Match(endpoint="media"))
        recording = simulator.record(MAIN.sid, "call", 2.0, callback_url=stack.callback_url)
        wanted = {"callback", "archive_recording", "fetch"}
        wait_until(lambda: wanted <= collector.spans.keys(), timeout_s=60, what="spans")
        wait_until(lambda: collector.issues, timeout_s=60, what="an event")
    assert set(collector.issues) == {"recording_quarantined"}
    assert collector.spans["callback"] == {
        "outcome": "enqueued",
        "account_sid": MAIN.sid,
        "recording_sid": recording.sid,
    }
    assert collector.spans["archive_recording"]["recording_sid"] == recording.sid
    everything = b"".join(body for _, body in collector.bodies)
    for secret in (b"main-token-one", b"RequestedChannels", b"Traceback", b"seconds came", str(stack.port).encode()):
        assert secret not in everything
