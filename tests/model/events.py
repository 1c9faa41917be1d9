"""What may happen in a history beside calls: at Twilio, to the queue, to processes, and by people."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from app.queue import ARCHIVE_TASK, AUDIT_TASK, DELETE_TASK
from tests.model.judge import HOSTILE
from tests.model.layout import Keys
from tests.model.recordings import Recording
from tests.model.variants import MAIN, STRANGER, SUB, TOKENS
from tests.model.world import World

Event = Callable[[World], None]
Deed = Callable[[World, Recording], None]

PAUSED = "control/deletions-paused.json"
_JUNK = "not audio, and not Twilio's"


def calling_back(recording: Recording, status: str) -> Event:
    """Return the event that Twilio says `status` of a recording, truly or not."""

    def call_back(world: World) -> None:
        recording.rumoured |= status in ("absent", "failed")
        accepted = world.twilio.accounts[recording.account_sid].accepts.get(recording.account_sid, set())
        primary = next((token for token in TOKENS[recording.account_sid] if token in accepted), None)
        world.call_back(recording.callback(status), primary or TOKENS[recording.account_sid][0])

    return call_back


def wiped(world: World) -> None:
    """Redis restarts without its memory."""
    world.queue.wipe()
    world.hinted.wipe()


def hints_lost(world: World) -> None:
    """Redis evicts what is no message."""
    world.hinted.wipe()


def doubled(world: World) -> None:
    """A message is handed out twice, as after a lost acknowledgement."""
    if world.queue.waiting or world.queue.unacknowledged:
        message = world.random.choice([*world.queue.waiting, *world.queue.unacknowledged])
        world.queue.waiting.append(replace(message, due=world.clock.now, holder=None))


def vanished(world: World) -> None:
    """A message is lost, as when a worker dies between taking it and noting that."""
    if world.queue.waiting:
        world.queue.waiting.remove(world.random.choice(world.queue.waiting))


def rotated(world: World) -> None:
    """Twilio promotes the secondary tokens: the old ones are refused."""
    world.rotate({sid: tokens[1:] for sid, tokens in TOKENS.items()})


def refused(world: World) -> None:
    """Twilio takes no credentials for now."""
    world.rotate({sid: [] for sid in TOKENS})
    for account in world.twilio.accounts.values():
        account.accepts = {}


def accepted(world: World) -> None:
    """Twilio takes all credentials again."""
    world.rotate()


def stopped(world: World) -> None:
    """A worker stands still, as on a machine that is suspended, longer than its leases or even its messages last."""
    if world.processes:
        process = world.random.choice(world.processes)
        process.stopped_until = world.clock.now + world.random.choice((40.0, 300.0, 1.5 * world.visibility_s))


def killed(world: World) -> None:
    """A worker is killed while it waits for nothing in particular."""
    if world.processes:
        world.kill(world.random.choice(world.processes))


def clock_set(world: World) -> None:
    """A worker's clock jumps."""
    if world.processes:
        ahead_s = world.random.choice((-3700.0, -600.0, -20.0, 20.0, 600.0, 3700.0))
        world.random.choice(world.processes).ahead_s = ahead_s
        world.judge.ahead_s = max(world.judge.ahead_s, 15 * 60.0)


def audited(world: World) -> None:
    """Beat asks for the audit."""
    world.queue.put(AUDIT_TASK, "{}", expires=world.clock.now + 3600)


def paused(world: World, _one: Recording | None = None) -> None:
    """An operator stops all deletions."""
    world.s3.put_object(Bucket="archive", Key=world.variant.prefix + PAUSED, Body=b"{}")


def resumed(world: World) -> None:
    """An operator lets deletions go on."""
    world.s3.delete_object(Bucket="archive", Key=world.variant.prefix + PAUSED)


# What people do to one recording: to any, unless it is said to which.


