"""`archiver hold` against a bucket with Object Lock."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from deploy.local.s3_proxy import ErrorStatus, Headers
from deploy.local.twilio import SimRecording
from tests.integration.command_line import CommandLine
from tests.integration.workbench import Workbench
from workers.errors import ForbiddenDeletionError

WHY = "Case 17"


@pytest.fixture
def bench(make_workbench: Callable[..., Workbench], archiver: CommandLine) -> Workbench:
    bench = make_workbench(object_lock=True)
    archiver.use(bench)
    return bench


def archived(bench: Workbench, **call: object) -> SimRecording:
    recording = bench.record(**call)
    bench.archived(recording)
    return recording


def status(bench: Workbench, recording: SimRecording) -> str | None:
    """Return what S3 itself says of the hold of a recording's media."""
    media = bench.filed(recording).receipt.media
    head = bench.bucket.client.head_object(Bucket=media.bucket, Key=media.key, VersionId=media.version_id or "")
    return head.get("ObjectLockLegalHoldStatus")


def document(bench: Workbench, recording: SimRecording) -> Any:
    body = bench.bucket.body(f"control/holds/account={recording.account_sid}/{recording.sid}.json")
    return None if body is None else json.loads(body)


def test_a_hold_is_placed(bench: Workbench, archiver: CommandLine) -> None:
    """S3 holds the version that the receipt names, the reason is in the bucket, and the source is not deleted."""
    recording = archived(bench)
    ran = archiver("hold", "add", recording.sid, "--reason", f" {WHY} ")
    held = document(bench, recording)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{recording.sid} is held since {held['events'][0]['at']}: {WHY}\n"
    assert status(bench, recording) == "ON"
    assert held["version_id"] == bench.filed(recording).receipt.media.version_id
    assert [(event["action"], event["reason"]) for event in held["events"]] == [("placed", WHY)]
    with pytest.raises(ForbiddenDeletionError, match="legal_hold"):
        bench.delete(recording)
    assert "legal hold" in archiver("show", recording.sid).out.splitlines()[0]


def test_a_hold_is_lifted(bench: Workbench, archiver: CommandLine) -> None:
    """S3 lets go, both reasons stay on record, and it may be held again."""
    recording = archived(bench)
    for command, reason in (("add", "first"), ("remove", "second"), ("add", "third")):
        assert archiver("hold", command, recording.sid, "--reason", reason).code == 0
        assert status(bench, recording) == ("OFF" if command == "remove" else "ON")
    events = [(event["action"], event["reason"]) for event in document(bench, recording)["events"]]
    assert events == [("placed", "first"), ("lifted", "second"), ("placed", "third")]


def test_a_hold_keeps_its_reason(bench: Workbench, archiver: CommandLine) -> None:
    """What is held already is held for its first reason, and is said to be."""
    recording = archived(bench)
    for reason in (WHY, "another"):
        ran = archiver("hold", "add", recording.sid, "--reason", reason, "--json")
        assert ran.json["holds"][0]["held"] is True
    assert [event["reason"] for event in document(bench, recording)["events"]] == [WHY]


def test_all_recordings_of_a_call_are_held(bench: Workbench, archiver: CommandLine) -> None:
    """A call's recordings are held together; one that is not archived can't be, and is named."""
    call_sid = "CA" + "4" * 32
    first, second = archived(bench, call_sid=call_sid), archived(bench, call_sid=call_sid)
    waiting = bench.record(call_sid=call_sid)
    ran = archiver("hold", "add", "--call", call_sid, "--reason", WHY)
    assert ran.code == 3
    assert ran.err.startswith(f"{waiting.sid}: not_archived: ")
    assert [status(bench, recording) for recording in (first, second)] == ["ON", "ON"]
    assert document(bench, waiting) is None


def test_holds_are_listed(bench: Workbench, archiver: CommandLine) -> None:
    """What is held now is listed with its reason; what was lifted is not."""
    held, lifted = archived(bench), archived(bench)
    assert archiver("hold", "list").err == "nothing is held\n"
    assert archiver("hold", "add", held.sid, lifted.sid, "--reason", WHY).code == 0
    assert archiver("hold", "remove", lifted.sid, "--reason", "over").code == 0
    ran = archiver("hold", "list")
    assert ran.code == 0
    _, line = ran.out.splitlines()
    assert line.split()[0] == held.sid
    assert WHY in line
    (listed,) = archiver("hold", "list", held.sid, lifted.sid, "--json").json["holds"]
    assert (listed["recording_sid"], listed["held"]) == (held.sid, True)


