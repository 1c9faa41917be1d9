"""How attempts are counted by their ends."""

import pytest
from prometheus_client import REGISTRY

from app.queue import QueueUnavailableError
from workers import errors
from workers.attempts import OUTCOMES, counted, outcome_of
from workers.errors import ArchiverError, ForbiddenDeletionError, NoSuchLayoutError

CASES = {
    errors.ConfigurationError("r"): "configuration",
    errors.NotRestoredError("r"): "configuration",
    errors.TemporaryError("r"): "temporary",
    errors.NotReadyError("r"): "temporary",
    errors.ThrottledError("r"): "temporary",
    errors.ContentError("r"): "content",
    errors.ForbiddenDeletionError("r"): "forbidden",
    errors.GoneError("r"): "failed",
    errors.JunkMessageError("r"): "failed",
    NoSuchLayoutError(400, 16113): "failed",
    ArchiverError("r"): "failed",
    QueueUnavailableError("the queue does not answer"): "not_enqueued",
    KeyError("a bug"): "crashed",
}


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("error", CASES, ids=lambda error: type(error).__name__)
def test_every_failure_has_an_outcome(error: Exception) -> None:
    """It says what must be done, is counted once, and the error is passed on as it is."""
    labels = {"task": "archive_recording", "outcome": CASES[error]}
    before = value("archiver_attempts_total", **labels)
    with pytest.raises(type(error)) as raised, counted("archive_recording"):
        raise error
    assert raised.value is error
    assert outcome_of(error) == CASES[error]
    assert value("archiver_attempts_total", **labels) == before + 1


def test_every_outcome_is_possible() -> None:
    """Rules are made of these names: none of them is a dead one."""
    assert set(CASES.values()) | {"done"} == set(OUTCOMES)


def test_an_attempt_that_ends_well_is_done() -> None:
    """While it runs it is counted as running, and afterwards as done."""
    before = value("archiver_attempts_total", task="sweep", outcome="done")
    with counted("sweep"):
        assert value("archiver_running_tasks", task="sweep") == 1
    assert value("archiver_running_tasks", task="sweep") == 0
    assert value("archiver_attempts_total", task="sweep", outcome="done") == before + 1


def test_what_forbids_a_deletion_is_counted() -> None:
    """Deletions have an outcome of their own, with the reason; other tasks that are forbidden something do not."""
    before = value("archiver_deletions_total", outcome="legal_hold")
    for task in ("delete_source", "archive_recording"):
        with pytest.raises(ForbiddenDeletionError), counted(task):
            raise ForbiddenDeletionError("legal_hold")
    assert value("archiver_deletions_total", outcome="legal_hold") == before + 1