def held(world: World, one: Recording | None = None) -> None:
    """Somebody places a legal hold on what is archived."""
    for recording in _some(world, one):
        key = _media_key(world, recording)
        if world.variant.traits.object_lock and world.s3.latest(key) is not None:
            world.s3.put_object_legal_hold(Bucket="archive", Key=key, LegalHold={"Status": "ON"})
            recording.held = True


def hold_begun(world: World, one: Recording | None = None) -> None:
    """Somebody writes down why there shall be a legal hold, and S3 does not show any (yet, or to this worker)."""
    for recording in _some(world, one):
        keys = Keys(world.variant.prefix, recording)
        placed = {"action": "placed", "reason": "a lawsuit", "at": _iso(world), "archiver_version": "1"}
        document = {
            "schema": "recording-hold/1",
            "recording_sid": recording.sid,
            "account_sid": recording.account_sid,
            "key": _media_key(world, recording),
            "version_id": None,
            "events": [placed],
        }
        world.s3.put_object(Bucket="archive", Key=keys.hold, Body=json.dumps(document).encode())
        recording.held = True


def accused(world: World, one: Recording | None = None) -> None:
    """Somebody doubts what is archived, and puts it into quarantine."""
    for recording in _some(world, one):
        keys = Keys(world.variant.prefix, recording)
        is_known = world.s3.latest(keys.of("quarantine")) is not None
        if is_known or recording.deleted is not None or world.s3.latest(keys.of("receipts")) is None:
            continue
        document = {
            "schema": "recording-quarantine/1",
            "recording_sid": recording.sid,
            "account_sid": recording.account_sid,
            "attempts": 1,
            "first_failed_at": _iso(world),
            "last_failed_at": _iso(world),
            "failures": [],
        }
        recording.accused = True
        world.s3.put_object(Bucket="archive", Key=keys.of("quarantine"), Body=json.dumps(document).encode())


def deleted_elsewhere(world: World, one: Recording | None = None) -> None:
    """Somebody deletes a recording at Twilio."""
    for recording in _some(world, one):
        if recording.status(world.clock.moment()) == "completed":
            recording.deleted = world.clock.moment()


def overwritten(world: World, one: Recording | None = None) -> None:
    """Somebody writes something else under the key of the media, before or after the product does."""
    for recording in _some(world, one):
        recording.tampered = True
        world.s3.put_object(Bucket="archive", Key=_media_key(world, recording), Body=_JUNK.encode())


def removed(world: World, one: Recording | None = None) -> None:
    """Somebody removes the media."""
    for recording in _some(world, one):
        recording.tampered = True
        world.s3.delete_object(Bucket="archive", Key=_media_key(world, recording))


def forged(world: World, one: Recording | None = None) -> None:
    """Somebody changes a receipt."""
    for recording in _some(world, one):
        key = Keys(world.variant.prefix, recording).of("receipts")
        if (receipt := world.s3.latest(key)) is not None:
            recording.tampered = True
            document = json.loads(receipt.body or b"")
            fields = ["bytes", "key", "version_id"]
            if document["media"]["part_bytes"] is None:
                # What S3 holds of an object in parts is a digest of their digests: it proves the bytes, but whether the
                # receipt's digest of the whole was changed only a re-read would show, and no DELETE waits for one.
                fields.append("sha256")
            field = world.random.choice(fields)
            document["media"][field] = 1 if field == "bytes" else "0" * 64
            world.s3.put_object(Bucket="archive", Key=key, Body=json.dumps(document).encode())


def shortened(world: World, one: Recording | None = None) -> None:
    """Somebody who may shortens the retention of what is archived."""
    for recording in _some(world, one):
        version = world.s3.latest(_media_key(world, recording))
        if version is not None and version.lock_mode == "GOVERNANCE":
            recording.tampered = True
            soon = {"Mode": "GOVERNANCE", "RetainUntilDate": world.clock.moment() + timedelta(hours=1)}
            world.s3.put_object_retention(
                Bucket="archive", Key=version.key, Retention=soon, BypassGovernanceRetention=True
            )


