"""Complete days: which stretches of a list hold none, and when a day of a list is complete."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.complete_days import Watch, is_looked_at_again, settled_until, spans, stays

TODAY = date(2026, 11, 25)
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def back(days: int) -> date:
    """Return the day so many days ago."""
    return TODAY - timedelta(days=days)


@pytest.mark.parametrize(
    ("complete", "since", "until", "stretches"),
    [
        ([], None, None, [(None, None)]),
        ([], 9, 0, [(9, 0)]),
        ([3], None, None, [(2, None), (None, 4)]),
        ([3, 4, 5], None, None, [(2, None), (None, 6)]),
        ([3, 5], None, None, [(2, None), (4, 4), (None, 6)]),
        ([3, 4], 9, None, [(2, None), (9, 5)]),
        ([3, 9], 9, None, [(2, None), (8, 4)]),
        ([3, 12], 9, None, [(2, None), (9, 4)]),
        ([3], None, 3, [(None, 4)]),
        ([3], None, 5, [(None, 5)]),
        ([3], 3, 3, []),
    ],
)
def test_stretches_leave_complete_days_out(
    complete: list[int], since: int | None, until: int | None, stretches: list[tuple[int | None, int | None]]
) -> None:
    """What is left of the days between two bounds, either of which may be open, newest first."""

    def day(days: int | None) -> date | None:
        return None if days is None else back(days)

    found = list(spans({back(days) for days in complete}, day(since), day(until)))
    assert found == [(day(oldest), day(newest)) for oldest, newest in stretches]


@given(st.sets(st.integers(0, 30)), st.integers(0, 30), st.integers(0, 30))
def test_every_day_is_in_one_stretch_or_complete(complete: set[int], one: int, other: int) -> None:
    """Nothing between the bounds is left out, and nothing comes twice."""
    since, until = max(one, other), min(one, other)
    days = [
        (TODAY - oldest).days - step
        for oldest, newest in spans({back(days) for days in complete}, back(since), back(until))
        if oldest is not None and newest is not None
        for step in range((newest - oldest).days + 1)
    ]
    assert sorted(days) == [days for days in range(until, since + 1) if days not in complete]


def test_a_day_is_complete_when_its_neighbour_is_over() -> None:
    """A list need not be in order around midnight: a day is over two days later, empty days are complete too."""
    watch = Watch()
    watch.begin(back(3))
    assert list(watch.over(back(2))) == []
    assert list(watch.over(back(3))) == []
    watch.see_unfinished(back(4))
    assert list(watch.over(back(5))) == [(back(3), True)]
    assert list(watch.over(back(8))) == [(back(4), False), (back(5), True), (back(6), True)]
    assert list(watch.ended(None)) == [(back(7), True), (back(8), True)]


def test_a_day_that_was_taken_for_complete_is_told_apart() -> None:
    """Where a list is out of order after all, who remembers complete days is told to forget one."""
    watch = Watch()
    watch.begin(back(3))
    assert list(watch.over(back(5))) == [(back(3), True)]
    assert not watch.see_unfinished(back(4))
    assert watch.see_unfinished(back(3))
    assert not watch.see_unfinished(back(3))


def test_a_list_that_is_empty_from_its_beginning_completes_nothing() -> None:
    """It looks the same when the settings name another region than that of the recordings."""
    watch = Watch()
    watch.begin(back(3))
    assert list(watch.ended(back(9))) == []
    watch.begin(back(10))
    assert list(watch.over(back(10))) == []
    assert list(watch.ended(back(11))) == [(back(10), True), (back(11), True)]
    watch.begin(back(13))
    assert list(watch.ended(back(14))) == [(back(13), True), (back(14), True)]


def test_a_day_settles_48_hours_after_its_end() -> None:
    """Until then it does not count as complete."""
    assert settled_until(datetime(2026, 11, 25, 0, 0, tzinfo=UTC)) == date(2026, 11, 22)
    assert settled_until(datetime(2026, 11, 24, 23, 59, 59, tzinfo=UTC)) == date(2026, 11, 21)


def test_a_day_counts_while_nothing_of_it_is_to_be_deleted() -> None:
    """With a delay, a day is to be looked at when its first recording may be due."""
    assert stays(back(4), None, NOON)
    assert stays(back(4), timedelta(days=5), NOON)
    assert not stays(back(4), timedelta(days=4), NOON)
    assert not stays(back(4), timedelta(0), NOON)
    assert stays(back(4), timedelta.max, NOON)


def test_every_complete_day_has_its_turn() -> None:
    """Of thirty days in a row each is looked at again once in thirty days."""
    assert sum(is_looked_at_again(back(days), TODAY) for days in range(10, 40)) == 1
    assert sum(is_looked_at_again(back(9), TODAY + timedelta(days=days)) for days in range(30)) == 1
