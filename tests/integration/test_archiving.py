"""The main job from the outside: a call at the simulator, and what S3 and the simulator hold in the end."""

import hashlib
import json
from datetime import datetime
from typing import Any

import jsonschema
import pytest

from deploy.local.processes import wait_until
from deploy.local.stack import Stack
from deploy.local.twilio import Hook, Match, Request, SimRecording
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


def document(stack: Stack, collection: str, recording: SimRecording, extension: str = "json") -> dict[str, Any] | None:
    """Return a document of the recording's day, or None."""
    key = f"{folder(collection, recording)}/{recording.sid}.{extension}"
    with stack.s3.client() as client:
        try:
            body = client.get_object(Bucket=stack.bucket, Key=key)["Body"].read()
        except client.exceptions.NoSuchKey:
            return None
    assert body.count(b"\n") == 0
    found: dict[str, Any] = json.loads(body)
    return found


def folder(collection: str, recording: SimRecording) -> str:
    """Return where the layout files a recording: by its account and the UTC day of its creation."""
    return f"{collection}/account={recording.account_sid}/{recording.date_created:year=%Y/month=%m/day=%d}"


def keys(stack: Stack, recording: SimRecording) -> list[str]:
    """Return every key in the bucket that names the recording."""
    with stack.s3.client() as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=stack.bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", ()) if recording.sid in item["Key"]]


def wait_for(stack: Stack, collection: str, recording: SimRecording) -> dict[str, Any]:
    """Wait until a document of the recording is there, and return it."""
    found = wait_until(lambda: document(stack, collection, recording), timeout_s=30, what=collection)
    assert found is not None
    return found


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_recording_ends_archived_and_gone(stack: Stack, call: dict[str, Any]) -> None:
    """S3 holds the served bytes with a valid receipt before the DELETE comes, and the deletion is documented."""
    seen_at_delete: list[tuple[str, dict[str, Any] | None]] = []

    def before_delete(request: Request) -> None:
        with stack.s3.client() as client:
            key = f"{folder('recordings', recording)}/{recording.sid}.wav"
            body = client.get_object(Bucket=stack.bucket, Key=key)["Body"].read()
        seen_at_delete.append((hashlib.sha256(body).hexdigest(), document(stack, "receipts", recording)))

    stack.simulator.inject(Hook(before=before_delete), match=Match(endpoint="delete"), times=1)
    recording = stack.simulator.record(MAIN.sid, **call, callback_url=stack.callback_url)
    deletion = wait_for(stack, "deletions", recording)

    served = [each for each in stack.simulator.served if each.recording_sid == recording.sid]
    assert len(served) == 1
    ((archived_sha256, receipt),) = seen_at_delete
    assert receipt is not None
    assert archived_sha256 == served[0].sha256 == receipt["media"]["sha256"]
    assert receipt["media"]["requested_channels"] == recording.channels
    jsonschema.validate(receipt, RECEIPT_SCHEMA)
    jsonschema.validate(deletion, DELETION_SCHEMA)
    (delete,) = [
        event for event in stack.simulator.timeline if event.recording_sid == recording.sid and event.method == "DELETE"
    ]
    assert datetime.fromisoformat(receipt["verification"]["verified_at"]) < delete.at
    assert recording.deleted_at is not None
    assert deletion["answer"] == {"status": 204}
    assert deletion["confirmation"]["status"] == "deleted"
    assert receipt["callback"]["RecordingSid"] == recording.sid


def test_mono_is_asked_for_only_after_a_400(stack: Stack) -> None:
    """A mono recording's receipt shows both rungs of the ladder with Twilio's answers."""
    recording = stack.simulator.record(MAIN.sid, "record_verb", 4.0, callback_url=stack.callback_url)
    wait_for(stack, "deletions", recording)
    receipt = wait_for(stack, "receipts", recording)
    assert receipt["media"]["attempts"] == [
        {"requested_channels": 2, "status": 400, "code": 16113},
        {"requested_channels": 1, "status": 200, "code": None},
    ]


