"""A page of an S3 listing is read as botocore reads it, or left to botocore."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import botocore.parsers
import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.s3_listing import entries, take_entries

WRITTEN = "2026-11-22T10:00:00.123Z"
MODEL = botocore.session.get_session().get_service_model("s3").operation_model("ListObjectsV2")
OUTER = '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{}</ListBucketResult>'


def entry(key: str, written: str = WRITTEN) -> str:
    return (
        f"<Contents><Key>{key}</Key><LastModified>{written}</LastModified><ETag>&quot;e&quot;</ETag><Size>1</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


def page(*items: str, head: str = "<IsTruncated>false</IsTruncated>") -> bytes:
    return OUTER.format(head + "".join(items)).encode()


def read(body: bytes, status: int = 200) -> tuple[dict[str, Any], bytes]:
    """Let our handler and then botocore's parser read a page; return what is parsed, and what was left to botocore."""
    response: dict[str, Any] = {"body": body, "status_code": status, "headers": {}}
    ours: dict[str, Any] = {}
    take_entries(response_dict=response, customized_response_dict=ours, operation_model=MODEL)
    parsed = botocore.parsers.create_parser("rest-xml").parse(response, MODEL.output_shape)
    return {**parsed, **ours}, response["body"]


def test_keys_and_times_are_taken_and_the_rest_is_left() -> None:
    """The entries are ours, and botocore still sees whether there is more."""
    head = "<IsTruncated>true</IsTruncated><NextContinuationToken>t+/=</NextContinuationToken>"
    parsed, rest = read(page(entry("a/1"), entry("a/2"), head=head))
    moment = datetime(2026, 11, 22, 10, 0, 0, 123000, tzinfo=UTC)
    assert entries(parsed) == [("a/1", moment), ("a/2", moment)]
    assert (parsed["IsTruncated"], parsed["NextContinuationToken"]) == (True, "t+/=")
    assert b"Contents" not in rest


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), min_size=1))
def test_any_key_is_read_whether_it_is_encoded_or_not(keys: list[str]) -> None:
    """URL-encoded and XML-escaped keys come out as they were put in."""
    encoded, _ = read(page(*(entry(quote_plus(key)) for key in keys), head="<EncodingType>url</EncodingType>"))
    assert [key for key, _ in entries(encoded)] == keys
    plain, _ = read(page(*(entry(escape(key)) for key in keys)))
    assert [key for key, _ in entries(plain)] == keys


@pytest.mark.parametrize(
    "body",
    [
        page("<Contents><Size>1</Size><Key>a</Key><LastModified>2026-11-22T10:00:00Z</LastModified></Contents>"),
        page("<Contents><Key>a</Key><Owner/><LastModified>2026-11-22T10:00:00Z</LastModified></Contents>"),
        page(entry("a"), "<IsTruncated>true</IsTruncated>", entry("b"), head=""),
        page(entry("a", "Sun, 22 Nov 2026 10:00:00 GMT")),
        page(entry("a", "2026-11-22T10:00:00")),
        page("<Contents><Key/><LastModified>2026-11-22T10:00:00Z</LastModified></Contents>", entry("a")),
        b'<s:ListBucketResult xmlns:s="urn:x"><s:Contents><s:Key>a</s:Key></s:Contents></s:ListBucketResult>',
    ],
)
def test_a_page_that_is_written_otherwise_is_left_to_botocore(body: bytes) -> None:
    """What is not exactly as S3 writes it is not touched."""
    response: dict[str, Any] = {"body": body, "status_code": 200, "headers": {}}
    ours: dict[str, Any] = {}
    take_entries(response_dict=response, customized_response_dict=ours)
    assert (response["body"], ours) == (body, {})


def test_an_error_is_left_to_botocore() -> None:
    """Answers other than 200 are not looked at."""
    body = page(entry("a"))
    _, rest = read(body, status=503)
    assert rest == body


def test_an_empty_page_has_no_entries() -> None:
    """A page without entries is read as none."""
    parsed, _ = read(page())
    assert entries(parsed) == []
