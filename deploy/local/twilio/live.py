"""Record live calls: start, pause, resume and stop, with the event that each of these announces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .accounts import SimCall
from .errors import ApiError
from .recordings import LIVE, SimRecording, StatusCallback

if TYPE_CHECKING:
    from .simulator import Simulator


def status_callback(form: Sequence[tuple[str, str]]) -> StatusCallback | None:
    """Read RecordingStatusCallback, …Method and …Event (repeated, or separated by spaces)."""
    single = dict(form)
    if not single.get("RecordingStatusCallback"):
        return None
    events = " ".join(value for name, value in form if name == "RecordingStatusCallbackEvent").split()
    return StatusCallback(
        single["RecordingStatusCallback"],
        single.get("RecordingStatusCallbackMethod", "POST").upper(),
        tuple(events or ("completed",)),
    )


def start(simulator: Simulator, call: SimCall, form: Sequence[tuple[str, str]]) -> SimRecording:
    """Start a recording on a live call (start call recording API).

    Whatever is recorded is stored in two channels unless a single track is asked; `RecordingChannels` says
    what comes without RequestedChannels (default mono). Raises ApiError 21220 when the call has ended.
    """
    single: Mapping[str, str] = dict(form)
    track = single.get("RecordingTrack", "both")
    asked = single.get("RecordingChannels", "mono")
    if track not in ("both", "inbound", "outbound") or asked not in ("mono", "dual"):
        raise ApiError(400, 20001)
    if not call.live:
        raise ApiError(400, 21220)
    stored = 2 if track == "both" else 1
    return simulator.record(
        call.account_sid,
        kind="start_call",
        seconds=call.seconds,
        channels=stored,
        created_channels=2 if asked == "dual" and stored == 2 else 1,
        track=track,
        status="in-progress",
        call=call,
        callback=status_callback(form),
    )


def change(simulator: Simulator, recording: SimRecording, status: str) -> None:
    """Pause, resume or stop a live recording; stopping completes it. Raises ApiError 21220 when it has ended."""
    with simulator.store.lock:
        if recording.status not in LIVE:
            raise ApiError(400, 21220)
        if status == "stopped":
            simulator.finish(recording)
        else:
            recording.status, recording.date_updated = status, simulator.store.clock()
