"""`archiver show` against the real S3 server and the simulator."""

import json
import secrets
from collections.abc import Callable

import pytest

from deploy.local.twilio import Account, ErrorStatus, OtherAudio, SimRecording, Simulator
from tests.integration.command_line import CommandLine, on_terminal
from tests.integration.workbench import Workbench
from workers.transcriptions import keep_texts, list_texts

NOBODY = "RE" + "0" * 32


@pytest.fixture
def bench(workbench: Workbench, archiver: CommandLine) -> Workbench:
    archiver.use(workbench)
    return workbench


@pytest.fixture
def locked(make_workbench: Callable[..., Workbench], archiver: CommandLine) -> Workbench:
    """Return a workbench whose media is kept for a year."""
    bench = make_workbench(object_lock=True).under(ARCHIVE_OBJECT_LOCK_MODE="GOVERNANCE", ARCHIVE_RETENTION_DAYS="365")
    archiver.use(bench)
    return bench


def gone(bench: Workbench, **call: object) -> SimRecording:
    """Let a recording be archived and deleted at Twilio."""
    recording = bench.record(**call)
    bench.archived(recording)
    bench.delete(recording)
    return recording


def test_an_archived_recording_is_shown_whole(locked: Workbench, archiver: CommandLine) -> None:
    """The JSON has every document, what S3 says now, the verification of this moment and Twilio's last word."""
    recording = gone(locked)
    ran = archiver("show", recording.sid, "--json")
    assert (ran.code, ran.err) == (0, "")
    (shown,) = ran.json["recordings"]
    assert shown["receipt"] == locked.bucket.document("receipts", recording)
    assert shown["deletion"]["answer"] == {"status": 204, "by_archiver": True}
    assert shown["deletion_request"]["checks"]["legal_hold"] is False
    assert (shown["absence"], shown["quarantine"], shown["transcriptions"], shown["hold"]) == (None, None, None, None)
    media, receipt = shown["media"], shown["receipt"]
    assert (media["verified"], media["problem"], media["legal_hold"]) == (True, None, False)
    assert (media["key"], media["version_id"]) == (receipt["media"]["key"], receipt["media"]["version_id"])
    assert media["checksum_sha256"] == receipt["verification"]["checksum"]
    assert (media["object_lock_mode"], media["retain_until"]) == ("GOVERNANCE", receipt["storage"]["retain_until"])
    assert (shown["twilio"]["status"], shown["twilio"]["resource"]["sid"]) == ("deleted", recording.sid)


def test_people_read_the_same_in_words(locked: Workbench, archiver: CommandLine) -> None:
    """Without a terminal each fact is a line, nothing is folded, and nothing is a control character."""
    recording = gone(locked)
    ran = archiver("show", recording.sid)
    assert ran.code == 0
    assert f"{recording.sid} archived and verified · gone from Twilio" in ran.out
    assert locked.filing(recording).media("wav") in ran.out
    assert "GOVERNANCE until" in ran.out
    assert all(character.isprintable() or character == "\n" for character in ran.out)


@pytest.mark.parametrize("columns", [84, 132])
def test_a_terminal_is_not_overrun(bench: Workbench, columns: int) -> None:
    """On a terminal the panel is as wide as it is, and the whole key can be read from its folded lines."""
    recording = gone(bench)
    code, shown = on_terminal("show", recording.sid, columns=columns)
    lines = [plain_text(line) for line in shown.splitlines()]
    assert code == 0
    assert max(map(len, lines)) == columns
    assert bench.filing(recording).media("wav") in "".join(lines).replace("│", "").replace(" ", "")


def plain_text(line: str) -> str:
    """Leave colours out."""
    return "".join(part.partition("m")[2] if number else part for number, part in enumerate(line.split("\x1b[")))


def test_a_recording_that_was_not_archived(bench: Workbench, archiver: CommandLine) -> None:
    """What only Twilio knows is shown as not archived."""
    recording = bench.record()
    shown = archiver("show", recording.sid)
    assert (shown.code, shown.out.splitlines()[0]) == (0, f"{recording.sid} not archived · completed at Twilio")


