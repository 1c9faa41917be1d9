"""The boto3 client that a worker is given: every operation passes the gate, pages of a list one by one."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

from tests.model.s3 import S3
from tests.model.schedule import Call

Gate = Callable[[Call, Callable[[], Any]], Any]

# By paginator: what the next request takes from the last answer.
_CONTINUED = {
    "list_objects_v2": {"ContinuationToken": "NextContinuationToken"},
    "list_multipart_uploads": {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"},
}


class _LateFuture(Future[Any]):
    def __init__(self, act: Callable[[], Any]) -> None:  # nobody waits for it: without what waiting takes
        self._act = act

    def result(self, timeout: float | None = None) -> Any:
        return self._act()


class Late(Executor):
    """Does what it is given as late as a thread may, when it is asked for the result; what changes till then shows."""

    def submit(self, act: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        return _LateFuture(lambda: act(*arguments, **named))


class Client:
    """Has of boto3's client what `workers.archive` uses."""

    def __init__(self, s3: S3, gate: Gate) -> None:
        self._s3 = s3
        self._gate = gate

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        act = getattr(self._s3, operation)

        def ask(**asked: Any) -> Any:
            target = str(asked.get("Key") or asked.get("Prefix", ""))
            return self._gate(Call("s3", operation, target), lambda: act(**asked))

        setattr(self, operation, ask)
        return ask

    def get_paginator(self, operation: str) -> "_Paginator":
        """Return what yields pages of a list."""
        return _Paginator(self, operation)


class _Paginator:
    def __init__(self, client: Client, operation: str) -> None:
        self._ask = getattr(client, operation)
        self._continued = _CONTINUED[operation]

    def paginate(self, **asked: Any) -> Iterator[Any]:
        page = self._ask(**asked)
        yield page
        while page["IsTruncated"]:
            page = self._ask(**asked, **{name: page[source] for name, source in self._continued.items()})
            yield page
