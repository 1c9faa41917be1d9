"""SIDs, the callback, and Twilio's Recording resource."""

import dataclasses
import itertools
import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.recording import (
    CALLBACK_FIELDS,
    MAX_FIELD_CHARS,
    MAX_FIELDS,
    MAX_UNKNOWN_NAMES,
    Callback,
    Encryption,
    MalformedError,
    Recording,
    is_sid,
)

HEX = "0123456789abcdef" * 2
AC, RE, CA, CF, CR = (f"{kind}{HEX}" for kind in ("AC", "RE", "CA", "CF", "CR"))
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)

CALLBACK = {
    "AccountSid": AC,
    "CallSid": CA,
    "RecordingSid": RE,
    "RecordingUrl": f"https://api.twilio.com/2010-04-01/Accounts/{AC}/Recordings/{RE}",
    "RecordingStatus": "completed",
    "RecordingDuration": "5",
    "RecordingChannels": "2",
    "RecordingStartTime": "Sun, 22 Nov 2026 09:59:00 +0000",
    "RecordingSource": "DialVerb",
    "RecordingTrack": "both",
    "ErrorCode": "0",
}
RESOURCE: dict[str, Any] = {
    "account_sid": AC,
    "api_version": "2010-04-01",
    "call_sid": CA,
    "conference_sid": None,
    "channels": 2,
    "date_created": "Sun, 22 Nov 2026 09:59:30 +0000",
    "date_updated": "Sun, 22 Nov 2026 10:00:00 +0000",
    "start_time": "Sun, 22 Nov 2026 09:59:00 +0000",
    "duration": "5",
    "error_code": None,
    "encryption_details": None,
    "media_url": f"https://api.twilio.com/2010-04-01/Accounts/{AC}/Recordings/{RE}",
    "price": "-0.0025",
    "price_unit": "USD",
    "sid": RE,
    "source": "DialVerb",
    "status": "completed",
    "track": "both",
    "uri": f"/2010-04-01/Accounts/{AC}/Recordings/{RE}.json",
}
DETAILS = {"type": "rsa-aes", "public_key_sid": CR, "encrypted_cek": "Y2Vr", "iv": "aXY="}


def parse(**changes: str | None) -> Callback:
    """Parse a callback with some fields changed, or left out (None)."""
    fields = {**CALLBACK, **changes}
    return Callback.parse([(name, value) for name, value in fields.items() if value is not None], NOW)


def malformed(**changes: str | None) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        parse(**changes)
    return caught.value


# SIDs


@given(
    kind=st.sampled_from(["AC", "RE", "CA", "CF"]), digits=st.text("0123456789abcdefABCDEF", min_size=32, max_size=32)
)
def test_sid_is_its_kind_and_32_hex_digits(kind: str, digits: str) -> None:
    """Two letters and 32 hexadecimal digits of either case are a SID of that kind and of no other."""
    assert is_sid(kind + digits, kind)
    assert not is_sid(kind + digits, "CR")


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        b"RE" + b"0" * 32,
        "",
        "RE",
        f"{RE}0",
        RE[:-1],
        f"{RE}\n",
        f" {RE}",
        f"re{HEX}",
        RE[:-1] + "g",
        RE[:-1] + "٣",
    ],
)
def test_anything_else_is_no_sid(value: object) -> None:
    """Another type, length, alphabet, a space or a line's end make no SID."""
    assert not is_sid(value, "RE")


# The callback


def test_callback_is_read() -> None:
    """A genuine callback is read with all of its documented fields under Twilio's names."""
    callback = Callback.parse(CALLBACK.items(), NOW, "token-1")
    assert (callback.account_sid, callback.recording_sid, callback.status) == (AC, RE, "completed")
    assert callback.fields == CALLBACK
    assert callback.unknown_names == ()
    assert (callback.received_at, callback.idempotency_token) == (NOW, "token-1")


def test_three_fields_are_enough() -> None:
    """Only account, recording and status are always there."""
    fields = {name: CALLBACK[name] for name in ("AccountSid", "RecordingSid", "RecordingStatus")}
    assert Callback.parse(fields.items(), NOW).fields == fields


def test_conference_without_call() -> None:
    """A conference's callback may name no call, or an empty one."""
    assert parse(ConferenceSid=CF, CallSid=None).fields["ConferenceSid"] == CF
    assert parse(ConferenceSid=CF, CallSid="").fields["CallSid"] == ""


