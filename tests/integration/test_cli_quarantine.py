"""`archiver quarantine` against the real S3 server and the simulator."""

from collections.abc import Callable

import pytest

from deploy.local.twilio import Account, Injection, OtherAudio, SimRecording, Simulator
from tests.integration.command_line import CommandLine
from tests.integration.workbench import NOWHERE, Workbench


@pytest.fixture
def bench(workbench: Workbench, archiver: CommandLine) -> Workbench:
    """Return a workbench where a recording rests after its second failure."""
    bench = workbench.under(QUARANTINE_AFTER="2")
    archiver.use(bench)
    return bench


@pytest.fixture
def fail(bench: Workbench, archiver: CommandLine) -> Callable[[int], tuple[SimRecording, Injection]]:
    """Return what lets a recording fail so often; Twilio serves other audio until the injection is removed."""

    def run(times: int) -> tuple[SimRecording, Injection]:
        recording = bench.record()
        wrong = bench.simulator.inject(OtherAudio(channels=1), recording_sid=recording.sid, times=None)
        for _ in range(times):
            assert archiver("archive", recording.sid).code == 1
        return recording, wrong

    return run


Fail = Callable[[int], tuple[SimRecording, Injection]]


def test_nothing_is_in_quarantine(bench: Workbench, archiver: CommandLine) -> None:
    """An empty quarantine is said on standard error, and is an empty list."""
    ran = archiver("quarantine", "list")
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing is in quarantine\n")
    assert archiver("quarantine", "list", "--json").json == {"quarantined": []}


def test_what_is_in_quarantine_is_listed(archiver: CommandLine, fail: Fail) -> None:
    """Attempts, the first failure, the reasons, and whether a person is needed."""
    (once, _), (twice, _) = fail(1), fail(2)
    listed = {each["recording_sid"]: each for each in archiver("quarantine", "list", "--json").json["quarantined"]}
    assert {sid: (each["attempts"], each["needs_person"]) for sid, each in listed.items()} == {
        once.sid: (1, False),
        twice.sid: (2, True),
    }
    assert [each["reason"] for each in listed[twice.sid]["failures"]] == ["channels_differ"] * 2
    assert listed[once.sid]["day"] == str(once.date_created.date())
    ran = archiver("quarantine", "list")
    for recording in (once, twice):
        assert recording.sid in ran.out
    assert "channels_differ: 2 channels were asked for and 1 came" in ran.out
    assert ran.err == "2 in quarantine, 1 of them need a person\n"


def test_one_account_is_listed(bench: Workbench, archiver: CommandLine, fail: Fail) -> None:
    """Another account's quarantine is left out."""
    fail(1)
    assert archiver("quarantine", "list", "--account", Account().sid).err == "nothing is in quarantine\n"
    assert archiver("quarantine", "list", "--account", bench.account.sid).out.count("channels_differ") == 1


def test_a_document_that_cannot_be_read_is_listed(bench: Workbench, archiver: CommandLine) -> None:
    """Junk blocks a deletion, so that it must be seen."""
    recording = bench.record()
    bench.overwrite(bench.filing(recording).quarantine, b"junk")
    assert "quarantine_unreadable" in archiver("quarantine", "list").out


def test_a_retry_does_not_wait_for_the_day(bench: Workbench, archiver: CommandLine, fail: Fail) -> None:
    """What rests is left alone by `archive`, and archived by `quarantine retry`; the receipt says that it failed."""
    recording, wrong = fail(2)
    wrong.remove()
    assert archiver("archive", recording.sid).code == 0
    assert bench.bucket.document("receipts", recording) is None
    ran = archiver("quarantine", "retry", recording.sid)
    assert (ran.code, ran.out) == (0, f"{recording.sid}\n")
    receipt = bench.bucket.document("receipts", recording)
    assert receipt is not None
    assert receipt["quarantine"]["attempts"] == 2
    assert bench.bucket.document("quarantine", recording) is None


def test_a_retry_that_fails_again(bench: Workbench, archiver: CommandLine, fail: Fail) -> None:
    """It counts as an attempt, the reason is said, and the others are retried."""
    (recording, _), (mended, wrong) = fail(2), fail(2)
    wrong.remove()
    ran = archiver("quarantine", "retry", recording.sid, mended.sid, "--json")
    assert (ran.code, ran.json) == (3, {"resolved": [mended.sid]})
    assert f"{recording.sid}: channels_differ: 2 channels were asked for and 1 came\n" in ran.err
    document = bench.bucket.document("quarantine", recording)
    assert document is not None
    assert document["attempts"] == 3
    assert archiver("quarantine", "retry", recording.sid).code == 1


def test_a_retry_without_a_queue(bench: Workbench, archiver: CommandLine, fail: Fail) -> None:
    """The recording is archived although its deletion can't be enqueued."""
    recording, wrong = fail(2)
    wrong.remove()
    archiver.set(REDIS_URL=NOWHERE)
    ran = archiver("quarantine", "retry", recording.sid)
    assert (ran.code, ran.out) == (0, f"{recording.sid}\n")
    assert "the queue did not take its deletion; the sweep will find it" in ran.err


def test_a_retry_that_can_do_nothing(bench: Workbench, archiver: CommandLine, fail: Fail) -> None:
    """A recording that was deleted at Twilio meanwhile stays in quarantine, and that is said."""
    recording, _ = fail(1)
    bench.simulator.delete(recording)
    ran = archiver("quarantine", "retry", recording.sid)
    assert ran.code == 1
    assert "still_quarantined: " in ran.err


def test_only_what_is_in_quarantine_is_retried(bench: Workbench, archiver: CommandLine) -> None:
    """Another recording is not touched."""
    recording = bench.record()
    ran = archiver("quarantine", "retry", recording.sid)
    assert (ran.code, ran.err) == (1, f"{recording.sid}: not_quarantined: it is not in quarantine\n")
    assert bench.bucket.keys(recording) == []


def test_a_dry_run_changes_nothing(bench: Workbench, archiver: CommandLine, fail: Fail) -> None:
    """It only says what would be retried."""
    recording, wrong = fail(2)
    wrong.remove()
    before = bench.bucket.versions(recording)
    ran = archiver("quarantine", "retry", recording.sid, "--dry-run")
    assert (ran.code, ran.err) == (0, f"{recording.sid}: would be archived now, after 2 failures\n")
    assert bench.bucket.versions(recording) == before


def test_the_recordings_own_account_is_used(archiver: CommandLine, make_workbench: Callable[..., Workbench]) -> None:
    """The account is read from the quarantine, not guessed."""
    bench, other = make_workbench(), Account()
    with Simulator(accounts=[Account(), other]) as simulator:
        archiver.use(Workbench(simulator, bench.proxy, bench.bucket))
        recording = simulator.record(other.sid, "call", 2.0)
        wrong = simulator.inject(OtherAudio(channels=1), recording_sid=recording.sid, times=None)
        assert archiver("archive", recording.sid, "--account", other.sid).code == 1
        wrong.remove()
        assert archiver("quarantine", "retry", recording.sid).code == 0


@pytest.mark.parametrize("arguments", [[], ["RE12"], ["--account", "RE" + "0" * 32]])
def test_wrong_usage(bench: Workbench, archiver: CommandLine, arguments: list[str]) -> None:
    """What is not a recording is refused."""
    assert archiver("quarantine", "retry", *arguments).code == 2
