"""`archiver fetch` against the real S3 server and the simulator."""

import os
import secrets
import shlex
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.s3_proxy import Cut, FlipBit, Headers
from deploy.local.twilio import SimRecording
from tests.integration.command_line import ENTRY, CommandLine, Ran, on_terminal
from tests.integration.workbench import Workbench

RESTORE = '{"Days":7,"GlacierJobParameters":{"Tier":"Standard"}}'


@pytest.fixture
def bench(workbench: Workbench, archiver: CommandLine) -> Workbench:
    archiver.use(workbench)
    return workbench


@pytest.fixture
def cold(make_workbench: Callable[..., Workbench], archiver: CommandLine) -> Workbench:
    """Return a workbench that archives straight into an archive tier."""
    bench = make_workbench().under(ARCHIVE_STORAGE_CLASS="DEEP_ARCHIVE")
    archiver.use(bench)
    return bench


def archived(bench: Workbench, **call: object) -> SimRecording:
    recording = bench.record(**call)
    bench.archived(recording)
    return recording


def encrypted(bench: Workbench, passphrase: bytes | None = None) -> SimRecording:
    """Archive an encrypted recording, and write the private key to `key.pem`."""
    Path("key.pem").write_bytes(bench.account.private_key_pem(passphrase))
    return archived(bench, encrypted=True)


def refused(ran: Ran, reason: str, *left: str) -> None:
    """Assert that a command failed in one line and left nothing but these files."""
    assert (ran.code, ran.data) == (1, b"")
    assert reason in ran.err
    assert ran.err.count("\n") == 1
    assert sorted(os.listdir()) == sorted(left)


def test_a_recording_comes_back_as_it_was_served(bench: Workbench, archiver: CommandLine) -> None:
    """The file has the served bytes, only its owner can read it, and its path is the only data."""
    recording = archived(bench)
    ran = archiver("fetch", recording.sid, "-o", "call.wav")
    assert (ran.code, ran.out, ran.err) == (0, "call.wav\n", "")
    assert Path("call.wav").read_bytes() == bench.simulator.media_bytes(recording.sid, 2)
    assert stat.S_IMODE(Path("call.wav").stat().st_mode) == 0o600
    assert os.listdir() == ["call.wav"]


def test_twilio_is_not_asked(bench: Workbench, archiver: CommandLine) -> None:
    """The archive alone is enough: what is archived comes back when Twilio is no more."""
    recording = archived(bench)
    bench.simulator.stop()
    assert archiver("fetch", recording.sid).code == 0
    assert os.listdir() == [f"{recording.sid}.wav"]


def test_the_receipts_version_is_fetched(bench: Workbench, archiver: CommandLine) -> None:
    """What was put over the object later is not what the receipt proves."""
    recording = archived(bench)
    bench.overwrite(bench.filing(recording).media("wav"), b"planted")
    assert archiver("fetch", recording.sid).code == 0
    assert Path(f"{recording.sid}.wav").read_bytes() == bench.simulator.media_bytes(recording.sid, 2)


def test_mp3_keeps_its_name(bench: Workbench, archiver: CommandLine) -> None:
    """The extension is that of the archived format."""
    recording = bench.record()
    bench.under(ARCHIVE_FORMAT="mp3").archived(recording)
    assert archiver("fetch", recording.sid).out == f"{recording.sid}.mp3\n"


def test_all_recordings_of_a_call(bench: Workbench, archiver: CommandLine) -> None:
    """A call's recordings come into a directory, which is made; JSON says what each is."""
    call_sid = "CA" + secrets.token_hex(16)
    recordings = [archived(bench, call_sid=call_sid) for _ in range(2)]
    ran = archiver("fetch", "--call", call_sid, "-o", "to/calls", "--json")
    assert ran.code == 0
    fetched = {each["recording_sid"]: each for each in ran.json["fetched"]}
    for recording in recordings:
        path = Path("to/calls") / f"{recording.sid}.wav"
        assert path.read_bytes() == bench.simulator.media_bytes(recording.sid, 2)
        assert fetched[recording.sid]["path"] == str(path)
        assert fetched[recording.sid]["sha256"] == bench.simulator.media_sha256(recording.sid, 2)