def test_a_recording_that_was_deleted_too_early(bench: Workbench, archiver: CommandLine) -> None:
    """The worst case is said in plain words: its resource is soft-deleted and there is no receipt."""
    recording = bench.record()
    bench.simulator.delete(recording)
    assert "deleted at Twilio before it was archived" in archiver("show", recording.sid).out


def test_media_that_waits_for_its_receipt(bench: Workbench, archiver: CommandLine) -> None:
    """Between store and receipt the object is shown, and nothing is claimed of it."""
    recording = bench.record()
    bench.overwrite(bench.filing(recording).media("wav"), b"half done")
    ran = archiver("show", recording.sid, "--json")
    assert ran.code == 0
    media = ran.json["recordings"][0]["media"]
    assert (media["exists"], media["verified"], media["bytes"]) == (True, None, 9)


def test_an_absence_is_shown_with_its_reason(bench: Workbench, archiver: CommandLine) -> None:
    """A silent recording is found through Twilio, as absences have no index."""
    recording = bench.record(status="absent", error_code=16102)
    assert archiver("archive", recording.sid).code == 0
    ran = archiver("show", recording.sid)
    assert ran.out.splitlines()[0] == f"{recording.sid} no audio"
    assert "the recording was silent" in ran.out


def test_an_absence_that_twilio_has_forgotten(bench: Workbench, archiver: CommandLine) -> None:
    """One filed without a day is found, too."""
    key = f"absences/account={bench.account.sid}/day=undated/{NOBODY}.json"
    bench.overwrite(key, json.dumps({"schema": "recording-absence/1", "reason": "absent"}).encode())
    ran = archiver("show", NOBODY, "--json")
    assert ran.code == 0
    (shown,) = ran.json["recordings"]
    assert (shown["day"], shown["absence"]["key"], shown["twilio"]["status"]) == (None, key, None)


def test_a_quarantined_recording_says_why(bench: Workbench, archiver: CommandLine) -> None:
    """The failures are listed."""
    recording = bench.record()
    bench.simulator.inject(OtherAudio(channels=1), recording_sid=recording.sid, times=None)
    assert archiver("archive", recording.sid).code == 1
    ran = archiver("show", recording.sid)
    assert ran.out.startswith(f"{recording.sid} in quarantine")
    assert "channels_differ" in ran.out


def test_transcriptions_are_counted_and_not_quoted(bench: Workbench, archiver: CommandLine) -> None:
    """What was said in a call appears neither in the text nor in the JSON."""
    recording = bench.record()
    bench.simulator.add_transcription(recording, text="the card number is planted")
    bench.archived(recording)
    filing = bench.filing(recording)
    keep_texts(bench.archive, filing, list_texts(bench.twilio, filing))
    for options in ([], ["--json"]):
        assert "planted" not in archiver("show", recording.sid, *options).out
    (shown,) = archiver("show", recording.sid, "--json").json["recordings"]
    assert (shown["transcriptions"]["transcriptions"], shown["transcriptions"]["add_on_results"]) == (1, 0)


@pytest.mark.parametrize("kind", ["call", "conference"])
def test_all_recordings_of_a_call(bench: Workbench, archiver: CommandLine, kind: str) -> None:
    """A call or conference leads to its archived recordings by the index, and to the others by Twilio's list."""
    parent = {"call_sid": "CA" + secrets.token_hex(16)} if kind == "call" else {"conference_sid": "CF" + "7" * 32}
    archived, other = gone(bench, kind=kind, **parent), bench.record(kind=kind, **parent)
    bench.record(kind=kind)
    ran = archiver("show", f"--{kind}", *parent.values(), "--json")
    assert ran.code == 0
    receipts = {shown["recording_sid"]: shown["receipt"] is not None for shown in ran.json["recordings"]}
    assert receipts == {archived.sid: True, other.sid: False}


def test_every_account_is_looked_at(archiver: CommandLine, make_workbench: Callable[..., Workbench]) -> None:
    """A recording of another configured account is found, unless one account is asked for."""
    other = Account()
    bench = make_workbench()
    with Simulator(accounts=[bench.account, other]) as simulator:
        archiver.use(Workbench(simulator, bench.proxy, bench.bucket))
        recording = simulator.record(other.sid, "call", 2.0)
        assert archiver("archive", recording.sid, "--account", other.sid).code == 0
        assert archiver("show", recording.sid, "--json").json["recordings"][0]["account_sid"] == other.sid
        ran = archiver("show", recording.sid, "--account", bench.account.sid)
        assert (ran.code, ran.out) == (1, "")


