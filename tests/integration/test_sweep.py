"""What one sweep asks of Twilio and S3, and what it enqueues: with real parts, in this process."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from app.queue import KEY_PREFIX
from app.receipt import DELETIONS_PAUSED
from deploy.local.twilio import Account, ErrorStatus, Match
from tests.integration.conftest import MAIN
from tests.integration.sweep_bench import HOUR, QUEUE, SweepBench
from tests.integration.workbench import refusal
from workers.deletion import pause_deletions
from workers.errors import ConfigurationError, ContentError, ForbiddenDeletionError, TemporaryError
from workers.outstanding import Outstanding, Rules
from workers.quarantine import record_failure
from workers.sweep import strangers
from workers.tasks import Work


@pytest.fixture
def bench(bench_of_sweeps: SweepBench) -> SweepBench:
    return bench_of_sweeps


def test_outstanding_recordings_are_enqueued(bench: SweepBench) -> None:
    """A sweep enqueues what is completed or absent and not finished, and leaves alone what is live or fresh."""
    wanted = {bench.record().sid, bench.record(status="absent", error_code=16101, seconds=0.0).sid}
    bench.record(status="processing")
    bench.record(age=timedelta(seconds=2))
    bench.record(age=timedelta(days=9))
    bench.make().new_sweep().run(everything=False)
    assert set(bench.enqueued()) == wanted


def test_everything_is_found_without_a_date_bound(bench: SweepBench) -> None:
    """The daily sweep also finds what is older than SWEEP_LOOKBACK."""
    old = bench.record(age=timedelta(days=400))
    bench.make().new_sweep().run(everything=True)
    assert bench.enqueued() == [old.sid]


def test_a_frequent_sweep_lists_nothing_in_s3(bench: SweepBench) -> None:
    """With deletion on, what is outstanding is known without S3, and an absence that is written is left alone."""
    absent = bench.record(status="absent", error_code=16101, seconds=0.0)
    work = bench.make()
    work.archive_recording({"account_sid": MAIN.sid, "recording_sid": absent.sid})
    outstanding = [bench.record().sid for _ in range(5)]
    work.new_sweep().run(everything=False)
    assert bench.listings() == []
    assert sorted(bench.enqueued()) == sorted(outstanding)


def test_a_written_absence_is_left_alone_without_hints(bench: SweepBench) -> None:
    """The daily sweep compares absences with S3's listing of the day, so that a flushed Redis costs nothing."""
    absent = bench.record(status="absent", error_code=16101, seconds=0.0)
    work = bench.make()
    work.archive_recording({"account_sid": MAIN.sid, "recording_sid": absent.sid})
    bench.redis.flush()
    work.new_sweep().run(everything=True)
    assert bench.enqueued() == []


def test_a_written_absence_that_is_still_in_quarantine_is_not_left_alone(bench: SweepBench) -> None:
    """The document says that nothing failed: the daily sweep brings it back until its quarantine has ended."""
    absent = bench.record(status="absent", error_code=16101, seconds=0.0)
    work = bench.make()
    message = {"account_sid": MAIN.sid, "recording_sid": absent.sid}
    work.archive_recording(message)
    record_failure(work.archive, bench.filing(absent), ContentError("media_cut", "cut"), 5)
    work.new_sweep().run(everything=True)
    assert bench.enqueued() == [absent.sid]
    work.archive_recording(message)
    work.new_sweep().run(everything=True)
    assert bench.enqueued() == []


@pytest.mark.parametrize(
    ("setting", "enqueued_again"), [("never", False), ("24h", False), ("1s", True), ("verified", True)]
)
def test_what_is_archived_waits_for_its_deletion(bench: SweepBench, setting: str, enqueued_again: bool) -> None:
    """An archived recording that is still listed is enqueued again only when its deletion is due."""
    recording = bench.record()
    work = bench.make(TWILIO_DELETE=setting)
    work.archive_recording({"account_sid": MAIN.sid, "recording_sid": recording.sid})
    bench.enqueued()
    later = datetime.now(UTC) + timedelta(seconds=3)
    rules = Rules(later, None, work.settings.SWEEP_GRACE, work.settings.TWILIO_DELETE, everything=False)
    found = Outstanding(work.twilio, work.archive, work.hints, MAIN.sid, rules).recordings()
    assert [each.sid for each in found] == ([recording.sid] if enqueued_again else [])


def test_the_queue_is_never_filled_beyond_its_depth(bench: SweepBench) -> None:
    """What waits already counts: a sweep tops the queue up and leaves the rest to the next one."""
    for _ in range(8):
        bench.record()
    work = bench.make()
    with bench.redis.client(bench.database) as client:
        client.rpush(QUEUE, *["waiting"] * 995)
        work.new_sweep().run(everything=False)
        assert client.llen(QUEUE) == 1000