def test_some_of_several_fail(bench: Workbench, archiver: CommandLine) -> None:
    """The others come nevertheless, and the exit code says that not all did."""
    good, missing = archived(bench), bench.record()
    ran = archiver("fetch", missing.sid, good.sid)
    assert (ran.code, ran.out) == (3, f"{good.sid}.wav\n")
    assert ran.err == f"{missing.sid}: not_archived: there is no receipt; `archiver show` says what is known\n"


# Into a pipe


def test_standard_output_gets_verified_bytes(bench: Workbench, archiver: CommandLine) -> None:
    """With -o - the audio is the only output, and no file is left."""
    recording = archived(bench)
    ran = archiver("fetch", recording.sid, "-o", "-")
    assert (ran.code, ran.err, ran.data) == (0, "", bench.simulator.media_bytes(recording.sid, 2))
    assert os.listdir() == []


def test_standard_output_gets_nothing_unverified(bench: Workbench, archiver: CommandLine) -> None:
    """Not a byte is written before all were verified."""
    recording = archived(bench)
    bench.tamper(bench.filing(recording).receipt, "media.sha256", "0" * 64)
    refused(archiver("fetch", recording.sid, "-o", "-"), "archive_differs")


def test_a_pipe_that_closes_early(bench: Workbench) -> None:
    """Who stops reading gets no traceback."""
    recording = archived(bench, seconds=60.0)
    with subprocess.Popen(
        [ENTRY, "fetch", recording.sid, "-o", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == b"RIFF"
        process.stdout.close()
        assert process.stderr.read() == b"archiver: not_written: Broken pipe\n"
    assert process.returncode == 1


def test_audio_is_not_written_to_a_terminal(bench: Workbench) -> None:
    """A terminal is not a place for audio."""
    code, shown = on_terminal("fetch", archived(bench).sid, "-o", "-")
    assert code == 2
    assert "audio is not written to a terminal" in shown


@pytest.mark.parametrize("arguments", [["--json"], ["RE" + "1" * 32]])
def test_standard_output_takes_one_recording(archiver: CommandLine, bench: Workbench, arguments: list[str]) -> None:
    """Several recordings or JSON beside the audio are refused at once."""
    assert archiver("fetch", "RE" + "0" * 32, "-o", "-", *arguments).code == 2


# Encrypted recordings


def test_an_encrypted_recording_is_decrypted(bench: Workbench, archiver: CommandLine) -> None:
    """With the private key the plaintext is written."""
    recording = encrypted(bench)
    ran = archiver("fetch", recording.sid, "--private-key", "key.pem", "-o", "call.wav", "--json")
    assert ran.code == 0
    assert ran.json["fetched"][0]["decrypted"] is True
    assert Path("call.wav").read_bytes() == recording.audio(2).read()


def test_an_encrypted_recording_needs_its_key(bench: Workbench, archiver: CommandLine) -> None:
    """Without a key nothing is written, and the public key is named whose private key is needed."""
    recording = encrypted(bench)
    refused(archiver("fetch", recording.sid), bench.account.public_key_sid, "key.pem")


def test_an_encrypted_recording_as_it_is_stored(bench: Workbench, archiver: CommandLine) -> None:
    """The ciphertext can be had, under a name that says so."""
    recording = encrypted(bench)
    assert archiver("fetch", recording.sid, "--as-stored").out == f"{recording.sid}.wav.encrypted\n"
    assert Path(f"{recording.sid}.wav.encrypted").read_bytes() == bench.simulator.media_bytes(recording.sid)


def test_a_wrong_key_leaves_nothing(bench: Workbench, archiver: CommandLine) -> None:
    """A key of another account does not open it."""
    recording = encrypted(bench)
    other = type(bench.account)()
    Path("key.pem").write_bytes(other.private_key_pem())
    refused(archiver("fetch", recording.sid, "--private-key", "key.pem"), "wrong_key", "key.pem")


def test_ciphertext_of_other_bytes_leaves_nothing(bench: Workbench, archiver: CommandLine) -> None:
    """Authentic ciphertext is not enough: it must be what the receipt proves."""
    recording = encrypted(bench)
    bench.tamper(bench.filing(recording).receipt, "media.sha256", "0" * 64)
    refused(archiver("fetch", recording.sid, "--private-key", "key.pem"), "archive_differs", "key.pem")


@pytest.mark.parametrize("given", ["option", "environment", "file in the environment"])
def test_a_passphrase_is_given(bench: Workbench, archiver: CommandLine, given: str) -> None:
    """The passphrase comes from a file or the environment, and is never printed."""
    recording = encrypted(bench, b"planted secret")
    Path("passphrase").write_text("planted secret\n")
    options = ["--passphrase-file", "passphrase"] if given == "option" else []
    if given == "environment":
        archiver.set(PRIVATE_KEY_PASSPHRASE="planted secret")
    if given == "file in the environment":
        archiver.set(PRIVATE_KEY_PASSPHRASE_FILE="passphrase")
    ran = archiver("fetch", recording.sid, "--private-key", "key.pem", *options)
    assert ran.code == 0
    assert "planted" not in ran.out + ran.err


def test_without_a_terminal_nobody_is_asked(bench: Workbench, archiver: CommandLine) -> None:
    """A missing passphrase is an error where there is nobody to type it."""
    recording = encrypted(bench, b"planted secret")
    ran = archiver("fetch", recording.sid, "--private-key", "key.pem")
    assert (ran.code, ran.err) == (
        1,
        "archiver: passphrase_missing: the private key is encrypted; give its passphrase\n",
    )


def test_on_a_terminal_the_passphrase_is_asked_for(bench: Workbench) -> None:
    """It is typed without being shown."""
    recording = encrypted(bench, b"planted secret")
    code, shown = on_terminal(
        "fetch", recording.sid, "--private-key", "key.pem", typed="planted secret", awaiting="private key:"
    )
    assert code == 0, shown
    assert "planted" not in shown
    assert Path(f"{recording.sid}.wav").read_bytes() == recording.audio(2).read()


# What must not happen


@pytest.mark.parametrize("field", ["media.sha256", "media.bytes"])
def test_other_bytes_than_the_receipts(bench: Workbench, archiver: CommandLine, field: str) -> None:
    """When digest or size differ, nothing gets the name."""
    recording = archived(bench)
    bench.tamper(bench.filing(recording).receipt, field, 1 if field == "media.bytes" else "0" * 64)
    refused(archiver("fetch", recording.sid), "archive_differs")


def test_bytes_damaged_on_the_way(bench: Workbench, archiver: CommandLine) -> None:
    """A bit that flips between S3 and here is noticed."""
    recording = archived(bench)
    bench.proxy.inject(FlipBit(at=0.5), key_contains=f"{recording.sid}.wav", times=None)
    refused(archiver("fetch", recording.sid), f"{recording.sid}: ")


def test_a_broken_connection(bench: Workbench, archiver: CommandLine) -> None:
    """Half of a recording is nothing."""
    recording = archived(bench)
    bench.proxy.inject(Cut(at=0.5), key_contains=f"{recording.sid}.wav", times=None)
    refused(archiver("fetch", recording.sid), "s3_unreachable")


def test_a_receipt_of_another_recording(bench: Workbench, archiver: CommandLine) -> None:
    """A receipt that was copied over another one does not pass."""
    recording, other = archived(bench), archived(bench)
    receipt = bench.bucket.body(bench.filing(other).receipt)
    bench.overwrite(bench.filing(recording).receipt, receipt or b"")
    refused(archiver("fetch", recording.sid), "receipt_of_another_recording")


def test_media_that_is_gone(bench: Workbench, archiver: CommandLine) -> None:
    """A receipt without its object is said so."""
    recording = bench.record()
    media = bench.archived(recording).media
    bench.bucket.client.delete_object(Bucket=media.bucket, Key=media.key, VersionId=media.version_id or "")
    refused(archiver("fetch", recording.sid), "archive_missing")


def test_an_existing_file_is_kept(bench: Workbench, archiver: CommandLine) -> None:
    """A file is overwritten only when that is asked for."""
    recording = archived(bench)
    Path("call.wav").write_bytes(b"mine")
    refused(archiver("fetch", recording.sid, "-o", "call.wav"), "destination_exists", "call.wav")
    assert Path("call.wav").read_bytes() == b"mine"
    assert archiver("fetch", recording.sid, "-o", "call.wav", "--force").code == 0
    assert Path("call.wav").read_bytes() == bench.simulator.media_bytes(recording.sid, 2)


def test_a_directory_that_is_not_there(bench: Workbench, archiver: CommandLine) -> None:
    """What the system refuses is said in a line."""
    recording = archived(bench)
    refused(archiver("fetch", recording.sid, "-o", "no/call.wav"), "not_written: No such file or directory")


def test_a_dry_run_writes_nothing(bench: Workbench, archiver: CommandLine) -> None:
    """It says what would be written where."""
    recording = archived(bench)
    ran = archiver("fetch", recording.sid, "--dry-run")
    assert (ran.code, ran.out, os.listdir()) == (0, "", [])
    assert ran.err == f"would write 64,044 bytes of {recording.sid} to {recording.sid}.wav\n"


def test_a_dry_run_makes_no_directory(bench: Workbench, archiver: CommandLine) -> None:
    """The directory that would be made is named."""
    first, second = archived(bench), archived(bench)
    ran = archiver("fetch", first.sid, second.sid, "-o", "calls", "--dry-run")
    assert (ran.code, os.listdir()) == (0, [])
    assert ran.err.count(" to calls/RE") == 2


# Archive tiers


def test_the_restore_command_is_printed(cold: Workbench, archiver: CommandLine) -> None:
    """An object in an archive tier needs a command, which is given ready to be typed."""
    archiver.set(ARCHIVE_BUCKET_OWNER="123456789012")
    recording = cold.record()
    media = cold.archived(recording).media
    ran = archiver("fetch", recording.sid)
    assert (ran.code, ran.out, os.listdir()) == (1, "", [])
    _, command = ran.err.splitlines()
    assert shlex.split(command) == [
        *("aws", "s3api", "restore-object", "--bucket", cold.bucket.name, "--key", media.key),
        *("--version-id", media.version_id, "--expected-bucket-owner", "123456789012", "--restore-request", RESTORE),
    ]


def test_a_restore_that_is_under_way(cold: Workbench, archiver: CommandLine) -> None:
    """Who has asked S3 already is told to wait."""
    recording = archived(cold)
    under_way = Headers({"x-amz-restore": 'ongoing-request="true"'})
    cold.proxy.inject(under_way, "HeadObject", key_contains=recording.sid, times=None)
    refused(archiver("fetch", recording.sid), "S3 is restoring it")


def test_intelligent_tiering_takes_no_days(cold: Workbench, archiver: CommandLine) -> None:
    """There a restore is for good, and a number of days would be refused."""
    recording = archived(cold)
    tier = Headers({"x-amz-storage-class": "INTELLIGENT_TIERING"})
    cold.proxy.inject(tier, "HeadObject", key_contains=recording.sid, times=None)
    assert '{"GlacierJobParameters":{"Tier":"Standard"}}' in archiver("fetch", recording.sid).err