@pytest.mark.parametrize("status", ["completed", "absent", "failed"])
def test_final_statuses(status: str) -> None:
    """Three statuses end a recording."""
    assert parse(RecordingStatus=status).is_final


@pytest.mark.parametrize(
    "status", ["in-progress", "started", "paused", "resumed", "stopped", "something-new", "x" * 32]
)
def test_other_wellformed_statuses_are_known_to_be_unfinished(status: str) -> None:
    """Statuses are an open set: others are accepted and end nothing."""
    assert not parse(RecordingStatus=status).is_final


@pytest.mark.parametrize(
    "status", [None, "", "x" * 33, "Completed", "completed ", "completed\n", "com_pleted", "\x00", "é"]
)
def test_malformed_status_is_refused(status: str | None) -> None:
    """A status is 1 to 32 lower-case letters or hyphens."""
    assert malformed(RecordingStatus=status).field == "RecordingStatus"


@pytest.mark.parametrize("name", ["AccountSid", "RecordingSid", "CallSid", "ConferenceSid"])
@pytest.mark.parametrize("value", ["AC", RE[:-1], f"{RE}\n", "CR" + HEX, "../" + RE, "RE" + "g" * 32])
def test_malformed_sid_is_refused_by_name_without_its_value(name: str, value: str) -> None:
    """A malformed SID is refused by its field's name; the error does not repeat it."""
    kind = {"AccountSid": "AC", "RecordingSid": "RE", "CallSid": "CA", "ConferenceSid": "CF"}[name]
    assert str(malformed(**{name: value})) == f"{name}: must be {kind} followed by 32 hexadecimal digits"


@pytest.mark.parametrize("name", ["AccountSid", "RecordingSid"])
@pytest.mark.parametrize("value", [None, ""])
def test_required_sid_is_required(name: str, value: str | None) -> None:
    """Account and recording can't be left out or empty."""
    assert malformed(**{name: value}).field == name


@pytest.mark.parametrize(("name", "field"), [("RecordingSid", "RecordingSid"), ("Unknown", "body")])
@pytest.mark.parametrize("value", [RE, "other"])
def test_repeated_field_is_refused(name: str, field: str, value: str) -> None:
    """A field given twice is refused, also with the same value, and an unknown one without its name."""
    with pytest.raises(MalformedError) as caught:
        Callback.parse([*CALLBACK.items(), (name, RE), (name, value)], NOW)
    assert caught.value.field == field


def test_unknown_fields_leave_only_their_names() -> None:
    """New fields of Twilio's are tolerated: their names are kept, sorted, and nothing of their values."""
    callback = parse(Zebra="secret", AddOns="secret", From="+15005550006")
    assert callback.unknown_names == ("AddOns", "From", "Zebra")
    assert "secret" not in repr(callback)
    assert "+1500" not in repr(callback)


@pytest.mark.parametrize("name", ["", "From+15005550006", "x" * 65, "a b", "é", "5", "\x00", "a=b", "{json}"])
def test_names_that_are_no_names_are_left_out(name: str) -> None:
    """A re-cut body may pass off a value as a name: what doesn't look like Twilio's names is not kept."""
    assert parse(**{name: "x"}).unknown_names == ()


def test_unknown_names_are_bounded() -> None:
    """However many unknown fields come, a few names are kept."""
    assert len(parse(**{f"Extra{number}": "x" for number in range(100)}).unknown_names) == MAX_UNKNOWN_NAMES


def test_number_of_fields_is_bounded() -> None:
    """As many fields as a callback may have are accepted, one more is refused."""
    extra = MAX_FIELDS - len(CALLBACK)
    parse(**{f"Extra{number}": "x" for number in range(extra)})
    assert malformed(**{f"Extra{number}": "x" for number in range(extra + 1)}).field == "body"


@pytest.mark.parametrize("name", sorted(CALLBACK_FIELDS - {"AccountSid", "RecordingSid", "CallSid", "ConferenceSid"}))
def test_length_of_a_field_is_bounded(name: str) -> None:
    """A documented field that is far longer than Twilio's is refused by name."""
    assert malformed(**{name: "x" * (MAX_FIELD_CHARS + 1)}).field == name


