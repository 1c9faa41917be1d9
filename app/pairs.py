"""The name and value pairs of a request, as raw as its signature covers them."""

import json
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from app.signature import Pairs

MAX_BODY_BYTES: Final = 64 * 1024


def read_form(encoded: bytes) -> Pairs:
    """Decode a form or query; blank values count, and what is no valid escape stays as it is.

    `urllib.parse.parse_qsl` does the same for bytes, but fails on all that is not ASCII before Python 3.12.
    """
    halves = (part.partition(b"=") for part in encoded.replace(b"+", b" ").split(b"&") if part)
    return [(unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in halves]


def read_json(body: bytes) -> Pairs:
    """Decode the members of a JSON object, repeated names included. What is no such object has no pairs at all.

    A value that is no string is given as JSON (as forms give `EncryptionDetails`), null as an empty string.
    """
    try:
        read = json.loads(body, object_pairs_hook=_Members)
        if isinstance(read, _Members):
            return [(name.encode(), _as_text(value).encode()) for name, value in read]
    except (ValueError, RecursionError):
        pass
    return []


class _Members(list[tuple[str, Any]]):
    """The members of a JSON object in their order."""


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(_plain(value))


def _plain(value: object) -> object:
    match value:
        case _Members():
            return {name: _plain(inner) for name, inner in value}
        case list():
            return [_plain(inner) for inner in value]
    return value