def test_encryption_details_are_in_metadata_and_receipt(stack: Stack) -> None:
    """What is needed to decrypt is kept with the object, in Twilio's and in normalised spelling."""
    recording = stack.simulator.record(MAIN.sid, "call", 5.0, encrypted=True, callback_url=stack.callback_url)
    wait_for(stack, "deletions", recording)
    receipt = wait_for(stack, "receipts", recording)
    twilios = receipt["source"]["encryption_details"]
    assert receipt["encryption"] == {
        "type": "rsa-aes",
        "public_key_sid": twilios["encryption_public_key_sid"],
        "encrypted_cek": twilios["encryption_cek"],
        "iv": twilios["encryption_iv"],
    }
    with stack.s3.client() as client:
        metadata = client.head_object(Bucket=stack.bucket, Key=receipt["media"]["key"])["Metadata"]
    assert metadata["encryption-type"] == "rsa-aes"
    assert metadata["encryption-cek"] == twilios["encryption_cek"]
    assert metadata["encryption-iv"] == twilios["encryption_iv"]
    assert metadata["encryption-public-key-sid"] == twilios["encryption_public_key_sid"]
    assert metadata["recording-sid"] == recording.sid
    assert metadata["sha256"] == receipt["media"]["sha256"]


def test_the_index_leads_from_recording_and_call_to_the_day(stack: Stack) -> None:
    """Empty objects say under which day a recording, and those of a call or conference, are filed."""
    recording = stack.simulator.record(MAIN.sid, "call", 3.0, callback_url=stack.callback_url)
    wait_for(stack, "deletions", recording)
    day = f"{recording.date_created:%Y-%m-%d}"
    base = f"index/account={MAIN.sid}"
    indexed = [key for key in keys(stack, recording) if key.startswith("index/")]
    assert indexed == [
        f"{base}/call={recording.call_sid}/{recording.sid}/{day}",
        f"{base}/recording={recording.sid}/{day}",
    ]


def test_a_subaccount_uses_its_own_credentials(stack: Stack) -> None:
    """A subaccount's recording is signed, fetched and filed under its own account."""
    recording = stack.simulator.record(SUB.sid, "call", 3.0, callback_url=stack.callback_url)
    wait_for(stack, "deletions", recording)
    assert wait_for(stack, "receipts", recording)["account_sid"] == SUB.sid


def test_an_absent_recording_is_documented(stack: Stack) -> None:
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
    absence = wait_for(stack, "absences", recording)
    jsonschema.validate(absence, ABSENCE_SCHEMA)
    assert (absence["reason"], absence["error_code"]) == ("absent", 16101)
    assert "too short" in absence["explanation"]
    assert keys(stack, recording) == [f"{folder('absences', recording)}/{recording.sid}.json"]


def test_an_absent_callback_does_not_make_an_absence(stack: Stack) -> None:
    """A callback that says absent for a recording that REST calls completed leads to archiving."""
    recording = stack.simulator.record(MAIN.sid, "call", 3.0)
    answer = stack.simulator.send_callback(recording, stack.callback_url, status="absent")
    assert answer.status == 204
    wait_for(stack, "deletions", recording)
    assert document(stack, "absences", recording) is None


def test_duplicates_leave_one_object_and_one_receipt(stack: Stack) -> None:
    """Ten callbacks for one recording lead to one object, one receipt and one effective DELETE."""
    recording = stack.simulator.record(MAIN.sid, "call", 5.0)
    for _ in range(10):
        assert stack.simulator.send_callback(recording, stack.callback_url).status == 204
    wait_for(stack, "deletions", recording)
    with stack.s3.client() as client:
        for collection in ("recordings", "receipts", "deletions"):
            versions = client.list_object_versions(Bucket=stack.bucket, Prefix=folder(collection, recording))
            kept = [item["Key"] for item in versions["Versions"] if recording.sid in item["Key"]]
            assert len(kept) == len(set(kept))
    deletes = [
        event.status
        for event in stack.simulator.timeline
        if event.recording_sid == recording.sid and event.method == "DELETE"
    ]
    assert deletes.count(204) == 1


def test_a_forged_callback_reaches_nothing(stack: Stack) -> None:
    """A callback signed with a wrong token is refused, and nobody asks Twilio about it."""
    recording = stack.simulator.record(MAIN.sid, "call", 3.0)
    answer = stack.simulator.send_callback(recording, stack.callback_url, token="not-the-token")
    assert answer.status == 403
    assert keys(stack, recording) == []
    with stack.redis.client() as client:
        assert client.llen("recording-archiver:archive") == 0
