"""The documents of the archive, and the keys that they are filed under."""

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from app.receipt import (
    ABSENCE_SCHEMA,
    DELETION_SCHEMA,
    DELETIONS_PAUSED,
    ERROR_EXPLANATIONS,
    RECEIPT_SCHEMA,
    Attempt,
    Filing,
    Media,
    Receipt,
    Storage,
    Verification,
    archiver_version,
    day_prefix,
    from_json,
    iso,
    parse_iso,
    to_json,
)
from app.recording import Encryption, Recording
from tests import receipt_schema

HEX = "0123456789abcdef" * 2
AC, RE, CA, CF, CR = (f"{kind}{HEX}" for kind in ("AC", "RE", "CA", "CF", "CR"))
DAY = date(2026, 11, 2)
FILED = f"account={AC}/year=2026/month=11/day=02/{RE}"
FILING = Filing("twilio/", AC, RE, DAY)

SOURCE = {
    "sid": RE,
    "account_sid": AC,
    "call_sid": CA,
    "status": "completed",
    "date_created": "Mon, 02 Nov 2026 23:30:00 +0000",
    "duration": "5",
    "something_new": {"nested": [1, None, "é\u2028"]},
}
RECEIPT = Receipt(
    recording_sid=RE,
    account_sid=AC,
    call_sid=CA,
    conference_sid=None,
    source=SOURCE,
    callback={
        "AccountSid": AC,
        "RecordingSid": RE,
        "RecordingStatus": "completed",
        "received_at": "2026-11-02T23:30:05.000Z",
    },
    media=Media(
        bucket="recordings-of-acme",
        key=f"twilio/recordings/{FILED}.wav",
        version_id="v1",
        format="wav",
        content_type="audio/x-wav",
        bytes=80044,
        sha256="0" * 64,
        channels=1,
        sample_rate=8000,
        duration_seconds=5.0,
        requested_channels=1,
        attempts=(Attempt(2, 400, 16113), Attempt(1, 200)),
    ),
    encryption=None,
    storage=Storage("aws:kms", "key-1", "STANDARD", "COMPLIANCE", "2033-11-01T23:29:00.000Z", "applied"),
    verification=Verification("checksum", f"{'A' * 43}=", "2026-11-02T23:30:09.000Z"),
    archived_at="2026-11-02T23:30:09.500Z",
    archiver_version="0.1.0",
)
ENCRYPTED = dataclasses.replace(
    RECEIPT, call_sid=None, conference_sid=CF, callback=None, encryption=Encryption("rsa-aes", CR, "Y2Vr", "aXY=")
)
RECEIPTS = pytest.mark.parametrize("receipt", [RECEIPT, ENCRYPTED], ids=["call", "encrypted conference"])


def document(receipt: Receipt = RECEIPT) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(receipt.to_json())
    return raw


# Keys


def test_keys_are_those_of_the_layout() -> None:
    """Everything about one recording is under the keys that the contract lays out."""
    assert FILING.media("wav") == f"twilio/recordings/{FILED}.wav"
    assert FILING.media("mp3") == f"twilio/recordings/{FILED}.mp3"
    assert FILING.receipt == f"twilio/receipts/{FILED}.json"
    assert FILING.deletion_request == f"twilio/deletions/{FILED}.requested.json"
    assert FILING.deletion == f"twilio/deletions/{FILED}.json"
    assert FILING.absence == f"twilio/absences/{FILED}.json"
    assert FILING.quarantine == f"twilio/quarantine/{FILED}.json"
    assert FILING.transcriptions == f"twilio/transcriptions/{FILED}.json"
    assert DELETIONS_PAUSED.startswith("control/")


def test_keys_without_a_prefix() -> None:
    """Without `ARCHIVE_PREFIX` the collections are at the top of the bucket."""
    assert Filing("", AC, RE, DAY).receipt == f"receipts/{FILED}.json"


@pytest.mark.parametrize(
    ("call_sid", "conference_sid", "by"),
    [
        (None, None, []),
        (CA, None, [f"call={CA}"]),
        (None, CF, [f"conference={CF}"]),
        (CA, CF, [f"call={CA}", f"conference={CF}"]),
    ],
)
def test_index_finds_by_recording_call_and_conference(
    call_sid: str | None, conference_sid: str | None, by: list[str]
) -> None:
    """The index says under which day a recording is filed, and which recordings a call or conference has."""
    base = f"twilio/index/account={AC}"
    expected = [f"{base}/recording={RE}/2026-11-02", *(f"{base}/{owner}/{RE}/2026-11-02" for owner in by)]
    assert FILING.index(call_sid, conference_sid) == expected