def test_a_hold_that_somebody_else_lifted(bench: Workbench, archiver: CommandLine) -> None:
    """When S3 does not hold what should be held, the list says so with exit code 4, and `add` mends it."""
    recording = archived(bench)
    archiver("hold", "add", recording.sid, "--reason", WHY)
    media = bench.filed(recording).receipt.media
    bench.bucket.client.put_object_legal_hold(Bucket=media.bucket, Key=media.key, LegalHold={"Status": "OFF"})
    ran = archiver("hold", "list")
    assert ran.code == 4
    assert "NOT held" in ran.out
    assert archiver("hold", "add", recording.sid, "--reason", WHY).code == 0
    assert archiver("hold", "list").code == 0


def test_a_hold_that_somebody_else_placed(bench: Workbench, archiver: CommandLine) -> None:
    """One that was placed without a reason can be lifted with one."""
    recording = archived(bench)
    media = bench.filed(recording).receipt.media
    bench.bucket.client.put_object_legal_hold(Bucket=media.bucket, Key=media.key, LegalHold={"Status": "ON"})
    assert archiver("hold", "remove", recording.sid, "--reason", WHY).code == 0
    assert status(bench, recording) == "OFF"
    assert [event["action"] for event in document(bench, recording)["events"]] == ["lifted"]


def test_the_reason_is_there_before_the_hold(bench: Workbench, archiver: CommandLine) -> None:
    """When S3 refuses to hold, the reason waits for the next try; when it refuses to let go, nothing says it did."""
    recording = archived(bench)
    refusal = bench.proxy.inject(ErrorStatus(403), "PutObjectLegalHold", times=None)
    assert archiver("hold", "add", recording.sid, "--reason", WHY).code == 5
    assert (status(bench, recording), len(document(bench, recording)["events"])) == (None, 1)
    refusal.remove()
    assert archiver("hold", "add", recording.sid, "--reason", WHY).code == 0
    bench.proxy.inject(ErrorStatus(403), "PutObjectLegalHold", times=None)
    assert archiver("hold", "remove", recording.sid, "--reason", "over").code == 5
    assert (status(bench, recording), len(document(bench, recording)["events"])) == ("ON", 1)


def test_a_hold_that_cannot_be_seen(bench: Workbench, archiver: CommandLine) -> None:
    """Without the permission to see holds a deletion would not see them either: the permission is asked for."""
    recording = archived(bench)
    bench.proxy.inject(Headers({"x-amz-object-lock-legal-hold": None}), "HeadObject", times=None)
    ran = archiver("hold", "add", recording.sid, "--reason", WHY)
    assert ran.code == 5
    assert "grant s3:GetObjectLegalHold" in ran.err


def test_what_is_not_held_is_not_lifted(bench: Workbench, archiver: CommandLine) -> None:
    """Nothing is written for it."""
    recording = archived(bench)
    ran = archiver("hold", "remove", recording.sid, "--reason", WHY)
    assert (ran.code, ran.err) == (1, f"{recording.sid}: not_held: the recording is not under a legal hold\n")
    assert document(bench, recording) is None


def test_a_bucket_without_object_lock(workbench: Workbench, archiver: CommandLine) -> None:
    """The mend is named, and nothing is written."""
    archiver.use(workbench)
    recording = archived(workbench)
    ran = archiver("hold", "add", recording.sid, "--reason", WHY)
    assert (ran.code, ran.out, ran.err.count("\n")) == (5, "", 1)
    assert f"put-object-lock-configuration --bucket {workbench.bucket.name}" in ran.err
    assert document(workbench, recording) is None


@pytest.mark.parametrize("command", ["add", "remove"])
def test_a_dry_run_changes_nothing(bench: Workbench, archiver: CommandLine, command: str) -> None:
    """It only says what would be done."""
    recording = archived(bench)
    ran = archiver("hold", command, recording.sid, "--reason", WHY, "--dry-run")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith(f"{recording.sid}: would be ")
    assert (status(bench, recording), document(bench, recording)) == (None, None)


@pytest.mark.parametrize("arguments", [[], ["--reason", ""], ["--reason", "two\nlines"], ["--reason", "x" * 501]])
def test_a_reason_is_asked_for(bench: Workbench, archiver: CommandLine, arguments: list[str]) -> None:
    """A hold without a reason that others can read is refused at once."""
    ran = archiver("hold", "add", "RE" + "0" * 32, *arguments)
    assert (ran.code, bench.requests()) == (2, [])


def test_a_document_that_cannot_be_read(bench: Workbench, archiver: CommandLine) -> None:
    """Junk under a hold's key is not overwritten: a reason might be lost."""
    recording = archived(bench)
    bench.overwrite(bench.filing(recording).hold, b"junk")
    ran = archiver("hold", "add", recording.sid, "--reason", WHY)
    assert ran.code == 1
    assert "hold_unreadable" in ran.err
    assert archiver("hold", "list").code == 1
