"""The S3 proxy as its users see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import Self
from urllib.parse import urlsplit

from deploy.local.injections import Injection, Injections
from deploy.local.processes import reserve_port

from .faults import Fault
from .messages import S3Request
from .operations import names
from .relay import Handler, Wiring
from .server import Server
from .timeline import Event, Timeline

_STOP_TIMEOUT_S = 5.0


class S3Proxy:
    """A proxy in front of the S3 server at `endpoint_url` (plain HTTP); use it in a `with` statement.

    `url` takes the place of `endpoint_url`, as in AWS_ENDPOINT_URL_S3, and stays the same through `down` and `up`.
    Requests are passed on as the client wrote and signed them, bodies block by block. Threads use it at will.
    `numbers`, shared with a `Simulator`, give the events of both one order.
    """

    def __init__(self, endpoint_url: str, *, numbers: Iterator[int] | None = None) -> None:
        target = urlsplit(endpoint_url)
        self._timeline = Timeline(numbers or count(1))
        self._injections: Injections[Fault, S3Request] = Injections()
        self._wiring = Wiring(target.hostname or "", target.port or 80, self._injections, self._timeline)
        self._server: Server | None = None
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            self._port = resources.enter_context(reserve_port())
            self.up()
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.clear_faults()
        server = self._server
        self.down()
        if server:
            server.wait(_STOP_TIMEOUT_S)
        self._resources.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def timeline(self) -> list[Event]:
        """What was asked and what became of it, in the order in which it was over."""
        return self._timeline.events

    def inject(
        self,
        fault: Fault,
        operation: str | None = None,
        *,
        key_contains: str = "",
        times: int | None = 1,
        skip: int = 0,
        when: Callable[[], bool] | None = None,
    ) -> Injection[Fault, S3Request]:
        """Let a fault meet the next `times` matching requests (None: all) after the first `skip` of them.

        `when` is asked about each of these; those that it denies pass. `operation` is S3's name of it, such as
        PutObject. Raises `ValueError` when S3 knows none of that name.
        """
        if operation is not None and operation not in names():
            raise ValueError(f"{operation} is not an operation of S3")
        wanted = operation or fault.operation

        def fits(request: S3Request) -> bool:
            return wanted in (None, request.operation) and key_contains in request.key

        return self._injections.add(Injection(fault, fits, times, skip, when))

    def clear_faults(self) -> None:
        """Remove every fault and let go of whatever they hold up."""
        self._injections.clear()

    def down(self) -> None:
        """Break every connection and refuse new ones, until `up`."""
        if self._server:
            self._server.stop()
            self._server = None

    def up(self) -> None:
        """Take connections again, on the same port."""
        if self._server is None:
            self._server = Server(self._port, partial(Handler, self._wiring))