def test_absence_without_a_date_is_filed_as_undated() -> None:
    """An absence that Twilio no longer knows has no day, and nothing to find by one."""
    undated = Filing("", AC, RE, None)
    assert undated.absence == f"absences/account={AC}/day=undated/{RE}.json"
    assert undated.index(CA, None) == []


@pytest.mark.parametrize("prefix", ["", "twilio/"])
@pytest.mark.parametrize("day", [DAY, None])
def test_every_key_leads_back_to_its_filing(prefix: str, day: date | None) -> None:
    """What is filed by day is found by its key alone."""
    filing = Filing(prefix, AC, RE, day)
    keys = (filing.media("wav"), filing.media("mp3"), filing.receipt, filing.deletion, filing.deletion_request)
    for key in (*keys, filing.absence, filing.quarantine, filing.transcriptions):
        assert Filing.from_key(prefix, key) == filing


@pytest.mark.parametrize(
    "key",
    [
        f"recordings/{FILED}.wav",
        f"twilio/recordings/{FILED}",
        f"twilio/recordings/{FILED}.wav/more",
        f"twilio/quarantine/account={AC}/year=2026/month=02/day=30/{RE}.json",
        f"twilio/quarantine/account={AC}/day=someday/{RE}.json",
        f"twilio/quarantine/account={AC}/day=undated/{CA}.json",
        f"twilio/control/holds/account={AC}/{RE}.json",
        f"twilio/index/account={AC}/recording={RE}/2026-11-02",
    ],
)
def test_other_keys_are_no_filing(key: str) -> None:
    """A key of another prefix, day or kind is left alone."""
    assert Filing.from_key("twilio/", key) is None


@given(st.integers(0, 10**10))
def test_recording_is_filed_under_the_utc_day_of_its_creation(seconds: int) -> None:
    """A day of Twilio's list is one prefix in S3, with its numbers as wide as they sort."""
    created = datetime.fromtimestamp(seconds, UTC)
    filing = Filing.of("", Recording.parse({**SOURCE, "date_created": format_datetime(created)}))
    day = created.date()
    assert filing.receipt.startswith(day_prefix("", "receipts", AC, day))
    assert day_prefix("", "receipts", AC, day).endswith(f"/year={day.year}/month={day.month:02}/day={day.day:02}/")


# Times


@given(milliseconds=st.integers(-(10**13), 10**14), zone_minutes=st.integers(-14 * 60, 14 * 60))
def test_time_is_written_in_utc_with_milliseconds(milliseconds: int, zone_minutes: int) -> None:
    """A time is ISO 8601 UTC with `Z`, and is read back to the millisecond."""
    zone = timezone(timedelta(minutes=zone_minutes))
    moment = datetime(1970, 1, 1, tzinfo=UTC).astimezone(zone) + timedelta(milliseconds=milliseconds, microseconds=999)
    text = iso(moment)
    assert text.endswith("Z")
    assert text[10] == "T"
    assert len(text) == len("2026-11-02T23:30:09.500Z")
    assert timedelta(0) <= moment - parse_iso(text) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "text", ["", "now", "2026-11-02", "2026-11-02T23:30:09", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
)
def test_other_times_are_refused(text: str) -> None:
    """A time without a zone, or beyond the calendar, is refused."""
    with pytest.raises(ValueError):
        parse_iso(text)


def test_time_of_another_zone_is_read_as_utc() -> None:
    """Whatever zone a time was written in, it is read as UTC."""
    zone = timezone(timedelta(hours=2))
    assert parse_iso(datetime(2026, 11, 3, 1, 30, tzinfo=zone).isoformat()) == datetime(2026, 11, 2, 23, 30, tzinfo=UTC)


# The receipt


@RECEIPTS
def test_receipt_is_read_as_it_was_written(receipt: Receipt) -> None:
    """A receipt survives being written and read."""
    assert Receipt.from_json(receipt.to_json()) == receipt


@RECEIPTS
def test_receipt_is_valid_under_the_schema(receipt: Receipt) -> None:
    """A receipt is what the hand-written schema of the contract asks for."""
    Draft202012Validator(receipt_schema.RECEIPT_SCHEMA).validate(document(receipt))


@RECEIPTS
def test_receipt_is_one_line(receipt: Receipt) -> None:
    """A receipt is one line of JSON, also when the source holds a character that some take for a line's end."""
    text = receipt.to_json().decode("ascii")
    assert text.splitlines() == [text]


def test_receipt_keeps_the_source_whole() -> None:
    """Twilio's resource stands in the receipt as it was received, with everything in it."""
    assert document()["source"] == SOURCE