def test_two_sweeps_do_not_do_the_same_work(bench: SweepBench) -> None:
    """While one sweep holds the lock, another enqueues nothing."""
    bench.record()
    work = bench.make()
    with work.hints.lease("sweep") as free:
        assert free
        assert bench.make().new_sweep().run(everything=False) == 0
    assert bench.make().new_sweep().run(everything=False) == 1


def test_one_account_does_not_keep_another_from_being_swept(bench: SweepBench) -> None:
    """An account whose list fails is left to the next sweep; the others are swept."""
    other = Account(sid="AC" + "d4" * 16, auth_tokens=["other"])
    bench.simulator.store.accounts[other.sid] = other
    accounts = json.dumps([{"account_sid": other.sid, "auth_tokens": ["other"]}])
    bench.record()
    found = bench.simulator.record(other.sid, seconds=2.0, date_created=datetime.now(UTC) - HOUR)
    bench.simulator.inject(ErrorStatus(500), match=Match(endpoint="list", account_sid=MAIN.sid), times=None)
    bench.make(TWILIO_ACCOUNTS=accounts).new_sweep().run(everything=False)
    assert bench.enqueued() == [found.sid]


def test_a_sweep_says_how_many_accounts_it_could_not_read(bench: SweepBench) -> None:
    """Its last line is what a platform's alarm waits for: one that has read nothing must not pass for one."""
    refused = bench.make(TWILIO_AUTH_TOKEN="revoked")
    for work, failed in ((refused, 1), (bench.make(), 0)):
        with structlog.testing.capture_logs() as lines:
            work.new_sweep().run(everything=False)
        (line,) = [line for line in lines if line["event"] == "sweep_finished"]
        assert line["failed"] == failed


def test_a_subaccount_that_nobody_configured_is_found(bench: SweepBench) -> None:
    """Active accounts that the credentials can see and that are not archived are named."""
    stranger = Account(sid="AC" + "e5" * 16, auth_tokens=["x"], parent=MAIN.sid)
    bench.simulator.store.accounts[stranger.sid] = stranger
    work = bench.make()
    assert strangers(work.settings, work.twilio) == [stranger.sid]


# Whose turn it is


@pytest.mark.parametrize("reached", ["9999-12-31T00:00:00Z", "2020-01-01T00:00:00Z"])
@pytest.mark.parametrize("life_s", [None, 60])
def test_a_position_that_no_sweep_has_reached_stops_nothing(
    bench: SweepBench, reached: str, life_s: int | None
) -> None:
    """Whoever can write to Redis can't keep a look at everything from coming to its end, or from what is new."""
    recording = bench.record()
    with bench.redis.client(bench.database) as client:
        client.set(f"{KEY_PREFIX}position:sweep-everything:{MAIN.sid}", reached, ex=life_s)
    bench.make().new_sweep().run()
    assert set(bench.enqueued()) == {recording.sid}
    old = bench.record(age=timedelta(days=400))
    bench.make().new_sweep().run(everything=True)
    assert old.sid in bench.enqueued()


def sweep_with_room_for(bench: SweepBench, work: Work, room: int, everything: bool | None) -> list[str]:
    """Sweep when the queue has room for so many more, and return what was enqueued; nobody works it off."""
    with bench.redis.client(bench.database) as client:
        client.rpush(QUEUE, *["waiting"] * (1000 - room))
        work.new_sweep().run(everything=everything)
        client.lrem(QUEUE, 0, "waiting")
    return bench.enqueued()


@pytest.mark.parametrize("everything", [False, True])
def test_what_fails_again_and_again_starves_nothing(bench: SweepBench, everything: bool) -> None:
    """Though nothing ever gets done and the queue has no room for all, every recording has its turn."""
    wanted = {bench.record(age=HOUR + timedelta(minutes=minute)).sid for minute in range(11)}
    work, seen = bench.make(), set[str]()
    for _ in range(6):
        enqueued = sweep_with_room_for(bench, work, 4, everything)
        assert len(enqueued) <= 4
        seen.update(enqueued)
    assert seen == wanted


def test_the_newest_have_a_turn_every_time(bench: SweepBench) -> None:
    """While a frequent sweep works through a backlog, what has just happened does not wait behind it."""
    for minute in range(9):
        bench.record(age=2 * HOUR + timedelta(minutes=minute))
    work = bench.make()
    for _ in range(3):
        newest = bench.record()
        assert newest.sid in sweep_with_room_for(bench, work, 2, everything=False)