def test_idempotency_token_is_bounded() -> None:
    """The idempotency token is kept up to a length; an empty one is none."""
    assert Callback.parse(CALLBACK.items(), NOW, "x" * 1000).idempotency_token == "x" * 64
    assert Callback.parse(CALLBACK.items(), NOW, "").idempotency_token is None


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(CALLBACK_FIELDS)) | st.text(max_size=70), st.text(max_size=50)), max_size=20
    )
)
def test_any_pairs_are_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    """Whatever pairs come, the outcome is a callback with well-formed SIDs and status, or `MalformedError`."""
    try:
        callback = Callback.parse(pairs, NOW)
    except MalformedError:
        return
    assert is_sid(callback.account_sid, "AC")
    assert is_sid(callback.recording_sid, "RE")
    assert 1 <= len(callback.status) <= 32


@given(data=st.data())
def test_recut_pairs_never_name_another_recording(data: st.DataObject) -> None:
    """However a signed text is cut into other pairs, what is accepted names an account and a recording that were in
    the signed text as such."""
    text = "".join(name + value for name, value in sorted(CALLBACK.items()))
    cuts = data.draw(st.sets(st.integers(1, len(text) - 1), min_size=1, max_size=25))
    if data.draw(st.booleans()):  # near misses: the genuine cuts, some of them moved or left out
        at = 0
        for name, value in sorted(CALLBACK.items()):
            cuts |= {at + len(name), at + len(name) + len(value)} if data.draw(st.integers(0, 9)) else set()
            at += len(name) + len(value)
    edges = [0, *sorted(cuts - {len(text)}), len(text)]
    pieces = [text[start:stop] for start, stop in itertools.pairwise(edges)]
    pairs = [(name, value) for name, value in zip(pieces[::2], [*pieces[1::2], ""], strict=False)]
    try:
        callback = Callback.parse(pairs, NOW)
    except MalformedError:
        return
    assert (callback.account_sid, callback.recording_sid) == (AC, RE)


# Encryption details


@pytest.mark.parametrize(
    "details",
    [
        DETAILS,
        json.dumps(DETAILS),
        {"type": "rsa-aes", "encryption_public_key_sid": CR, "encryption_cek": "Y2Vr", "encryption_iv": "aXY="},
        {"encryption_public_key_sid": CR, "encryption_cek": "Y2Vr", "encryption_iv": "aXY="},
        {"encryption_type": "rsa-aes", "public_key_sid": CR, "encrypted_cek": "Y2Vr", "encryption_iv": "aXY="},
        {**DETAILS, "something_new": 5},
    ],
)
def test_encryption_details_in_every_spelling(details: object) -> None:
    """An object or its JSON, in the callback's or the resource's spelling, are the same four values."""
    assert Encryption.parse(details) == Encryption("rsa-aes", CR, "Y2Vr", "aXY=")


@pytest.mark.parametrize("details", [None, "", {}, "null", "{}"])
def test_no_encryption_details(details: object) -> None:
    """Nothing, in whatever form, means that the recording is not encrypted."""
    assert Encryption.parse(details) is None


@pytest.mark.parametrize("name", ["public_key_sid", "encrypted_cek", "iv"])
@pytest.mark.parametrize("value", [None, "", 5, ["x"], {"x": "y"}])
def test_incomplete_encryption_details_are_refused(name: str, value: object) -> None:
    """Details without a usable key, content key or IV are refused: the audio could never be decrypted."""
    with pytest.raises(MalformedError) as caught:
        Encryption.parse({**DETAILS, name: value})
    assert caught.value.field == f"encryption_details.{name}"


@pytest.mark.parametrize(
    "details", ["{", "[" * 100_000, "secret", "5", '["secret"]', 5, ["secret"], True], ids=lambda each: str(each)[:9]
)
def test_other_encryption_details_are_refused(details: object) -> None:
    """Details that are no object are refused, without their content."""
    with pytest.raises(MalformedError) as caught:
        Encryption.parse(details)
    assert "secret" not in str(caught.value)


# The resource


def test_resource_is_read() -> None:
    """Twilio's resource is read with its documented types, and kept whole as it was received."""
    recording = Recording.parse(RESOURCE)
    assert dataclasses.asdict(recording) == {
        "sid": RE,
        "account_sid": AC,
        "call_sid": CA,
        "conference_sid": None,
        "status": "completed",
        "channels": 2,
        "duration_s": 5,
        "date_created": datetime(2026, 11, 22, 9, 59, 30, tzinfo=UTC),
        "start_time": datetime(2026, 11, 22, 9, 59, tzinfo=UTC),
        "source": "DialVerb",
        "error_code": None,
        "encryption": None,
        "media_url": RESOURCE["media_url"],
        "raw": RESOURCE,
    }