def test_fields_of_the_receipt_are_those_of_the_contract() -> None:
    """Fields are named as in the contract; what is added must be added here."""
    assert set(document(ENCRYPTED)) == {
        *("schema", "recording_sid", "account_sid", "call_sid", "conference_sid", "source", "callback", "media"),
        *("encryption", "storage", "verification", "archived_at", "archiver_version", "quarantine"),
    }
    assert set(document()["media"]) == {
        *("bucket", "key", "version_id", "format", "content_type", "bytes", "sha256", "channels", "sample_rate"),
        *("duration_seconds", "requested_channels", "attempts", "part_bytes"),
    }
    assert document()["media"]["attempts"] == [
        {"requested_channels": 2, "status": 400, "code": 16113},
        {"requested_channels": 1, "status": 200, "code": None},
    ]
    assert set(document(ENCRYPTED)["encryption"]) == {"type", "public_key_sid", "encrypted_cek", "iv"}
    assert set(document()["storage"]) == {
        *("sse", "kms_key_id", "storage_class", "object_lock_mode", "retain_until", "retention"),
    }
    assert set(document()["verification"]) == {"method", "checksum", "verified_at"}


def places(raw: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a receipt that has fields of ours."""
    yield raw
    for name in ("media", "storage", "verification", "encryption"):
        if raw[name]:
            yield raw[name]
    yield from raw["media"]["attempts"]


def test_unknown_fields_are_ignored() -> None:
    """A receipt of a later version, with fields added anywhere, is still read."""
    raw = document(ENCRYPTED)
    for place in places(raw):
        place["added_later"] = {"x": 1}
    assert Receipt.from_json(json.dumps(raw).encode()) == ENCRYPTED


OPTIONAL = {"quarantine", "archiver_version", "part_bytes", "retention", "code"}


def test_every_missing_field_is_refused() -> None:
    """A receipt without one of its fields is none, unless the field was added later."""
    for index, place in enumerate(places(document(ENCRYPTED))):
        for name in place:
            raw = document(ENCRYPTED)
            del list(places(raw))[index][name]
            if name in OPTIONAL:
                Receipt.from_json(json.dumps(raw).encode())
            else:
                with pytest.raises(ValueError):
                    Receipt.from_json(json.dumps(raw).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(raw=JSON)
def test_any_other_json_is_refused(raw: Any) -> None:
    """No JSON but a receipt is read as one, whatever schema it names."""
    for junk in (raw, {"schema": RECEIPT_SCHEMA, "media": raw}, {**document(), "schema": raw}):
        with pytest.raises(ValueError):
            Receipt.from_json(json.dumps(junk).encode())


@given(data=st.data(), value=JSON)
def test_value_of_another_type_is_refused(data: st.DataObject, value: Any) -> None:
    """With any value in any place, the outcome is a receipt with fields of their types, or `ValueError`."""
    raw = document(ENCRYPTED)
    place = data.draw(st.sampled_from(list(places(raw))))
    place[data.draw(st.sampled_from(sorted(place)))] = value
    try:
        receipt = Receipt.from_json(json.dumps(raw).encode())
    except ValueError:
        return
    assert isinstance(receipt.media.bytes, int)
    assert not isinstance(receipt.media.bytes, bool)
    assert isinstance(receipt.media.sha256, str)
    assert isinstance(receipt.media.attempts, tuple)
    assert isinstance(receipt.storage, Storage)
    assert parse_iso(receipt.archived_at)
    assert receipt.storage.retain_until is None or parse_iso(receipt.storage.retain_until)


@given(st.binary(max_size=100))
def test_any_bytes_are_refused(junk: bytes) -> None:
    """Bytes that are no JSON are refused with `ValueError` like any other document."""
    with pytest.raises(ValueError):
        Receipt.from_json(junk)


@pytest.mark.parametrize("junk", [b"", b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"nul", b'{"schema"'])
def test_broken_json_is_refused(junk: bytes) -> None:
    """An empty, cut, too deeply nested or undecodable document is refused with `ValueError`."""
    with pytest.raises(ValueError):
        Receipt.from_json(junk)


def test_every_cut_is_refused() -> None:
    """A receipt that was cut anywhere is none."""
    body = RECEIPT.to_json()
    for end in range(len(body)):
        with pytest.raises(ValueError):
            Receipt.from_json(body[:end])


@pytest.mark.parametrize("schema", ["recording-receipt/2", "recording-deletion/1", "", None, 1])
def test_document_of_another_schema_is_refused(schema: object) -> None:
    """A document is only read as what its schema says that it is."""
    with pytest.raises(ValueError, match=r"recording-receipt/1"):
        Receipt.from_json(json.dumps({**document(), "schema": schema}).encode())


@pytest.mark.parametrize("place", ["archived_at", "verified_at", "retain_until"])
def test_receipt_without_readable_times_is_refused(place: str) -> None:
    """Deletion and retention count from a receipt's times: they must be readable."""
    raw = document()
    owner = {"archived_at": raw, "verified_at": raw["verification"], "retain_until": raw["storage"]}[place]
    owner[place] = "yesterday"
    with pytest.raises(ValueError):
        Receipt.from_json(json.dumps(raw).encode())


# Any document


@given(st.dictionaries(st.text(max_size=5), JSON.filter(lambda value: value == value), max_size=4))
def test_any_document_is_one_line_and_read_back(raw: dict[str, Any]) -> None:
    """Whatever a document holds, it is one line of ASCII and reads back the same."""
    body = to_json({**raw, "schema": "x/1"})
    text = body.decode("ascii")
    assert text.splitlines() == [text]
    assert json.dumps(from_json(body, "x/1")) == json.dumps({**raw, "schema": "x/1"})


def test_lone_surrogate_of_twilios_is_kept() -> None:
    """Half a character in Twilio's JSON does not keep a document from being written."""
    raw = json.loads(b'{"schema": "x/1", "name": "\\ud83d"}')
    assert from_json(to_json(raw), "x/1") == raw


def test_version_is_stated() -> None:
    """A receipt states the version of the software that wrote it."""
    assert archiver_version()
    assert dataclasses.replace(RECEIPT).archiver_version == "0.1.0"


def test_known_error_codes_are_explained() -> None:
    """Each of Twilio's codes for a recording without audio has its reason in words."""
    assert {16101, 16102, 16104, 16105, 16106, 16111, 16112} <= set(ERROR_EXPLANATIONS)


# The schemas themselves

DELETION = {
    "schema": DELETION_SCHEMA,
    "recording_sid": RE,
    "account_sid": AC,
    "receipt": {"key": FILING.receipt, "version_id": None},
    "answer": {"status": 204},
    "confirmation": {**SOURCE, "status": "deleted"},
    "deleted_at": "2026-11-02T23:31:00.000Z",
    "archiver_version": "0.1.0",
}
ABSENCE = {
    "schema": ABSENCE_SCHEMA,
    "recording_sid": RE,
    "account_sid": AC,
    "call_sid": CA,
    "conference_sid": None,
    "reason": "absent",
    "error_code": 16101,
    "explanation": "too short",
    "source": None,
    "callback": {**(RECEIPT.callback or {}), "RecordingStatus": "absent"},
    "recorded_at": "2026-11-02T23:31:00.000Z",
    "archiver_version": "0.1.0",
}


@pytest.mark.parametrize(
    ("schema", "valid"),
    [
        (receipt_schema.RECEIPT_SCHEMA, document()),
        (receipt_schema.DELETION_SCHEMA, DELETION),
        (receipt_schema.ABSENCE_SCHEMA, ABSENCE),
    ],
    ids=["receipt", "deletion", "absence"],
)
def test_schemas_miss_no_field(schema: dict[str, Any], valid: dict[str, Any]) -> None:
    """Each schema is a schema, accepts its document, and refuses it without any one of its required fields."""
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    validator.validate(valid)
    for name in schema["required"]:
        assert not validator.is_valid({key: value for key, value in valid.items() if key != name}), name


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        (receipt_schema.RECEIPT_SCHEMA, {**document(), "archived_at": "2026-11-02T23:30:09+00:00"}),
        (receipt_schema.RECEIPT_SCHEMA, {**document(), "media": {**document()["media"], "sha256": "A" * 64}}),
        (receipt_schema.RECEIPT_SCHEMA, {**document(), "callback": {**ABSENCE["callback"], "From": "+15005550006"}}),
        (receipt_schema.DELETION_SCHEMA, {**DELETION, "answer": {"status": 401}}),
        (receipt_schema.DELETION_SCHEMA, {**DELETION, "confirmation": SOURCE}),
        (receipt_schema.ABSENCE_SCHEMA, {**ABSENCE, "callback": None}),
        (receipt_schema.ABSENCE_SCHEMA, {**ABSENCE, "reason": "lost"}),
    ],
)
def test_schemas_refuse_what_the_contract_forbids(schema: dict[str, Any], wrong: dict[str, Any]) -> None:
    """The schemas are strict where the contract is."""
    with pytest.raises(ValidationError):
        Draft202012Validator(schema).validate(wrong)
