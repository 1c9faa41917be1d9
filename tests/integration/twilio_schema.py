"""Hold the hand-written JSON schemas of Twilio's answers: types and nullability as its documentation has them."""

from __future__ import annotations

from typing import Any

_RFC2822 = r"^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-3][0-9] [A-Z][a-z]{2} [0-9]{4} [0-2][0-9]:[0-5][0-9]:[0-5][0-9] \+0000$"


def _sid(prefix: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{prefix}[0-9a-fA-F]{{32}}$"}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """Demand exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


_DATE = {"type": "string", "pattern": _RFC2822}
_WHOLE_SECONDS = {"type": "string", "pattern": "^[0-9]+$"}
_PRICE = {"type": "string", "pattern": r"^-?[0-9]+\.[0-9]+$"}
_PATH = {"type": "string", "pattern": "^/2010-04-01/Accounts/AC[0-9a-f]{32}"}
_BASE64 = {"type": "string", "pattern": "^[A-Za-z0-9+/]+={0,2}$"}

RECORDING = _object(
    {
        "account_sid": _sid("AC"),
        "api_version": {"const": "2010-04-01"},
        "call_sid": _nullable(_sid("CA")),
        "conference_sid": _nullable(_sid("CF")),
        "date_created": _DATE,
        "date_updated": _DATE,
        "start_time": _DATE,
        "duration": _nullable(_WHOLE_SECONDS),
        "sid": _sid("RE"),
        "price": _nullable(_PRICE),
        "price_unit": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "status": {"enum": ["in-progress", "paused", "stopped", "processing", "completed", "absent", "deleted"]},
        "channels": {"enum": [1, 2]},
        "source": {
            "enum": [
                "DialVerb",
                "Conference",
                "OutboundAPI",
                "Trunking",
                "RecordVerb",
                "StartCallRecordingAPI",
                "StartConferenceRecordingAPI",
            ]
        },
        "error_code": _nullable({"type": "integer", "minimum": 10000, "maximum": 99999}),
        "uri": _PATH,
        "encryption_details": _nullable(
            _object(
                {
                    "type": {"const": "rsa-aes"},
                    "encryption_public_key_sid": _sid("CR"),
                    "encryption_cek": _BASE64,
                    "encryption_iv": _BASE64,
                }
            )
        ),
        "subresource_uris": _object({"add_on_results": _PATH, "transcriptions": _PATH}),
        "media_url": {"type": "string", "pattern": "^https?://"},
        "track": {"enum": ["inbound", "outbound", "both"]},
    }
)


def page_of(name: str, item: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one page of a list whose items are under `name`."""
    return _object(
        {
            name: {"type": "array", "items": item},
            "page": {"type": "integer", "minimum": 0},
            "page_size": {"type": "integer", "minimum": 1, "maximum": 1000},
            "start": {"type": "integer", "minimum": 0},
            "end": {"type": "integer", "minimum": 0},
            "uri": {"type": "string", "pattern": "^/2010-04-01/"},
            "first_page_uri": {"type": "string", "pattern": "^/2010-04-01/"},
            "previous_page_uri": _nullable({"type": "string", "pattern": "^/2010-04-01/"}),
            "next_page_uri": _nullable({"type": "string", "pattern": "^/2010-04-01/"}),
        }
    )


RECORDING_PAGE = page_of("recordings", RECORDING)

TRANSCRIPTION = _object(
    {
        "account_sid": _sid("AC"),
        "api_version": {"type": "string"},
        "date_created": _DATE,
        "date_updated": _DATE,
        "duration": _nullable(_WHOLE_SECONDS),
        "price": _nullable(_PRICE),
        "price_unit": {"type": "string"},
        "recording_sid": _sid("RE"),
        "sid": _sid("TR"),
        "status": {"enum": ["in-progress", "completed", "failed"]},
        "transcription_text": _nullable({"type": "string"}),
        "type": {"type": "string"},
        "uri": _PATH,
    }
)

ADD_ON_RESULT = _object(
    {
        "account_sid": _sid("AC"),
        "add_on_configuration_sid": _sid("XE"),
        "add_on_sid": _sid("XB"),
        "date_completed": _nullable(_DATE),
        "date_created": _DATE,
        "date_updated": _DATE,
        "reference_sid": _sid("RE"),
        "sid": _sid("XR"),
        "status": {
            "enum": ["canceled", "completed", "deleted", "failed", "in-progress", "init", "processing", "queued"]
        },
        "subresource_uris": _object({"payloads": _PATH}),
    }
)

ERROR = _object(
    {
        "code": {"type": "integer", "minimum": 10000},
        "message": {"type": "string", "minLength": 1},
        "more_info": {"type": "string", "pattern": "^https://"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
    }
)
