"""Keep the append-only record of what S3 was asked and what became of it. Never a credential, never a body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock

from .messages import S3Request

_KEPT = frozenset(
    {"content-encoding", "content-length", "content-md5", "content-type", "expect", "if-match", "if-none-match"}
)
_SECRET = frozenset({"x-amz-security-token", "x-amz-server-side-encryption-customer-key"})
_PRESIGNED = ("x-amz-", "awsaccesskeyid", "signature")  # of the query: Signature Version 4, then 2


@dataclass(frozen=True)
class Event:
    """One request.

    `sequence` counts from when the request came in (at `arrived`), `finished_sequence` from when its answer was
    complete or its connection broken (at `time`): A happened before B if A.finished_sequence < B.sequence.
    `done_sequence` counts from when S3 had carried it out, however late the client was told.
    `status` is what the client was told, `s3_status` what S3 said; None where there was no answer, or S3 was never
    asked. `headers` are the request's: conditions, content, Expect, and whatever begins with x-amz-. `bytes_in` and
    `bytes_out` are those of the bodies, as they went over the wire; `faults` are the names of those met.
    """

    sequence: int
    done_sequence: int | None
    finished_sequence: int
    arrived: datetime
    time: datetime
    method: str
    operation: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    status: int | None
    s3_status: int | None
    bytes_in: int
    bytes_out: int
    faults: tuple[str, ...]


@dataclass
class Progress:
    """How far a request has come."""

    arrived: datetime = field(default_factory=lambda: datetime.now(UTC))
    status: int | None = None
    s3_status: int | None = None
    done_sequence: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    faults: tuple[str, ...] = ()


class Timeline:
    """Number and keep events; an event is written before the last byte of its answer leaves."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._lock = Lock()
        self._numbers = numbers
        self._events: list[Event] = []

    def number(self) -> int:
        """Give the next number of the one sequence that orders everything."""
        with self._lock:
            return next(self._numbers)

    def append(self, request: S3Request, progress: Progress) -> None:
        """Add the event of a request that is over."""
        query = {name: value for name, value in request.query.items() if not name.lower().startswith(_PRESIGNED)}
        with self._lock:
            self._events.append(
                Event(
                    sequence=request.sequence,
                    finished_sequence=next(self._numbers),
                    time=datetime.now(UTC),
                    method=request.method,
                    operation=request.operation,
                    bucket=request.bucket,
                    key=request.key,
                    query=query,
                    headers=_of_interest(request.headers),
                    **vars(progress),
                )
            )

    @property
    def events(self) -> list[Event]:
        with self._lock:
            return list(self._events)


def _of_interest(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in headers.items()
        if name in _KEPT or (name.startswith("x-amz-") and name not in _SECRET)
    }
