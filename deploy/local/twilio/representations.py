"""Write recordings, transcriptions and accounts as Twilio's REST API and callbacks spell them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from .accounts import Account, new_sid
from .recordings import LIVE, SimRecording

API_VERSION = "2010-04-01"
PRICE = "-0.00250"


def rfc2822(moment: datetime | None) -> str | None:
    """Write a time as in `Mon, 23 Nov 2026 02:00:00 +0000`."""
    return None if moment is None else format_datetime(moment)


def account_uri(account_sid: str) -> str:
    return f"/{API_VERSION}/Accounts/{account_sid}"


def recording_uri(recording: SimRecording) -> str:
    """Return the path of a recording without an extension."""
    return f"{account_uri(recording.account_sid)}/Recordings/{recording.sid}"


def media_url(recording: SimRecording) -> str:
    """Return where Twilio says the media is: its own host, or the customer's bucket."""
    if recording.external:
        return f"https://recordings-bucket.s3.amazonaws.com/{recording.account_sid}/{recording.sid}.wav"
    return f"https://api.twilio.com{recording_uri(recording)}"


def duration(recording: SimRecording) -> str | None:
    """Return whole seconds as a string; null until the recording has ended."""
    if recording.status in (*LIVE, "processing", "stopped"):
        return None
    return "0" if recording.status in ("absent", "failed") else str(round(recording.seconds))


def resource(recording: SimRecording, *, live: bool = False) -> dict[str, Any]:
    """Return the Recording resource; a live one says `processing`, except in the answer to a change."""
    status = recording.resource_status or {"failed": "absent"}.get(recording.status, recording.status)
    if status in LIVE and not live:
        status = "processing"
    length, uri = duration(recording), recording_uri(recording)
    return {
        "account_sid": recording.account_sid,
        "api_version": API_VERSION,
        "call_sid": recording.call_sid,
        "conference_sid": recording.conference_sid,
        "date_created": rfc2822(recording.date_created),
        "date_updated": rfc2822(recording.date_updated),
        "start_time": rfc2822(recording.start_time),
        "duration": length,
        "sid": recording.sid,
        "price": None if length is None else PRICE,
        "price_unit": "USD",
        "status": status,
        "channels": recording.channels,
        "source": recording.source,
        "error_code": recording.error_code,
        "uri": f"{uri}.json",
        "encryption_details": recording.content_key and recording.content_key.resource_details(),
        "subresource_uris": {
            "add_on_results": f"{uri}/AddOnResults.json",
            "transcriptions": f"{uri}/Transcriptions.json",
        },
        "media_url": media_url(recording),
        "track": recording.track,
    }


def callback_fields(recording: SimRecording, status: str | None = None) -> dict[str, str]:
    """Return the fields of a RecordingStatusCallback: all that Twilio documents and that apply."""
    fields = {
        "AccountSid": recording.account_sid,
        "CallSid": recording.call_sid,
        "ConferenceSid": recording.conference_sid,
        "RecordingSid": recording.sid,
        "RecordingUrl": f"https://api.twilio.com{recording_uri(recording)}",
        "RecordingStatus": status or recording.status,
        "RecordingDuration": duration(recording),
        "RecordingChannels": str(recording.channels),
        "RecordingStartTime": rfc2822(recording.start_time),
        "RecordingSource": recording.source,
        "RecordingTrack": recording.track,
        "ErrorCode": str(recording.error_code or 0),
    }
    if recording.content_key:
        fields["EncryptionDetails"] = json.dumps(recording.content_key.callback_details())
    return {name: value for name, value in fields.items() if value is not None}


def transcription(recording: SimRecording, status: str, text: str | None, now: datetime) -> dict[str, Any]:
    """Return a new Transcription resource; what is not known before the end is null until then."""
    sid, done = new_sid("TR"), status == "completed"
    return {
        "account_sid": recording.account_sid,
        "api_version": API_VERSION,
        "date_created": rfc2822(now),
        "date_updated": rfc2822(now),
        "duration": duration(recording) if done else None,
        "price": "-0.05000" if done else None,
        "price_unit": "USD",
        "recording_sid": recording.sid,
        "sid": sid,
        "status": status,
        "transcription_text": text if done else None,
        "type": "fast",
        "uri": f"{account_uri(recording.account_sid)}/Transcriptions/{sid}.json",
    }


def add_on_result(
    recording: SimRecording, status: str, data: Sequence[Mapping[str, Any]], now: datetime
) -> dict[str, Any]:
    """Return a new AddOnResult resource; `payloads` are its payload resources, each with its `data`."""
    common = {
        "account_sid": recording.account_sid,
        "reference_sid": recording.sid,
        "add_on_sid": new_sid("XB"),
        "add_on_configuration_sid": new_sid("XE"),
        "date_created": rfc2822(now),
        "date_updated": rfc2822(now),
    }
    sid = new_sid("XR")
    uri = f"{recording_uri(recording)}/AddOnResults/{sid}"
    payloads = [(new_sid("XH"), dict(content)) for content in data]
    return {
        "sid": sid,
        **common,
        "status": status,
        "date_completed": rfc2822(now) if status == "completed" else None,
        "subresource_uris": {"payloads": f"{uri}/Payloads.json"},
        "payloads": [
            {
                "sid": payload_sid,
                **common,
                "add_on_result_sid": sid,
                "label": "result",
                "content_type": "application/json",
                "subresource_uris": {"data": f"{uri}/Payloads/{payload_sid}/Data.json"},
                "data": content,
            }
            for payload_sid, content in payloads
        ],
    }


def account(known: Account, created: datetime) -> dict[str, Any]:
    """Return the Account resource; its auth token is left out of the simulator's answers."""
    uri = account_uri(known.sid)
    return {
        "sid": known.sid,
        "friendly_name": known.friendly_name or known.sid,
        "status": known.status,
        "type": "Full",
        "owner_account_sid": known.parent or known.sid,
        "date_created": rfc2822(created),
        "date_updated": rfc2822(created),
        "uri": f"{uri}.json",
        "subresource_uris": {"recordings": f"{uri}/Recordings.json", "calls": f"{uri}/Calls.json"},
    }