def encrypted_anew(world: World, one: Recording | None = None) -> None:
    """Somebody lets S3 encrypt what is archived under another key."""
    for recording in _some(world, one):
        # Before there is a receipt it is as if the settings had changed: a person is called, and nothing is lost.
        media, receipt = _media_key(world, recording), Keys(world.variant.prefix, recording).of("receipts")
        if world.s3.latest(media) is not None and world.s3.latest(receipt) is not None:
            recording.tampered = True
            world.s3.encrypt_anew(media, "somebody-elses")


def hostile_message(world: World) -> None:
    """Somebody who can write to Redis does: invariant 7."""
    known = list(world.twilio.recordings.values())
    sid = world.random.choice([*(each.sid for each in known), f"RE{world.random.getrandbits(128):032x}"])
    account = world.random.choice((MAIN, SUB, STRANGER))
    day = world.random.choice(("2026-11-22", "2026-11-23", "1999-01-01", HOSTILE, None, 7))
    callback = world.random.choice(
        (
            None,
            HOSTILE,
            {"RecordingStatus": "absent"},
            {"RecordingStatus": "failed", "ErrorCode": HOSTILE, "CallSid": HOSTILE},
            {"RecordingStatus": "completed", HOSTILE: HOSTILE},
            {"RecordingStatus": ["absent"]},
        )
    )
    bodies = (
        {"account_sid": account, "recording_sid": sid, "callback": callback},
        {"account_sid": account, "recording_sid": sid, "day": day},
        {"account_sid": account, "recording_sid": sid, "day": "2026-11-22", "receipt": HOSTILE, "force": True},
        {"account_sid": HOSTILE, "recording_sid": {"sid": HOSTILE}, "day": [HOSTILE]},
        {"account_sid": account, "recording_sid": sid + "/../x", "day": "2026-11-22"},
        {},
    )
    for recording in known:
        recording.rumoured |= recording.sid == sid
    task = world.random.choice((ARCHIVE_TASK, DELETE_TASK, DELETE_TASK))
    world.queue.put(task, json.dumps(world.random.choice(bodies)), hostile=True)


def forged_callback(world: World) -> None:
    """Somebody calls the endpoint without the token of a configured account: invariant 5."""
    recording = world.random.choice(list(world.twilio.recordings.values()) or [None])
    if recording is None:
        return
    fields = recording.callback(world.random.choice(("completed", "absent", "failed")))
    others, own = TOKENS[SUB if recording.account_sid == MAIN else MAIN][0], TOKENS[recording.account_sid][0]
    sent, token, signed = world.random.choice(
        (
            (fields, HOSTILE, None),
            (fields, "", None),
            (fields, None, None),
            (fields, others, None),
            (fields | {"AccountSid": STRANGER}, TOKENS[MAIN][0], None),
            (fields | {"RecordingSid": f"RE{world.random.getrandbits(128):032x}"}, own, fields),
        )
    )
    how = "unsigned" if token is None else "a SID changed" if signed else f"{sent['AccountSid']} signed with {token!r}"
    world.note(f"the callback: {how}")
    before = len(world.queue.seen)
    strand = world.call_back(sent, token, signed)
    if not strand.dead or len(world.queue.seen) != before:
        world.judge.blame("5: a forged callback has got further than the door")


def _media_key(world: World, recording: Recording) -> str:
    extension = "wav" if recording.encrypted else world.variant.extension
    return Keys(world.variant.prefix, recording).of("recordings", extension)


def _iso(world: World) -> str:
    return f"{world.clock.moment():%Y-%m-%dT%H:%M:%S}.000Z"


def _some(world: World, one: Recording | None) -> list[Recording]:
    if one is not None:
        return [one] if one.has_media else []
    known = [recording for recording in world.twilio.recordings.values() if recording.has_media]
    return world.random.sample(known, min(1, len(known)))
