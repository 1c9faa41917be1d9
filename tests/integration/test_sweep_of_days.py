"""Days of which nothing is left to do are remembered in the bucket, and sweeps look at them rarely."""

from datetime import UTC, date, datetime, timedelta

import pytest

from deploy.local.twilio import ErrorStatus, Match
from tests.integration.conftest import MAIN
from tests.integration.sweep_bench import SweepBench
from workers.complete_days import CompleteDays
from workers.errors import ContentError
from workers.quarantine import record_failure
from workers.tasks import Work

DAY = timedelta(days=1)


@pytest.fixture
def bench(bench_of_sweeps: SweepBench) -> SweepBench:
    return bench_of_sweeps


def day(age: timedelta) -> date:
    return (datetime.now(UTC) - age).date()


def remembered(work: Work) -> set[date]:
    return CompleteDays(work.archive, MAIN.sid).remembered()


def swept(bench: SweepBench, work: Work) -> list[str]:
    """Look at everything, and return what was enqueued, newest first."""
    work.new_sweep().run(everything=True)
    return bench.enqueued()[::-1]


def listed_days(bench: SweepBench) -> list[str]:
    """Return the prefixes of the days that S3 was asked for."""
    return [prefix for prefix in bench.listings() if "/year=" in prefix]


def test_a_complete_day_is_not_looked_at_again(bench: SweepBench) -> None:
    """Once all of a day is archived or documented, neither side is asked for it; days without recordings likewise."""
    work = bench.make(TWILIO_DELETE="never")
    bench.archived(work, 5 * DAY)
    bench.archived(work, 5 * DAY, status="absent", error_code=16101)
    bench.archived(work, 8 * DAY)
    assert swept(bench, work) == []
    assert remembered(work) == {day(age * DAY) for age in (3, 4, 5, 6, 7, 8)}
    before = len(bench.pages()), len(listed_days(bench))
    assert swept(bench, work) == []
    # What is newer than three days, and what is older than the oldest; each with a day more on either side.
    assert bench.pages()[before[0] :] == [(str(day(3 * DAY)), None), (None, str(day(7 * DAY)))]
    assert len(listed_days(bench)) == before[1]


def test_a_day_with_something_left_to_do_is_looked_at(bench: SweepBench) -> None:
    """What is missing, in quarantine or unfinished at Twilio keeps its day from being complete."""
    work = bench.make(TWILIO_DELETE="never")
    for age in (5, 6, 7, 8):
        bench.archived(work, age * DAY)
    missing = bench.record(6 * DAY)
    failing = bench.record(7 * DAY)
    record_failure(work.archive, bench.filing(failing), ContentError("media_cut", "cut"), 5)
    bench.record(8 * DAY, status="processing")
    for _ in range(2):
        assert swept(bench, work) == [missing.sid, failing.sid]
    assert remembered(work) == {day(age * DAY) for age in (3, 4, 5)}
    work.archive_recording({"account_sid": MAIN.sid, "recording_sid": missing.sid})
    assert swept(bench, work) == [failing.sid]
    assert remembered(work) == {day(age * DAY) for age in (3, 4, 5, 6)}


@pytest.mark.parametrize("lookback", ["2d", "9d"])
def test_what_is_proven_and_still_in_quarantine_is_not_done(bench: SweepBench, lookback: str) -> None:
    """When the end of a quarantine could not be written, its day is looked at until that is made up for."""
    work = bench.make(TWILIO_DELETE="never", SWEEP_LOOKBACK=lookback)
    archived = bench.archived(work, 5 * DAY)
    absent = bench.archived(work, 6 * DAY, status="absent", error_code=16101)
    for recording in (archived, absent):
        record_failure(work.archive, bench.filing(recording), ContentError("media_cut", "cut"), 5)
    work.new_sweep().run(everything=False)  # which must not call those days complete, however far it looks back
    bench.enqueued()
    assert swept(bench, work) == [archived.sid, absent.sid]
    assert not remembered(work) & {day(age * DAY) for age in (5, 6)}
    for recording in (archived, absent):
        work.archive_recording({"account_sid": MAIN.sid, "recording_sid": recording.sid})
        assert work.archive.head(bench.filing(recording).quarantine) is None
    assert swept(bench, work) == []
    assert remembered(work) >= {day(age * DAY) for age in (5, 6)}