def test_old_recordings_do_not_wait_for_recent_ones(bench: SweepBench) -> None:
    """However much is outstanding of the last days, what is older has half of the room, when it has its day."""
    old = {bench.record(age=timedelta(days=400 + number)).sid for number in range(2)}
    for minute in range(9):
        bench.record(age=HOUR + timedelta(minutes=minute))
    work, seen = bench.make(), set[str]()
    for _ in range(6):
        seen.update(sweep_with_room_for(bench, work, 4, everything=None))
    assert old <= seen


def test_a_look_at_everything_is_over_when_it_came_to_its_end(bench: SweepBench) -> None:
    """What the queue had no room for is not left to another day."""
    old = {bench.record(age=timedelta(days=400 + number)).sid for number in range(5)}
    work = bench.make()
    enqueued = [sweep_with_room_for(bench, work, 2, everything=None) for _ in range(4)]
    assert [len(each) for each in enqueued] == [2, 2, 1, 0]
    assert set().union(*enqueued) == old


def test_one_accounts_backlog_leaves_room_for_another(bench: SweepBench) -> None:
    """The queue is shared out between the accounts, in whatever order they come."""
    other = Account(sid="AC" + "d4" * 16, auth_tokens=["other"])
    bench.simulator.store.accounts[other.sid] = other
    for _ in range(9):
        bench.record()
    found = bench.simulator.record(other.sid, seconds=2.0, date_created=datetime.now(UTC) - HOUR)
    work = bench.make(TWILIO_ACCOUNTS=json.dumps([{"account_sid": other.sid, "auth_tokens": ["other"]}]))
    for _ in range(5):
        enqueued = sweep_with_room_for(bench, work, 4, everything=False)
        assert found.sid in enqueued
        assert len(enqueued) in (3, 4)


def test_an_account_whose_list_fails_is_tried_again_within_hours(bench: SweepBench) -> None:
    """Of a failure it is remembered for an hour only, and what worked is not done again meanwhile."""
    other = Account(sid="AC" + "d4" * 16, auth_tokens=["other"])
    bench.simulator.store.accounts[other.sid] = other
    bench.simulator.inject(ErrorStatus(500), match=Match(endpoint="list", account_sid=MAIN.sid), times=None)
    bench.make(TWILIO_ACCOUNTS=json.dumps([{"account_sid": other.sid, "auth_tokens": ["other"]}])).new_sweep().run()
    with bench.redis.client(bench.database) as client:
        left_s = [client.ttl(f"recording-archiver:chore:sweep-everything:{sid}") for sid in (MAIN.sid, other.sid)]
    assert 3500 < left_s[0] <= 3600
    assert 86_300 < left_s[1] <= 86_400


@pytest.mark.parametrize("key", ["lease:sweep", "lease:sweep-everything", f"chore:sweep-everything:{MAIN.sid}"])
def test_a_planted_key_stops_no_sweep(bench: SweepBench, key: str) -> None:
    """Whoever can write to Redis does not keep recordings from being found for ever."""
    recordings = {bench.record().sid, bench.record(age=timedelta(days=400)).sid}
    with bench.redis.client(bench.database) as client:
        client.set(f"recording-archiver:{key}", "somebody else")
    bench.make().new_sweep().run()
    assert set(bench.enqueued()) == recordings


def test_begun_deletions_leave_room_for_what_twilio_lists(bench: SweepBench) -> None:
    """However many of them Redis remembers, and whoever put them there."""
    work, outstanding = bench.make(SWEEP_GRACE="0s"), bench.record()
    begun = [f"RE{number:032x}" for number in range(300)]
    for sid in begun:
        work.hints.remember_deletion(MAIN.sid, sid)
    work.new_sweep().run(everything=False)
    enqueued = set(bench.enqueued())
    assert outstanding.sid in enqueued
    assert len(enqueued & set(begun)) == 250


# What is left alone


def test_while_deletions_are_paused_what_is_archived_is_left_alone(bench: SweepBench) -> None:
    """It stays in Twilio's list, and would have to be tried in vain at every sweep; afterwards it is deleted."""
    work = bench.make()
    kept = bench.archived(work)
    missing = bench.record()
    pause_deletions(work.archive, "a test")
    work.new_sweep().run(everything=False)
    assert bench.enqueued() == [missing.sid]
    work.archive.remove(DELETIONS_PAUSED)
    work.new_sweep().run(everything=False)
    assert sorted(bench.enqueued()) == sorted([kept.sid, missing.sid])


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("setting", ["verified", "never"])
def test_what_twilio_stored_elsewhere_is_documented_once(bench: SweepBench, setting: str, everything: bool) -> None:
    """It stays completed in Twilio's list for ever, and its document is all that is to be done."""
    work = bench.make(TWILIO_DELETE=setting)
    recording = bench.archived(work, external=True)
    assert work.archive.head(bench.filing(recording).absence)
    work.new_sweep().run(everything=everything)
    assert bench.enqueued() == []


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("setting", ["verified", "never"])
def test_an_absence_that_twilio_takes_back_is_archived(bench: SweepBench, setting: str, everything: bool) -> None:
    """The document of an absence keeps nothing from being archived that Twilio calls completed."""
    work = bench.make(TWILIO_DELETE=setting)
    recording = bench.archived(work, status="absent", error_code=16101)
    recording.status, recording.error_code = "completed", None
    work.new_sweep().run(everything=everything)
    assert bench.enqueued() == [recording.sid]


