"""What really is at Twilio: recordings with their media, whatever anybody is told about them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from typing import Any

from tests.model import audio

SOFT_DELETED_FOR = timedelta(days=40)
PHONE_NUMBERS = ("+14155550142", "+493055501733")  # planted: they must not be in logs, messages, errors or keys
ENCRYPTION = {
    "encryption_public_key_sid": "CR" + "c7" * 16,
    "encryption_cek": "Zm9vYmFy" * 43,
    "encryption_iv": "aXY" * 5,
}


@dataclass(eq=False, slots=True)
class Recording:
    """One recording; times are aware UTC. `channels` are stored; the values of RequestedChannels in `refuses` get 400.

    It is being processed until `completed`, its resource answers 404 until `visible` and its media until `ready`.
    `damage` holds what is wrong with its next downloads, one entry each. `failed` is what a callback may say of an
    absent one. `number` tells its audio from all others.
    """

    number: int
    sid: str
    account_sid: str
    call_sid: str | None
    conference_sid: str | None
    created: datetime
    completed: datetime
    visible: datetime
    ready: datetime
    seconds: float = 1.0
    channels: int = 2
    refuses: frozenset[str] = frozenset()
    absent: int = 0  # the error code
    encrypted: bool = False
    external: bool = False
    streamed: bool = False
    framing: str = "length"
    error_code: int | None = None
    damage: list[str] = field(default_factory=list)
    transcriptions: list[dict[str, Any]] = field(default_factory=list)
    unfinished_until: datetime | None = None  # of the last transcription
    deleted: datetime | None = None
    deleted_by_us: bool = False
    downloads: int = 0
    rumoured: bool = False  # somebody has said that it is absent
    wronged: bool = False  # wrong content was served for it
    spoilt: bool = False  # its content is wrong for good
    tampered: bool = False  # somebody has changed what is archived of it
    held: bool = False
    accused: bool = False  # somebody has put it into quarantine, archived as it was

    def status(self, now: datetime) -> str:
        """Return what the REST API calls it."""
        if self.deleted is not None:
            return "deleted"
        if now < self.completed:
            return "processing"
        return "absent" if self.absent else "completed"

    def is_known(self, now: datetime) -> bool:
        """Tell whether Twilio still shows anything of it."""
        return now >= self.visible and (self.deleted is None or now < self.deleted + SOFT_DELETED_FOR)

    @property
    def has_media(self) -> bool:
        """Whether Twilio ever serves its audio."""
        return not self.absent and not self.external

    def media(self, requested: str | None, extension: str) -> bytes:
        """Return the media in a layout that Twilio has. Raises `KeyError` with the error code of its 400."""
        if self.encrypted:
            if extension == "mp3":
                raise KeyError(16109)
            if requested == "2" and self.channels == 1:
                raise KeyError(16113)
            return audio.ciphertext(self.number, self.channels, self.seconds)
        if requested in self.refuses or (requested == "2" and self.channels == 1):
            raise KeyError(16113)
        channels = int(requested) if requested else 1 if self.conference_sid else self.channels
        if extension == "mp3":
            return audio.mp3(self.number, channels, self.seconds)
        return audio.wav(self.number, channels, self.seconds, streamed=self.streamed)

    def best(self, extension: str) -> bytes:
        """Return the media that is to be archived: two channels where there are two, else one, else what there is."""
        for requested in ("2", "1"):
            try:
                return self.media(requested, extension)
            except KeyError:
                continue
        return self.media(None, extension)

    def resource(self, now: datetime) -> dict[str, Any]:
        """Return the Recording resource."""
        uri = f"/2010-04-01/Accounts/{self.account_sid}/Recordings/{self.sid}"
        status = self.status(now)
        elsewhere = f"https://recordings-bucket.s3.eu-west-1.amazonaws.com/{self.account_sid}/{self.sid}.wav"
        return {
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "call_sid": self.call_sid,
            "conference_sid": self.conference_sid,
            "date_created": _rfc2822(self.created),
            "date_updated": _rfc2822(self.deleted or max(self.created, min(self.completed, now))),
            "start_time": _rfc2822(self.created),
            "duration": None if status == "processing" else "0" if self.absent else str(round(self.seconds)),
            "sid": self.sid,
            "price": None if status == "processing" else "-0.00250",
            "price_unit": "USD",
            "status": status,
            "channels": self.channels,
            "source": "Conference" if self.conference_sid else "DialVerb",
            "error_code": self.absent or self.error_code,
            "uri": f"{uri}.json",
            "encryption_details": {"type": "rsa-aes", **ENCRYPTION} if self.encrypted else None,
            "subresource_uris": {
                "add_on_results": f"{uri}/AddOnResults.json",
                "transcriptions": f"{uri}/Transcriptions.json",
            },
            "media_url": elsewhere if self.external else f"https://api.twilio.com{uri}",
            "track": "both",
            "caller_id": PHONE_NUMBERS[0],  # a field that appears without notice
        }

    def callback(self, status: str) -> dict[str, str]:
        """Return the fields of a callback that says `status`."""
        fields = {
            "AccountSid": self.account_sid,
            "CallSid": self.call_sid,
            "ConferenceSid": self.conference_sid,
            "RecordingSid": self.sid,
            "RecordingUrl": f"https://api.twilio.com/2010-04-01/Accounts/{self.account_sid}/Recordings/{self.sid}",
            "RecordingStatus": status,
            "RecordingDuration": "0" if self.absent else str(round(self.seconds)),
            "RecordingChannels": str(self.channels),
            "RecordingStartTime": _rfc2822(self.created),
            "RecordingSource": "Conference" if self.conference_sid else "DialVerb",
            "RecordingTrack": "both",
            "ErrorCode": str(self.absent or self.error_code or 0),
            "StirCaller": PHONE_NUMBERS[1],  # likewise
        }
        if self.encrypted:
            details = {name.removeprefix("encryption_"): value for name, value in ENCRYPTION.items()}
            details["encrypted_cek"] = details.pop("cek")
            fields["EncryptionDetails"] = json.dumps({"type": "rsa-aes", **details})
        return {name: value for name, value in fields.items() if value is not None}

    def texts(self, now: datetime) -> list[dict[str, Any]]:
        """Return the transcriptions as they stand."""
        if self.unfinished_until is None or now >= self.unfinished_until:
            return self.transcriptions
        return [
            *self.transcriptions[:-1],
            self.transcriptions[-1] | {"status": "in-progress", "transcription_text": None},
        ]


@lru_cache(maxsize=1024)
def _rfc2822(moment: datetime) -> str:
    return format_datetime(moment.astimezone(UTC).replace(microsecond=0))
