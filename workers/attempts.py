"""Count attempts of tasks by how they end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from app.queue import DELETE_TASK, QueueUnavailableError
from app.tracing import span
from workers.errors import ArchiverError, ConfigurationError, ContentError, ForbiddenDeletionError, TemporaryError
from workers.metrics import ATTEMPTS, DELETIONS, RUNNING

DONE: Final = "done"
CRASHED: Final = "crashed"  # a bug: nothing that was foreseen
_FAILURES: Final[dict[type[Exception], str]] = {
    QueueUnavailableError: "not_enqueued",
    ConfigurationError: "configuration",
    ContentError: "content",
    ForbiddenDeletionError: "forbidden",
    TemporaryError: "temporary",
    ArchiverError: "failed",
}
OUTCOMES: Final = (DONE, *_FAILURES.values(), CRASHED)


@contextmanager
def counted(task: str) -> Iterator[None]:
    """Count an attempt by its outcome, and what is passed on; a deletion also by what forbids it."""
    with RUNNING.labels(task).track_inprogress(), span(task, **_sids()) as said:
        try:
            yield
        except Exception as error:
            said["outcome"] = outcome_of(error)
            ATTEMPTS.labels(task, outcome_of(error)).inc()
            if task == DELETE_TASK and isinstance(error, ForbiddenDeletionError):
                DELETIONS.labels(error.reason).inc()
            raise
        ATTEMPTS.labels(task, DONE).inc()


def _sids() -> dict[str, str]:
    """Return what the log says of each line of this attempt, too."""
    bound = structlog.contextvars.get_contextvars()
    return {name: str(bound[name]) for name in ("account_sid", "recording_sid") if name in bound}


def outcome_of(error: Exception) -> str:
    """Return which of `OUTCOMES` a failure is: what must be done about it."""
    return next((outcome for kind, outcome in _FAILURES.items() if isinstance(error, kind)), CRASHED)
