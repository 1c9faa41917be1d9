"""What a callback costs: requests for a second of CPU, and how long they take at 200 a second.

Ours and each rival are served by gunicorn with one process and eight threads, with the same Redis, signed requests and
clients. A core's share is counted by the kernel, so that the clients on the same machine don't matter.
"""

import contextlib
import os
import secrets
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from deploy.local.processes import Process, reserve_port, scratch_directory
from deploy.local.servers import ROOT, RedisServer
from deploy.local.stack import Stack
from tests.bench import costs, load
from tests.bench.rows import Row, alternating
from tests.bench.sides import ACCOUNT, Sides
from tests.integration.callback_tools import PUBLIC_URL, callback, fields_of

SECONDS = 4.0
PER_SECOND = 200.0
RIVALS = {"tutorial": "the tutorial's endpoint", "bare_push": "a bare LPUSH", "empty_view": "an empty view"}
TUTORIAL, PUSH = RIVALS["tutorial"], RIVALS["bare_push"]


def run(rounds: int) -> Iterator[Row]:
    """Yield requests a second and core beside each rival's, and the latencies at a fixed rate."""
    requests = [signed(f"RE{secrets.token_hex(16)}") for _ in range(200)]
    with contextlib.ExitStack() as stack:
        redis_server = stack.enter_context(RedisServer())
        product = stack.enter_context(ours(redis_server))
        servers = {"ours": (product.port, product.web.pid)}
        for database, (module, name) in enumerate(RIVALS.items(), start=1):
            servers[name] = stack.enter_context(_rival(module, redis_server, database))

        def measure(name: str) -> Callable[[], float]:
            port, group = servers[name]

            def once() -> float:
                load.as_fast_as_answered(port, requests, 0.5)
                before = costs.cpu_s(group)
                count = load.as_fast_as_answered(port, requests, SECONDS)
                redis_server.flush()
                return count / (costs.cpu_s(group) - before)

            return once

        rates = alternating({name: measure(name) for name in servers}, rounds)
        for name in RIVALS.values():
            theirs = statistics.median(rates[name])
            ratio = statistics.median(rates["ours"]) / theirs
            asked = {TUTORIAL: (">= 1.3 x", ratio >= 1.3), PUSH: ("stretch 0.8 x", None)}.get(name, ("", None))
            yield Row.of(
                "callback",
                "requests",
                "/s of CPU",
                rates["ours"],
                other=name,
                theirs=theirs,
                bound=asked[0],
                kept=asked[1],
            )
        taken = {name: load.at_a_rate(servers[name][0], requests, PER_SECOND, 10.0) for name in ("ours", TUTORIAL)}
    for percent, bound in ((50, None), (99, 50.0)):
        ours_ms, theirs_ms = (
            1000 * statistics.quantiles(taken[name], n=100)[percent - 1] for name in ("ours", TUTORIAL)
        )
        kept = None if bound is None else ours_ms < bound
        yield Row.of(
            "callback",
            f"p{percent} at {PER_SECOND:.0f}/s",
            "ms",
            [ours_ms],
            other=TUTORIAL,
            theirs=theirs_ms,
            bound="" if bound is None else f"< {bound:.0f} ms",
            kept=kept,
        )


def signed(recording_sid: str) -> bytes:
    """Make a callback as Twilio sends it when a call has ended."""
    fields = fields_of(
        ACCOUNT.sid,
        recording_sid,
        CallSid=f"CA{secrets.token_hex(16)}",
        RecordingUrl=f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT.sid}/Recordings/{recording_sid}",
        RecordingDuration="30",
        RecordingChannels="2",
        RecordingStartTime="Mon, 23 Nov 2026 10:00:00 +0000",
        RecordingSource="DialVerb",
        RecordingTrack="both",
        ErrorCode="0",
    )
    return callback(fields, ACCOUNT.auth_tokens[0])


@contextlib.contextmanager
def ours(redis_server: RedisServer) -> Iterator[Stack]:
    settings = {"PUBLIC_URL": PUBLIC_URL, "WEB_CONCURRENCY": "1"}
    with (
        Sides() as sides,
        Stack(
            ("web",),
            settings=settings,
            redis_server=redis_server,
            s3_server=sides,
            simulator=sides,  # type: ignore[arg-type]
        ) as stack,
    ):
        yield stack


@contextlib.contextmanager
def _rival(module: str, redis_server: RedisServer, database: int) -> Iterator[tuple[int, int]]:
    """Serve a rival; yield its port and process group."""
    with scratch_directory(module) as directory, reserve_port() as port:
        environ = {
            "PATH": os.defpath,
            "HOME": str(directory),
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": redis_server.url(database),
            "TWILIO_AUTH_TOKEN": ACCOUNT.auth_tokens[0],
            "PUBLIC_URL": PUBLIC_URL,
        }
        settings = ROOT / "tests" / "bench" / "rivals" / "gunicorn_settings.py"
        program = str(Path(sys.prefix) / "bin" / "gunicorn")
        command = [program, "--config", str(settings), "--bind", f"127.0.0.1:{port}", "--no-control-socket"]
        command.append(f"tests.bench.rivals.{module}:app")
        process = Process(module, command, env=environ, cwd=directory, log=directory / "log")
        process.start()
        try:
            process.wait_ready(lambda: _answers(port), timeout_s=20)
            yield port, process.pid
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError, RuntimeError):
        load.as_fast_as_answered(port, [signed(f"RE{secrets.token_hex(16)}")], 0.0, connections=1)
        return True
    return False
