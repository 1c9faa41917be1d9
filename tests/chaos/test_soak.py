"""The whole local stack in a short storm: every recording is archived exactly once, and no source is deleted early."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.chaos.soak import soak
from tests.chaos.storm import Plan
from tests.chaos.summary import summary

RECORDINGS, STORM_S = 500, 60.0


@pytest.mark.timeout(900)
def test_nothing_is_lost_in_a_storm(tmp_path: Path) -> None:
    """Everything breaks at once, and in the end there is one object, one receipt and one proof for each recording.

    The dice are those of the day: `tests/chaos/run --recordings 500 --minutes 1 --seed N` throws them again.
    """
    outcome = soak(Plan(RECORDINGS, STORM_S, int(f"{datetime.now(UTC):%y%m%d}"), tmp_path), print)
    assert outcome.is_right, summary(outcome)
    assert outcome.verdict.counts["archived once and deleted"] == RECORDINGS
    assert outcome.done["redis_flushed"] == 2
    assert min(outcome.done[each] for each in ("worker_killed", "redis_restarted", "s3_unreachable", "restarted")) > 0
    assert all(outcome.failed[side] / outcome.asked[side] > 0.02 for side in ("twilio", "s3"))
