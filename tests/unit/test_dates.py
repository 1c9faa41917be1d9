"""Twilio's dates are read the fast way as the library reads them."""

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.recording import utc, utc_day

MOMENTS = st.integers(-30_000_000_000, 250_000_000_000).map(lambda second: datetime.fromtimestamp(second, UTC))


@given(MOMENTS)
def test_the_fast_way_is_the_librarys(moment: datetime) -> None:
    """Every moment as Twilio writes it is read as Python's own parser reads it, and so is its day."""
    text = format_datetime(moment)
    assert utc(text) == parsedate_to_datetime(text) == moment.replace(microsecond=0)
    assert utc_day(text) == moment.date()


@pytest.mark.parametrize(
    "text",
    [
        "Mon, 23 Xxx 2026 02:00:00 +0000",
        "Mon, 32 Nov 2026 02:00:00 +0000",
        "Mon, 23 Nov 2026 25:00:00 +0000",
        "Mon, 2_ Nov 2026 02:00:00 +0000",
        "",
    ],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    """A malformed date raises ValueError, in the form of the fast way too."""
    with pytest.raises(ValueError):
        utc(text)


@pytest.mark.parametrize("text", ["Mon, 23 Nov 2026 01:30:00 +0200", "Mon, 23 Nov 2026 00:30:00 GMT"])
def test_other_zones_count_by_the_utc_day(text: str) -> None:
    """What is not written as Twilio writes it is still read."""
    assert utc_day(text) == utc(text).date()
