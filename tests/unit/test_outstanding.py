"""When a recording is too fresh to be swept."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.recording import Recording
from workers.outstanding import Rules

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
GRACE = timedelta(minutes=2)


def ago(**time: float) -> str:
    """Write the time so long ago as Twilio does."""
    return f"{NOW - timedelta(**time):%a, %d %b %Y %H:%M:%S +0000}"


@pytest.mark.parametrize(
    ("changes", "fresh"),
    [
        ({"date_created": ago(seconds=119)}, True),
        ({"date_created": ago(seconds=120)}, False),
        ({"date_created": ago(minutes=61), "duration": "3600"}, True),
        ({"date_created": ago(minutes=62), "duration": "3600"}, False),
        ({"date_created": ago(hours=1), "start_time": ago(minutes=3), "duration": "70"}, True),
        ({"date_created": ago(minutes=1), "start_time": ago(hours=1)}, True),  # a clock that is behind
        ({"date_created": ago(hours=1), "start_time": ago(days=-3)}, True),
        ({"date_created": ago(hours=24), "start_time": ago(days=-9999)}, True),
        ({"date_created": ago(hours=25), "start_time": ago(days=-9999)}, False),
        ({"date_created": ago(hours=25), "duration": "9" * 30}, False),
        ({"date_created": ago(hours=23), "duration": "9" * 30}, True),
        ({"date_created": ago(hours=1), "duration": "-" + "9" * 30}, False),
        ({"date_created": ago(minutes=-1)}, True),
        ({"date_created": "Fri, 31 Dec 9999 23:59:59 +0000"}, True),
        ({"date_created": "Mon, 01 Jan 0001 00:00:00 +0000"}, False),
    ],
)
def test_what_has_just_ended_is_left_to_its_callback(changes: dict[str, Any], fresh: bool) -> None:
    """Within the grace of its end a recording is left alone; an end that can't be is waited for two days at most."""
    raw = {"sid": "RE" + "1" * 32, "account_sid": "AC" + "a" * 32, "status": "completed", **changes}
    rules = Rules(NOW, None, GRACE, timedelta(0), everything=False)
    assert rules.is_fresh(Recording.parse(raw)) == fresh
