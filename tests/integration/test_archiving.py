"""The main job from the outside: a call at the simulator, and what S3 and the simulator hold in the end."""

import hashlib
import secrets
import subprocess
from typing import Any

import jsonschema
import pytest
import redis

from deploy.local.stack import Stack
from deploy.local.twilio import Hook, Match, Request
from tests.integration.bucket import Bucket, folder
from tests.integration.command_line import ENTRY
from tests.integration.conftest import MAIN, SUB
from tests.receipt_schema import ABSENCE_SCHEMA, DELETION_SCHEMA, RECEIPT_SCHEMA

CALLS: dict[str, dict[str, Any]] = {
    "two-party call": {"kind": "call", "seconds": 6.0},
    "conference": {"kind": "conference", "seconds": 7.5},
    "mono <Record>": {"kind": "record_verb", "channels": 1, "seconds": 5.0},
    "outbound API": {"kind": "outbound", "seconds": 4.0},
    "started by REST": {"kind": "start_call", "seconds": 4.0},
    "encrypted": {"kind": "call", "seconds": 8.0, "encrypted": True},
    "encrypted mono": {"kind": "record_verb", "channels": 1, "seconds": 8.0, "encrypted": True},
    "several parts": {"kind": "call", "seconds": 600.0},
    "exactly one part": {"kind": "call", "size_bytes": 8 * 1024 * 1024},
    "streamed sizes": {"kind": "call", "seconds": 3.0, "placeholder_sizes": True},
    "chunked": {"kind": "call", "seconds": 3.0, "framing": "chunked"},
    "called back by GET": {"kind": "call", "seconds": 3.0, "callback_method": "GET"},
    "called back in JSON": {"kind": "call", "seconds": 3.0, "callback_method": "JSON"},
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_recording_ends_archived_and_gone(stack: Stack, archived: Bucket, call: dict[str, Any]) -> None:
    """S3 holds the served bytes with a valid receipt before the DELETE comes, and the deletion is documented."""
    seen_at_delete: list[tuple[str, dict[str, Any] | None]] = []

    def before_delete(request: Request) -> None:
        body = archived.media(recording) or b""
        seen_at_delete.append((hashlib.sha256(body).hexdigest(), archived.document("receipts", recording)))

    sid = f"RE{secrets.token_hex(16)}"
    stack.simulator.inject(Hook(before=before_delete), recording_sid=sid, match=Match(endpoint="delete"))
    recording = stack.simulator.record(MAIN.sid, sid=sid, **call, callback_url=stack.callback_url)
    deletion = archived.wait_for("deletions", recording)

    served = [each for each in stack.simulator.served if each.recording_sid == recording.sid]
    assert len(served) == 1
    ((archived_sha256, receipt),) = seen_at_delete
    assert receipt is not None
    assert archived_sha256 == served[0].sha256 == receipt["media"]["sha256"]
    assert receipt["media"]["requested_channels"] == recording.channels
    jsonschema.validate(receipt, RECEIPT_SCHEMA)
    jsonschema.validate(deletion, DELETION_SCHEMA)
    # The receipt was read when the DELETE had come and was not yet carried out, and it is of a verified object.
    assert receipt["verification"]["method"] == "checksum"
    assert receipt["verification"]["checksum"]
    assert recording.deleted_at is not None
    assert deletion["answer"] == {"status": 204, "by_archiver": True}
    assert deletion["confirmation"]["status"] == "deleted"
    assert receipt["callback"]["RecordingSid"] == recording.sid


def test_mono_is_asked_for_only_after_a_400(stack: Stack, archived: Bucket) -> None:
    """A mono recording's receipt shows both rungs of the ladder with Twilio's answers."""
    recording = stack.simulator.record(MAIN.sid, "record_verb", 4.0, callback_url=stack.callback_url)
    archived.wait_for("deletions", recording)
    receipt = archived.wait_for("receipts", recording)
    assert receipt["media"]["attempts"] == [
        {"requested_channels": 2, "status": 400, "code": 16113},
        {"requested_channels": 1, "status": 200, "code": None},
    ]


def test_encryption_details_are_in_metadata_and_receipt(stack: Stack, archived: Bucket) -> None:
    """What is needed to decrypt is kept with the object, in Twilio's and in normalised spelling."""
    recording = stack.simulator.record(MAIN.sid, "call", 5.0, encrypted=True, callback_url=stack.callback_url)
    archived.wait_for("deletions", recording)
    receipt = archived.wait_for("receipts", recording)
    twilios = receipt["source"]["encryption_details"]
    assert receipt["encryption"] == {
        "type": "rsa-aes",
        "public_key_sid": twilios["encryption_public_key_sid"],
        "encrypted_cek": twilios["encryption_cek"],
        "iv": twilios["encryption_iv"],
    }
    metadata = archived.client.head_object(Bucket=archived.name, Key=receipt["media"]["key"])["Metadata"]
    assert metadata["encryption-type"] == "rsa-aes"
    assert metadata["encryption-cek"] == twilios["encryption_cek"]
    assert metadata["encryption-iv"] == twilios["encryption_iv"]
    assert metadata["encryption-public-key-sid"] == twilios["encryption_public_key_sid"]
    assert metadata["recording-sid"] == recording.sid
    assert metadata["sha256"] == receipt["media"]["sha256"]


def test_the_index_leads_from_recording_and_call_to_the_day(stack: Stack, archived: Bucket) -> None:
    """Empty objects say under which day a recording, and those of a call or conference, are filed."""
    recording = stack.simulator.record(MAIN.sid, "call", 3.0, callback_url=stack.callback_url)
    archived.wait_for("deletions", recording)
    day = f"{recording.date_created:%Y-%m-%d}"
    base = f"index/account={MAIN.sid}"
    indexed = [key for key in archived.keys(recording) if key.startswith("index/")]
    assert indexed == [
        f"{base}/call={recording.call_sid}/{recording.sid}/{day}",
        f"{base}/recording={recording.sid}/{day}",
    ]


def test_a_subaccount_uses_its_own_credentials(stack: Stack, archived: Bucket) -> None:
    """A subaccount's recording is signed, fetched and filed under its own account."""
    recording = stack.simulator.record(SUB.sid, "call", 3.0, callback_url=stack.callback_url)
    archived.wait_for("deletions", recording)
    assert archived.wait_for("receipts", recording)["account_sid"] == SUB.sid


def test_an_absent_recording_is_documented(stack: Stack, archived: Bucket) -> None:
    """A recording that was too short leaves an absence with its code explained, and nothing else."""
    recording = stack.simulator.record(
        MAIN.sid,
        "call",
        0.0,
        status="absent",
        error_code=16101,
        callback_url=stack.callback_url,
        callback_events=["absent"],
    )
    absence = archived.wait_for("absences", recording)
    jsonschema.validate(absence, ABSENCE_SCHEMA)
    assert (absence["reason"], absence["error_code"]) == ("absent", 16101)
    assert "too short" in absence["explanation"]
    assert archived.keys(recording) == [f"{folder('absences', recording)}/{recording.sid}.json"]


def test_an_absent_callback_does_not_make_an_absence(stack: Stack, archived: Bucket) -> None:
    """A callback that says absent for a recording that REST calls completed leads to archiving."""
    recording = stack.simulator.record(MAIN.sid, "call", 3.0)
    answer = stack.simulator.send_callback(recording, stack.callback_url, status="absent")
    assert answer.status == 204
    archived.wait_for("deletions", recording)
    assert archived.document("absences", recording) is None


def test_duplicates_leave_one_object_and_one_receipt(stack: Stack, archived: Bucket) -> None:
    """Ten callbacks for one recording lead to one object, one receipt and one effective DELETE."""
    recording = stack.simulator.record(MAIN.sid, "call", 5.0)
    for _ in range(10):
        assert stack.simulator.send_callback(recording, stack.callback_url).status == 204
    archived.wait_for("deletions", recording)
    versions = archived.versions(recording)
    assert len(versions) == len(set(versions))
    deletes = [
        event.status
        for event in stack.simulator.timeline
        if event.recording_sid == recording.sid and event.method == "DELETE"
    ]
    assert deletes.count(204) == 1


def test_a_forged_callback_reaches_nothing(stack: Stack, archived: Bucket) -> None:
    """A callback signed with a wrong token is refused, and nobody asks Twilio about it."""
    recording = stack.simulator.record(MAIN.sid, "call", 3.0)
    answer = stack.simulator.send_callback(recording, stack.callback_url, token="not-the-token")
    assert answer.status == 403
    assert archived.keys(recording) == []
    with redis.Redis.from_url(stack.redis_url) as client:
        assert client.llen("recording-archiver:archive") == 0


def test_what_archiver_record_starts_is_archived(stack: Stack, archived: Bucket) -> None:
    """Started from the command line, called back, archived and deleted: the whole way."""
    call = stack.simulator.place_call(MAIN.sid, seconds=3.0)
    ran = subprocess.run(
        [ENTRY, "record", "start", call.sid], env=stack.environment, capture_output=True, text=True, check=True
    )
    stack.simulator.end_call(call)
    recording = stack.simulator.recordings[ran.stdout.strip()]
    archived.wait_for("deletions", recording)
    receipt = archived.wait_for("receipts", recording)
    assert receipt["media"]["requested_channels"] == 2
    assert receipt["callback"]["RecordingStatus"] == "completed"
