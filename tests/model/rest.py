"""How a history ends: no more faults, and time for the product to finish; then nothing may be left undone.

This is where invariant 2 is judged, and what one may expect of every recording in the end.
"""

from __future__ import annotations

import json
from datetime import timedelta

from app.queue import AUDIT_TASK
from tests.model.events import PAUSED, resumed
from tests.model.judge import MISSING
from tests.model.layout import Keys
from tests.model.recordings import Recording
from tests.model.variants import TOKENS
from tests.model.world import SWEEP_EVERY_S, World

MAX_STEPS = 20_000  # of one drain; more is a livelock
_LONGEST_WAIT_S = 120.0  # countdowns are of a minute at most
_HOUR_S = 60 * 60.0
_DAY_S = 24 * _HOUR_S
# How long to wait before one more sweep: some frequent ones, the grace and the visibility timeout, and then by the day.
_WAITS_S = (SWEEP_EVERY_S, SWEEP_EVERY_S, _HOUR_S, _DAY_S + 60, *([_DAY_S] * 8))
FREQUENT_SWEEPS = 3
_UNPROVEN = "is deleted without a proof"


def drain(world: World) -> None:
    """Let everything go on until nobody has anything to do."""
    for _ in range(MAX_STEPS):
        strands = world.runnable()
        if strands:
            world.go_on(world.random.choice(strands))
            continue
        begun = [world.pull(process) for process in world.processes]
        if any(begun):
            continue
        if world.queue.restore(world.clock.now):
            continue
        moments = [each.due for each in world.queue.waiting]
        moments += [strand.wakes_at for process in world.processes for strand in process.strands]
        moments += [process.stopped_until for process in world.processes if process.strands]
        later = min((moment for moment in moments if moment > world.clock.now), default=None)
        if later is None or later > world.clock.now + _LONGEST_WAIT_S:
            return
        world.clock.now = later
    world.judge.blame("it does not come to rest")


def come_to_rest(world: World) -> None:
    """End all faults, and wait as long as it takes. Blame what is unfinished then."""
    world.plan = lambda _call, _strand: None
    world.rotate()
    world.note("all faults have ended")
    for process in world.processes:
        process.ahead_s = process.stopped_until = 0.0
    if not _tampered(world):
        resumed(world)  # whoever had paused deletions had no reason to
    if not world.processes:
        world.start("last")
    drain(world)
    if world.queue.unacknowledged or world.queue.waiting:
        world.clock.pass_(world.visibility_s + 60)  # what a dead worker had taken comes back
        drain(world)
    for sid in TOKENS:
        # Nobody looks at everything for now: a frequent sweep must find all that is not too old for it.
        world.hinted.values[f"chore:sweep-everything:{sid}"] = world.clock.now + _DAY_S - _HOUR_S
    left: list[str] = []
    for number, wait_s in enumerate(_WAITS_S):
        left = unfinished(world)
        if not left:
            break
        if number == FREQUENT_SWEEPS:
            for what in _late(world):
                world.judge.blame(f"2: {what}, after some sweeps that should have found it")
        if any(_UNPROVEN in what for what in left):
            world.queue.put(AUDIT_TASK, "{}")  # of what is gone from Twilio's list only the daily audit knows
        _sweep_after(world, wait_s)
    for what in left and unfinished(world):
        world.judge.blame(f"2: {what}")
    if any(alert["event"] == "deletions_paused" for alert in world.judge.alerts) and not _tampered(world):
        world.judge.blame("deletions were paused without a reason")


def stay_at_rest(world: World) -> None:
    """Sweep once more, everything and a day later: nothing may change any more, and no upload may be left behind.

    What somebody has tampered with does not come to rest.
    """
    before = world.judge.changes
    _sweep_after(world, _DAY_S + 60)
    if world.judge.changes != before and not (_tampered(world) or _may_be_texted(world)):
        world.judge.blame("a sweep of what was finished has changed something")
    if world.s3.uploads:
        world.judge.blame(f"uploads are left behind: {[upload.key for upload in world.s3.uploads.values()]}")