def test_a_receipt_that_disagrees(bench: Workbench, archiver: CommandLine) -> None:
    """When receipt and object differ, the exit code says so and the text says in what."""
    recording = bench.record()
    bench.archived(recording)
    bench.tamper(bench.filing(recording).receipt, "media.bytes", 1)
    ran = archiver("show", recording.sid)
    assert ran.code == 4
    assert "the archive does NOT verify" in ran.out
    assert "archive_differs: the object under the archive key has another size" in ran.out


def test_media_that_is_gone(bench: Workbench, archiver: CommandLine) -> None:
    """A receipt without its object is a discrepancy."""
    recording = bench.record()
    media = bench.archived(recording).media
    bench.bucket.client.delete_object(Bucket=media.bucket, Key=media.key, VersionId=media.version_id or "")
    ran = archiver("show", recording.sid, "--json")
    assert ran.code == 4
    shown = ran.json["recordings"][0]["media"]
    assert (shown["exists"], shown["verified"]) == (False, False)


@pytest.mark.parametrize("collection", ["receipt", "deletion", "quarantine"])
def test_a_document_that_cannot_be_read(bench: Workbench, archiver: CommandLine, collection: str) -> None:
    """Junk under a document's key is named, and is a discrepancy."""
    recording = bench.record()
    bench.archived(recording)
    bench.overwrite(getattr(bench.filing(recording), collection), b"[junk")
    ran = archiver("show", recording.sid)
    assert ran.code == 4
    assert "the document can't be read" in ran.out


def test_nothing_in_the_bucket_reaches_the_terminal_raw(bench: Workbench, archiver: CommandLine) -> None:
    """Control characters and markup in a document are shown as what they are."""
    recording = bench.record()
    written = {"attempts": 1, "failures": [{"reason": "\x1b]0;title\x07[bold]", "detail": "\x9b31m"}]}
    bench.overwrite(bench.filing(recording).quarantine, json.dumps(written).encode())
    out = archiver("show", recording.sid).out
    assert "\ufffd]0;title\ufffd[bold]" in out
    assert all(character.isprintable() or character == "\n" for character in out)


def test_twilio_away(bench: Workbench, archiver: CommandLine) -> None:
    """What S3 holds is shown nevertheless, and the exit code says that it is not everything."""
    recording = gone(bench)
    bench.simulator.inject(ErrorStatus(500), recording_sid=recording.sid, times=None)
    ran = archiver("show", recording.sid)
    assert ran.code == 1
    assert f"{recording.sid} archived and verified · gone from Twilio" in ran.out
    assert "twilio_failed: Twilio answered 500" in ran.out


def test_an_unknown_recording(bench: Workbench, archiver: CommandLine) -> None:
    """What nobody knows is said in one line; the others are shown."""
    ran = archiver("show", NOBODY)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"{NOBODY}: not_found: neither the archive nor Twilio knows of {NOBODY} in these accounts\n"
    recording = bench.record()
    assert archiver("show", NOBODY, recording.sid).code == 3


@pytest.mark.parametrize(
    "arguments",
    [[], ["RE123"], ["CA" + "0" * 32], ["--call", NOBODY], ["--account", "AC12", NOBODY], ["../" + NOBODY]],
)
def test_wrong_usage_sends_nothing(bench: Workbench, archiver: CommandLine, arguments: list[str]) -> None:
    """What is not a SID is refused before Twilio or S3 hear of it."""
    ran = archiver("show", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Error: " in ran.err
    assert "Traceback" not in ran.err
    assert (bench.simulator.timeline, bench.requests()) == ([], [])


def test_settings_are_asked_for(bench: Workbench, archiver: CommandLine) -> None:
    """A missing bucket is a fault of configuration, with the mend."""
    archiver.set(ARCHIVE_BUCKET=None)
    ran = archiver("show", NOBODY)
    assert ran.code == 5
    assert "ARCHIVE_BUCKET: is missing; set it to" in ran.err
