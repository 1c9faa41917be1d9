"""Redis is wiped while recordings are in flight: a sweep finds them all, and none is fetched a third time."""

import pytest

from tests.chaos.wiped import INTERVAL_S, drain, is_kept

DRAIN_S = 60.0  # which a busy machine may take for so few


@pytest.mark.timeout(300)
def test_all_are_archived_within_two_sweeps() -> None:
    """`python -m tests.chaos.wiped` does it with a thousand."""
    wiped = drain(60, wipe=True)
    assert wiped.in_flight == 60
    assert is_kept(wiped, 2 * INTERVAL_S + DRAIN_S), str(wiped)