def test_what_rests_in_quarantine_is_left_to_a_look_at_everything(bench: SweepBench) -> None:
    """When its content failed too often, it is tried once a day and costs frequent sweeps nothing."""
    work = bench.make(QUARANTINE_AFTER="1")
    recording = bench.record()
    record_failure(work.archive, bench.filing(recording), ContentError("media_cut", "cut"), 1)
    for expected in ([recording.sid], []):
        work.new_sweep().run(everything=False)
        assert bench.enqueued() == expected
        work.archive_recording({"account_sid": MAIN.sid, "recording_sid": recording.sid})
    work.new_sweep().run(everything=True)
    assert bench.enqueued() == [recording.sid]


def test_a_deletion_that_was_begun_and_not_ended_is_found(bench: SweepBench) -> None:
    """Twilio no longer lists the recording, and nobody may wait an hour for the message of a worker that has died."""
    work, patient = bench.make(SWEEP_GRACE="0s"), bench.make(SWEEP_GRACE="1h")
    recording = bench.archived(work)
    message = {"account_sid": MAIN.sid, "recording_sid": recording.sid}
    proof = bench.filing(recording).deletion
    bench.simulator.inject(ErrorStatus(500), recording.sid, Match(endpoint="resource"), times=None)
    with pytest.raises(TemporaryError):
        work.delete_source({**message, "day": str(recording.date_created.date())})
    assert (recording.deleted_at is not None, work.archive.head(proof)) == (True, None)
    patient.new_sweep().run(everything=False)
    assert bench.enqueued() == []
    work.new_sweep().run(everything=False)
    assert bench.enqueued() == [recording.sid]
    bench.simulator.clear_faults()
    work.archive_recording(message)
    work.delete_source({**message, "day": str(recording.date_created.date())})
    assert work.archive.head(proof) is not None
    work.new_sweep().run(everything=False)
    assert bench.enqueued() == []


@pytest.mark.parametrize("paused", [False, True])
def test_a_deletion_without_proof_is_found_when_what_forbade_the_proof_is_mended(
    bench: SweepBench, paused: bool
) -> None:
    """The DELETE was answered, and S3 refused the proof; a stop switch in between hides no deletion either."""
    work = bench.make(SWEEP_GRACE="0s")
    recording = bench.archived(work)
    bench.enqueued()
    message = {"account_sid": MAIN.sid, "recording_sid": recording.sid}
    proof = bench.filing(recording).deletion
    refused = bench.proxy.inject(refusal(carried_out=False), "PutObject", key_contains=proof, times=None)
    with pytest.raises(ConfigurationError, match="s3_refused"):
        work.delete_source({**message, "day": str(recording.date_created.date())})
    assert (recording.deleted_at is not None, refused.hits > 0) == (True, True)
    if paused:
        pause_deletions(work.archive, "a test")
        with pytest.raises(ForbiddenDeletionError, match="deletions_paused"):
            work.delete_source({**message, "day": str(recording.date_created.date())})
        work.archive.remove(DELETIONS_PAUSED)
    work.new_sweep().run(everything=False)
    assert bench.enqueued() == [recording.sid]


def test_what_is_held_is_left_to_a_look_at_everything(bench: SweepBench) -> None:
    """A legal hold forbids the deletion for as long as a person wants, and costs frequent sweeps nothing."""
    work = bench.make()
    recording = bench.archived(work)
    work.archive.write_once(bench.filing(recording).hold, b"{}")
    work.new_sweep().run(everything=False)
    assert bench.enqueued() == [recording.sid]
    with pytest.raises(ForbiddenDeletionError, match="legal_hold"):
        work.delete_source(
            {"account_sid": MAIN.sid, "recording_sid": recording.sid, "day": str(recording.date_created.date())}
        )
    work.new_sweep().run(everything=False)
    assert bench.enqueued() == []
    work.new_sweep().run(everything=True)
    assert bench.enqueued() == [recording.sid]