def test_a_day_settles_before_it_is_complete(bench: SweepBench) -> None:
    """For 48 hours after its end a day is looked at every time, whatever is archived of it."""
    work = bench.make(TWILIO_DELETE="never")
    for age in (1, 2, 3):
        bench.archived(work, age * DAY)
    assert swept(bench, work) == []
    assert remembered(work) == {day(3 * DAY)}


def test_frequent_sweeps_leave_complete_days_out_too(bench: SweepBench) -> None:
    """However far they look back."""
    work = bench.make(TWILIO_DELETE="never", SWEEP_LOOKBACK="9d")
    bench.archived(work, 5 * DAY)
    missing = bench.record(9 * DAY)
    work.new_sweep().run(everything=False)
    before = len(listed_days(bench))
    work.new_sweep().run(everything=False)
    assert bench.enqueued() == [missing.sid] * 2
    assert [prefix.rpartition("/year=")[2] for prefix in listed_days(bench)[before:]] == [
        f"{day(9 * DAY):%Y/month=%m/day=%d}/"
    ]


def test_a_sweep_that_ended_early_completes_nothing_it_did_not_see(bench: SweepBench) -> None:
    """A day is complete only when its whole list was read; what the queue has no room for is left to do."""
    work = bench.make(TWILIO_DELETE="never")
    bench.archived(work, 5 * DAY)
    for age in (6, 7, 8):
        bench.record(age * DAY)
    with bench.redis.client(bench.database) as client:
        client.rpush("recording-archiver:archive", *["waiting"] * 999)
        work.new_sweep().run(everything=True)
    assert remembered(work) == {day(age * DAY) for age in (3, 4, 5)}


def test_a_list_that_breaks_off_completes_nothing_more(bench: SweepBench) -> None:
    """What Twilio did not list because it failed may be anything."""
    work = bench.make(TWILIO_DELETE="never")
    bench.archived(work, 5 * DAY)
    bench.simulator.inject(ErrorStatus(500), match=Match(endpoint="list"), times=None)
    assert swept(bench, work) == []
    assert remembered(work) == set()


def test_turning_deletion_on_looks_at_every_day(bench: SweepBench) -> None:
    """What was complete while nothing was deleted is left to do now."""
    kept = bench.archived(bench.make(TWILIO_DELETE="never"), 5 * DAY)
    assert swept(bench, bench.make(TWILIO_DELETE="never")) == []
    assert swept(bench, bench.make(TWILIO_DELETE="verified")) == [kept.sid]


def test_a_delay_counts_from_the_beginning_of_a_day(bench: SweepBench) -> None:
    """With a delay a day is complete only until the first of its recordings may be due."""
    delayed = bench.make(TWILIO_DELETE="20d")
    bench.archived(delayed, 5 * DAY)
    bench.archived(delayed, 30 * DAY)  # archived now, but others of its day may have been archived at once
    assert swept(bench, delayed) == []
    assert remembered(delayed) == {day(age * DAY) for age in range(3, 20)}


def test_every_complete_day_is_looked_at_again_after_thirty(bench: SweepBench) -> None:
    """Somebody may have changed either side: what is not complete any more is forgotten, and enqueued."""
    work = bench.make(TWILIO_DELETE="never")
    lost, other = bench.archived(work, 30 * DAY), bench.archived(work, 31 * DAY)
    assert swept(bench, work) == []
    for recording in (lost, other):
        work.archive.remove(bench.filing(recording).receipt)
    assert swept(bench, work) == [lost.sid]
    assert day(30 * DAY) not in remembered(work)
    assert day(31 * DAY) in remembered(work)
