"""JSON schemas of the documents in the archive, written by hand from the contract and not from the code.

Fields are only ever added, so what is not named here is allowed, except where the contract names a closed set.
"""

from typing import Any

Schema = dict[str, Any]

_TIME: Schema = {"type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$"}
_TEXT: Schema = {"type": "string", "minLength": 1}
_COUNT: Schema = {"type": "integer", "minimum": 1}


def _sid(kind: str) -> Schema:
    return {"type": "string", "pattern": f"^{kind}[0-9a-fA-F]{{32}}$"}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(
    properties: dict[str, Schema], *, optional: dict[str, Schema] | None = None, closed: bool = False
) -> Schema:
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties | (optional or {}),
        "additionalProperties": not closed,
    }


_CALLBACK = _object(
    {
        "AccountSid": _sid("AC"),
        "RecordingSid": _sid("RE"),
        "RecordingStatus": {"type": "string", "pattern": "^[a-z-]{1,32}$"},
        "received_at": _TIME,
    },
    optional={
        name: {"type": "string"}
        for name in (
            "CallSid",
            "ConferenceSid",
            "EncryptionDetails",
            "ErrorCode",
            "RecordingChannels",
            "RecordingDuration",
            "RecordingSource",
            "RecordingStartTime",
            "RecordingTrack",
            "RecordingUrl",
        )
    },
    closed=True,
)

_ATTEMPT = _object(
    {
        "requested_channels": {"enum": [2, 1, None]},
        "status": {"enum": [200, 400]},
        "code": _or_null({"type": "integer"}),
    }
)

_MEDIA = _object(
    {
        "bucket": _TEXT,
        "key": {
            "type": "string",
            "pattern": r"(^|/)recordings/account=AC[0-9a-fA-F]{32}/year=[0-9]{4}/month=[0-9]{2}/day=[0-9]{2}/"
            r"RE[0-9a-fA-F]{32}\.(wav|mp3)$",
        },
        "version_id": _or_null(_TEXT),
        "format": {"enum": ["wav", "mp3"]},
        "content_type": {"enum": ["audio/x-wav", "audio/mpeg"]},
        "bytes": _COUNT,
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "channels": {"enum": [1, 2, None]},
        "sample_rate": _or_null(_COUNT),
        "duration_seconds": _or_null({"type": "number", "minimum": 0}),
        "requested_channels": {"enum": [2, 1, None]},
        "attempts": {"type": "array", "items": _ATTEMPT, "minItems": 1, "maxItems": 3},
    },
    optional={"part_bytes": _or_null(_COUNT)},
)

_ENCRYPTION = _object(
    {"type": _TEXT, "public_key_sid": _sid("CR"), "encrypted_cek": _TEXT, "iv": _TEXT},
    closed=True,
)

_STORAGE = _object(
    {
        "sse": {"enum": ["AES256", "aws:kms", None]},
        "kms_key_id": _or_null(_TEXT),
        "storage_class": _TEXT,
        "object_lock_mode": {"enum": ["GOVERNANCE", "COMPLIANCE", None]},
        "retain_until": _or_null(_TIME),
    },
    optional={"retention": {"enum": ["none", "applied", "already past"]}},
)

_VERIFICATION = {
    **_object(
        {"method": {"enum": ["checksum", "readback"]}, "checksum": _or_null(_TEXT), "verified_at": _TIME},
    ),
    # S3 writes base64, and for an object of parts the checksum of checksums with their count.
    "if": {"properties": {"method": {"const": "checksum"}}},
    "then": {"properties": {"checksum": {"type": "string", "pattern": r"^[A-Za-z0-9+/]{43}=(-[0-9]+)?$"}}},
}

RECEIPT_SCHEMA: Schema = _object(
    {
        "schema": {"const": "recording-receipt/1"},
        "recording_sid": _sid("RE"),
        "account_sid": _sid("AC"),
        "call_sid": _or_null(_sid("CA")),
        "conference_sid": _or_null(_sid("CF")),
        "source": _object({"sid": _sid("RE"), "account_sid": _sid("AC"), "status": _TEXT, "date_created": _TEXT}),
        "callback": _or_null(_CALLBACK),
        "media": _MEDIA,
        "encryption": _or_null(_ENCRYPTION),
        "storage": _STORAGE,
        "verification": _VERIFICATION,
        "archived_at": _TIME,
        "archiver_version": _TEXT,
    }
)

DELETION_SCHEMA: Schema = _object(
    {
        "schema": {"const": "recording-deletion/1"},
        "recording_sid": _sid("RE"),
        "account_sid": _sid("AC"),
        "receipt": _object(
            {
                "key": {"type": "string", "pattern": r"(^|/)receipts/account=AC.*/RE[0-9a-fA-F]{32}\.json$"},
                "version_id": _or_null(_TEXT),
            }
        ),
        # Null where a crash took the answer and the soft-deleted resource alone is the proof.
        "answer": _object({"status": {"enum": [204, 404, None]}}),
        # Null where Twilio no longer knows the recording at all.
        "confirmation": _or_null(_object({"sid": _sid("RE"), "status": {"const": "deleted"}})),
        "deleted_at": _TIME,
        "archiver_version": _TEXT,
    }
)

ABSENCE_SCHEMA: Schema = {
    **_object(
        {
            "schema": {"const": "recording-absence/1"},
            "recording_sid": _sid("RE"),
            "account_sid": _sid("AC"),
            "call_sid": _or_null(_sid("CA")),
            "conference_sid": _or_null(_sid("CF")),
            "reason": {"enum": ["absent", "failed", "stored_externally"]},
            "error_code": _or_null({"type": "integer", "minimum": 1}),
            "explanation": _TEXT,
            "source": _or_null({"type": "object"}),
            "callback": _or_null(_CALLBACK),
            "recorded_at": _TIME,
            "archiver_version": _TEXT,
        }
    ),
    # An absence needs REST's word, or its 404 beside the callback's.
    "anyOf": [
        {"properties": {"source": {"type": "object"}}},
        {"properties": {"callback": {"type": "object"}}},
    ],
}
