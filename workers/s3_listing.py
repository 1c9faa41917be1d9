"""Read a page of an S3 listing in a fraction of the time that botocore takes.

botocore makes an object of each of the seven or more fields of every key, which takes over 50 ms for a page of 1,000.
An audit of a million recordings reads four thousand pages and wants two of those fields. What is left of the page goes
to botocore as ever, so that continuation, errors and retries stay its own.
"""

import re
from collections.abc import Mapping, MutableMapping
from datetime import datetime
from html import unescape
from typing import Any, Final
from urllib.parse import unquote_plus

PAGINATOR: Final = "list_objects_v2"
# The wildcard puts us before botocore's own handler of `before-parse.s3.*`, which parses a whole page only to see
# whether it is an error (most specific events come last where wildcards are at the same depth: botocore.hooks).
EVENT: Final = "before-parse.*.ListObjectsV2"

_LISTED: Final = "Listed"  # what a page holds instead of `Contents`

_FIRST, _LAST = b"<Contents>", b"</Contents>"
# S3's order of the fields: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html.
_ENTRY: Final = re.compile(r"<Contents>\s*<Key>([^<]*)</Key>\s*<LastModified>([^<]*)</LastModified>")
_BEYOND: Final = (b"<IsTruncated>", b"<NextContinuationToken>", b"<EncodingType>")

Listed = list[tuple[str, datetime]]


def take_entries(
    response_dict: MutableMapping[str, Any], customized_response_dict: MutableMapping[str, Any], **_: Any
) -> None:
    """Take the keys and times out of a page before botocore parses it; for botocore's `EVENT`.

    A page that is not written as S3 writes it is left as it is, and botocore reads all of it.
    """
    body: bytes = response_dict["body"]
    start, end = body.find(_FIRST), body.rfind(_LAST) + len(_LAST)
    if response_dict["status_code"] != 200 or not 0 <= start < end:
        return
    if any(body.find(name, start, end) >= 0 for name in _BEYOND):
        return
    rest = body[:start] + body[end:]
    try:
        listed = _read(body[start:end].decode(), encoded=b"<EncodingType>url</EncodingType>" in rest)
    except ValueError:
        return
    if len(listed) == body.count(_FIRST) == body.count(_LAST):
        customized_response_dict[_LISTED] = listed
        response_dict["body"] = rest


def entries(page: Mapping[str, Any]) -> Listed:
    """Return the keys and times (UTC) of a parsed page, whoever has read them."""
    if _LISTED in page:
        listed: Listed = page[_LISTED]
        return listed
    return [(item["Key"], item["LastModified"]) for item in page.get("Contents", ())]


def _read(text: str, *, encoded: bool) -> Listed:
    """Read the entries of a page, whose keys may be URL-encoded. Raises `ValueError` for a time without a zone."""
    if encoded:
        text = text.replace("%3D", "=")  # our own keys hold no other sign that is encoded
    found = [(key, datetime.fromisoformat(written)) for key, written in _ENTRY.findall(text)]
    if any(written.tzinfo is None for _, written in found[:1]):
        raise ValueError("a time without a zone")
    if encoded and ("%" in text or "+" in text):
        return [(unquote_plus(key), written) for key, written in found]
    return found if encoded else [(unescape(key), written) for key, written in found]