def test_resource_in_progress_is_read() -> None:
    """While a recording is in progress, its duration and price are null."""
    recording = Recording.parse({**RESOURCE, "status": "processing", "duration": None, "price": None})
    assert (recording.status, recording.duration_s) == ("processing", None)


def test_resource_with_encryption_is_read() -> None:
    """An encrypted recording has its details normalised, and kept as received beside."""
    details = {"type": "rsa-aes", "encryption_public_key_sid": CR, "encryption_cek": "Y2Vr", "encryption_iv": "aXY="}
    recording = Recording.parse({**RESOURCE, "encryption_details": details})
    assert recording.encryption == Encryption("rsa-aes", CR, "Y2Vr", "aXY=")
    assert recording.raw["encryption_details"] == details


@pytest.mark.parametrize(
    ("created", "day"),
    [
        ("Sun, 22 Nov 2026 23:59:59 +0000", date(2026, 11, 22)),
        ("Sun, 22 Nov 2026 23:59:59 -0100", date(2026, 11, 23)),
        ("Sun, 22 Nov 2026 00:30:00 +0100", date(2026, 11, 21)),
        ("Sun, 22 Nov 2026 23:59:59 GMT", date(2026, 11, 22)),
        ("Sun, 22 Nov 2026 23:59:59 -0000", date(2026, 11, 22)),
        ("22 Nov 2026 23:59:59 +0000", date(2026, 11, 22)),
    ],
)
def test_day_is_the_utc_day_of_creation(created: str, day: date) -> None:
    """A recording is filed under the UTC day on which Twilio says that it was created."""
    assert Recording.parse({**RESOURCE, "date_created": created}).day == day


@pytest.mark.parametrize("start", [None, ""])
def test_start_defaults_to_creation(start: str | None) -> None:
    """Where Twilio states no start, the creation counts."""
    recording = Recording.parse({**RESOURCE, "start_time": start})
    assert recording.start_time == recording.date_created


@pytest.mark.parametrize(("code", "expected"), [(None, None), (0, None), ("0", None), (16101, 16101), ("16102", 16102)])
def test_error_code_zero_is_none(code: object, expected: int | None) -> None:
    """`0` is success, as a number or as text."""
    assert Recording.parse({**RESOURCE, "error_code": code}).error_code == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sid", None),
        ("sid", CA),
        ("account_sid", "AC"),
        ("call_sid", "x"),
        ("conference_sid", CA),
        ("status", None),
        ("status", ""),
        ("status", 5),
        ("channels", "two"),
        ("channels", []),
        ("duration", "5.5"),
        ("duration", float("inf")),
        ("duration", float("nan")),
        ("error_code", {}),
        ("date_created", None),
        ("date_created", ""),
        ("date_created", "2026-11-22T10:00:00Z"),
        ("date_created", 5),
        ("date_created", "Mon, 20 Nov 99999999999999999999 10:00:00 +0000"),
        ("date_created", "Mon, 20 Nov 2026 10:00:00 +999999999999999999"),
        ("date_created", "31 Dec 9999 23:59:59 -0100"),
        ("start_time", "yesterday"),
    ],
)
def test_malformed_resource_is_refused_by_field(field: str, value: object) -> None:
    """What the archive is filed by must be as documented; the error names the field."""
    with pytest.raises(MalformedError) as caught:
        Recording.parse({**RESOURCE, field: value})
    assert caught.value.field == field


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
DATES = st.from_regex(
    r"(Sun, )?[0-9]{1,3} (Nov|Jan|x) [0-9]{1,12} [0-9]{1,2}:[0-9]{2}(:[0-9]{2})? [-+]?[0-9]{1,12}", fullmatch=True
)


@given(changes=st.dictionaries(st.sampled_from(sorted(RESOURCE)), JSON | DATES, min_size=1, max_size=4))
def test_any_resource_is_read_or_refused(changes: dict[str, Any]) -> None:
    """Whatever JSON stands in the place of Twilio's values, the outcome is a recording or `MalformedError`."""
    try:
        recording = Recording.parse({**RESOURCE, **changes})
    except MalformedError:
        return
    assert recording.date_created.tzinfo is UTC
    assert recording.start_time.tzinfo is UTC


@given(JSON)
def test_any_json_is_no_resource(raw: Any) -> None:
    """Anything but a resource is refused, also what is no object at all."""
    with pytest.raises(MalformedError):
        Recording.parse(raw)
