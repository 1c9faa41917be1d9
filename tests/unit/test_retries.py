"""How long a failed attempt waits for the next one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import (
    ArchiverError,
    ConfigurationError,
    ContentError,
    ForbiddenDeletionError,
    GoneError,
    JunkMessageError,
    NoSuchLayoutError,
    NotReadyError,
    TemporaryError,
    ThrottledError,
)
from workers.tasks import retry_delay_s

JITTER = st.floats(0, 1)
MOST_RETRIES = TemporaryError.retries
RETRIES = st.integers(0, MOST_RETRIES)


@given(retries=RETRIES, jitter=JITTER, asked_s=st.none() | st.floats(0, 1e9))
def test_delay_is_positive_and_at_most_a_minute(retries: int, jitter: float, asked_s: float | None) -> None:
    """A countdown sits in a worker's memory, so it is never longer than a minute, and never zero."""
    assert 0 < retry_delay_s(TemporaryError("x", retry_after_s=asked_s), retries, jitter) <= 60


@given(retries=RETRIES, jitter=JITTER, asked_s=st.floats(0, 60))
def test_delay_is_never_shorter_than_asked(retries: int, jitter: float, asked_s: float) -> None:
    """A `Retry-After` of up to a minute is kept."""
    assert retry_delay_s(ThrottledError("x", retry_after_s=asked_s), retries, jitter) >= asked_s


@given(jitter=JITTER)
def test_delays_grow(jitter: float) -> None:
    """Each attempt waits at least as long as the one before."""
    delays = [retry_delay_s(TemporaryError("x"), retries, jitter) for retries in range(MOST_RETRIES)]
    assert delays == sorted(delays)


@pytest.mark.parametrize("retries", range(4))
def test_jitter_spreads_attempts(retries: int) -> None:
    """Recordings that failed together come back spread over as long as they wait on average."""
    error = TemporaryError("x")
    early, mean, late = (retry_delay_s(error, retries, jitter) for jitter in (0, 0.5, 1))
    assert late - early == pytest.approx(mean)


def test_jitter_spreads_what_was_asked_for() -> None:
    """Recordings that Twilio asked to come back in 20 s don't come back all at once."""
    error = ThrottledError("x", retry_after_s=20)
    assert retry_delay_s(error, 0, 1) > retry_delay_s(error, 0, 0) == 20


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (TemporaryError, True),
        (NotReadyError, True),
        (ThrottledError, True),
        (GoneError, False),
        (NoSuchLayoutError, False),
        (ForbiddenDeletionError, False),
        (JunkMessageError, False),
        (ArchiverError, False),
    ],
)
def test_only_what_may_succeed_soon_is_retried(error: type[ArchiverError], retried: bool) -> None:
    """Whether a task repeats an attempt by itself is decided by the kind of its failure."""
    assert (error.retries > 0) is retried


@pytest.mark.parametrize("error", [ContentError, ConfigurationError])
def test_what_a_person_must_mend_is_not_hammered(error: type[ArchiverError]) -> None:
    """Wrong content or configuration is retried no more often than what is only temporary."""
    assert error.retries < TemporaryError.retries