def _sweep_after(world: World, wait_s: float) -> None:
    world.clock.pass_(wait_s)
    world.beat()
    drain(world)


def unfinished(world: World) -> list[str]:
    """Say of every recording what is still missing."""
    return [
        f"{recording.sid} {what}"
        for recording in world.twilio.recordings.values()
        if (what := _missing(world, recording)) is not None
    ]


def _late(world: World) -> list[str]:
    """Say what is missing of recordings that a frequent sweep must have found, and nothing kept from being done."""
    now = world.clock.moment()
    late = []
    for recording in world.twilio.recordings.values():
        began = now - timedelta(hours=2)  # of the sweeps
        ordinary = not (recording.wronged or recording.tampered)
        shown = max(recording.completed, recording.visible, recording.ready, recording.unfinished_until or began)
        what = _missing(world, recording)
        if ordinary and recording.created > now - world.variant.lookback and shown < began and what:
            late += [f"{recording.sid} {what}"] if what != _UNPROVEN and not world.variant.delete_after else []
    return late


def _missing(world: World, recording: Recording) -> str | None:
    keys, latest = Keys(world.variant.prefix, recording), world.s3.latest
    if not recording.has_media:
        return None if latest(keys.of("absences")) else "has no audio and no absence document"
    receipt, quarantine = latest(keys.of("receipts")), latest(keys.of("quarantine"))
    if receipt is None:
        if recording.deleted_by_us:
            return "is deleted and archived nowhere"
        if recording.deleted is not None:
            return None  # somebody else was faster
        if quarantine is None:
            return "is archived nowhere"
        return _unjustified(world, recording, json.loads(quarantine.body or b""))
    too_late = recording.accused and recording.deleted is not None  # a DELETE was on its way, and nobody looks again
    if quarantine is not None and not recording.tampered and not too_late:
        return "is archived and in quarantine"
    is_paused = latest(f"{world.variant.prefix}{PAUSED}") is not None
    disagreements = world.judge.disagreements(recording, receipt)
    if recording.tampered:
        # It must not be deleted, which is judged elsewhere; but whoever was about to must have called for a person.
        may_be_over = MISSING in disagreements and world.variant.retention is not None  # a lifecycle rule's work
        is_due = world.variant.delete_after is not None and recording.deleted is None and not recording.held
        is_silent = quarantine is None and not is_paused and not may_be_over
        return "disagrees with its receipt, and nobody was called" if disagreements and is_due and is_silent else None
    for what in disagreements:
        return f"has a receipt that disagrees with {what}"
    if recording.held or is_paused:
        return None  # it must not be deleted, likewise
    if recording.deleted is None:
        return None if world.variant.delete_after is None else "is archived and still at Twilio"
    # Somebody else's deletion in the middle of ours gets its proof, too, while it is remembered that ours has begun.
    begun = recording.deleted_by_us or (recording.account_sid, recording.sid) in world.hinted.deletions
    return _UNPROVEN if begun and latest(keys.of("deletions")) is None else None


def _tampered(world: World) -> bool:
    return any(recording.tampered for recording in world.twilio.recordings.values())


def _may_be_texted(world: World) -> bool:
    """Tell whether a recording that a hold keeps at Twilio may get texts there still, which are kept then."""
    return any(recording.held and recording.transcriptions for recording in world.twilio.recordings.values())


def _unjustified(world: World, recording: Recording, quarantine: dict[str, object]) -> str | None:
    """Say why a quarantine is no good end: nothing is wrong with the recording, or nobody was called."""
    if not (recording.spoilt or recording.tampered):
        return "is in quarantine though nothing is wrong with it"
    attempts = quarantine["attempts"]
    if not isinstance(attempts, int) or attempts < world.variant.quarantine_after:
        return f"is in quarantine after {attempts} attempts"
    called = any(
        alert["event"] == "recording_quarantined" and alert.get("recording_sid") == recording.sid
        for alert in world.judge.alerts
    )
    return None if called else "is in quarantine and nobody was called"
