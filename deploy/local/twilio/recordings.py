"""Hold the ground truth of a recording and give its media."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from . import audio
from .accounts import Account, SimCall, new_sid
from .encryption import ContentKey, Encrypted
from .errors import ApiError
from .messages import Body, Framing

LIVE = ("in-progress", "paused")
SOURCES = {
    "call": "DialVerb",
    "conference": "Conference",
    "outbound": "OutboundAPI",
    "trunk": "Trunking",
    "record_verb": "RecordVerb",
    "start_call": "StartCallRecordingAPI",
    "start_conference": "StartConferenceRecordingAPI",
}
ENDED = ("completed", "absent", "failed")


@dataclass(frozen=True)
class StatusCallback:
    """Where, how and which events of one recording are announced, with which fields beside the documented ones.

    `public_url` is signed instead of `url` if given.
    """

    url: str
    method: str = "POST"
    events: tuple[str, ...] = ("completed",)
    public_url: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass
class SimRecording:
    """The ground truth of one recording; `status` is the real one, also where the REST API says `processing`.

    Times are aware UTC, `seconds` and `size_bytes` describe the media. `channels` are stored,
    `created_channels` (where set) come without RequestedChannels. `resource_status` overrides what the REST
    API says; `media_ready_after` are seconds after `completed_at` in which the media answers 404.
    """

    sid: str
    account_sid: str
    call_sid: str | None
    conference_sid: str | None
    source: str
    seconds: float
    channels: int
    status: str
    error_code: int | None
    date_created: datetime
    date_updated: datetime
    start_time: datetime
    completed_at: datetime | None = None
    deleted_at: datetime | None = None
    created_channels: int | None = None
    track: str = "both"
    size_bytes: int | None = None
    external: bool = False
    media_ready_after: float = 0.0
    framing: Framing = "length"
    placeholder_sizes: bool = False
    resource_status: str | None = None
    content_key: ContentKey | None = field(default=None, repr=False)
    callback: StatusCallback | None = None
    transcriptions: list[dict[str, Any]] = field(default_factory=list)
    add_on_results: list[dict[str, Any]] = field(default_factory=list)
    order: tuple[datetime, int] = field(default=(datetime.min.replace(tzinfo=UTC), 0), repr=False)

    @property
    def encrypted(self) -> bool:
        return self.content_key is not None

    def default_channels(self) -> int:
        """Return how many channels come without RequestedChannels: as created, and a conference as mono."""
        return self.created_channels or (1 if self.conference_sid else self.channels)

    def media(self, requested_channels: int | None = None, extension: str = "wav") -> Body:
        """Return the media as Twilio would serve it.

        Encrypted media comes as stored: Twilio holds no key to mix it. Raises ApiError 16113 (two channels
        of a one-channel recording) and 16109 (MP3 of an encrypted one).
        """
        if requested_channels == 2 and self.channels == 1:
            raise ApiError(400, 16113)
        if self.content_key:
            if extension == "mp3":
                raise ApiError(400, 16109)
            return Encrypted(self.audio(self.channels), self.content_key)
        return self.audio(requested_channels or self.default_channels(), extension)

    def audio(self, channels: int, extension: str = "wav", seconds: float | None = None) -> Body:
        """Return the unencrypted audio in any layout and, for faults, of any length."""
        if seconds is None and self.size_bytes is not None:
            frames = max(0, self.size_bytes - audio.HEADER_BYTES) // (2 * self.channels)
        else:
            frames = round((self.seconds if seconds is None else seconds) * audio.SAMPLE_RATE)
        if extension == "mp3":
            return audio.Mp3(self.sid, channels, frames)
        return audio.Wav(self.sid, channels, frames, self.placeholder_sizes)


def new_recording(
    account: Account,
    now: datetime,
    kind: str,
    seconds: float,
    channels: int | None,
    *,
    encrypted: bool = False,
    status: str = "completed",
    error_code: int | None = None,
    date_created: datetime | None = None,
    start_time: datetime | None = None,
    size_bytes: int | None = None,
    call: SimCall | None = None,
    **options: Any,
) -> SimRecording:
    """Make a recording of one of the kinds in SOURCES, or of a source of your own (see Simulator.record)."""
    conference = kind in ("conference", "start_conference")
    channels = channels or (1 if kind == "record_verb" else 2)
    if size_bytes is not None:
        seconds = max(0, size_bytes - audio.HEADER_BYTES) / (2 * channels * audio.SAMPLE_RATE)
    seconds = max(0.0, seconds)
    lasted = timedelta(seconds=seconds) if status in ENDED else timedelta()
    created = date_created or now - lasted  # one that has just ended began by so much earlier
    sids = {
        "sid": new_sid("RE"),
        "call_sid": None if conference else (call.sid if call else new_sid("CA")),
        "conference_sid": ((call and call.conference_sid) or new_sid("CF")) if conference else None,
    }
    return SimRecording(
        account_sid=account.sid,
        source=SOURCES.get(kind, kind),
        seconds=seconds,
        channels=channels,
        status=status,
        error_code=error_code,
        date_created=created,
        date_updated=date_created or now,
        start_time=start_time or created,
        completed_at=now if status in ENDED else None,
        size_bytes=size_bytes,
        content_key=ContentKey(account.key_pair) if encrypted else None,
        **(sids | options),
    )
