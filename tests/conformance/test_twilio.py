"""What the product leans on in Twilio's REST API, held against every stand-in and, if one is given, a test account.

A rule that a stand-in does not keep is in `twilios.EXCEPTIONS`, with the reason. Source of the rules:
https://www.twilio.com/docs/voice/api/recording. What a real account is given is in `twilios.Real`.
"""

from __future__ import annotations

import re
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema
import pytest
import requests

from tests.conformance.twilios import KINDS, Party
from tests.integration.twilio_schema import RECORDING

NOBODYS = "RE" + "0" * 32
# New fields come without notice: those that are documented have to be there, and others may be.
RESOURCE = RECORDING | {"additionalProperties": True}


def resource(party: Party, sid: str, **query: str) -> dict[str, Any]:
    answer = party.ask(f"Recordings/{sid}.json", query)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def code(answer: requests.Response) -> int:
    """Return Twilio's own code, from JSON or XML, whichever came."""
    if answer.headers["Content-Type"].partition(";")[0].endswith("json"):
        return int(answer.json()["code"])
    found = re.search(rb"<Code>(\d+)</Code>", answer.content)
    assert found
    return int(found[1])


def channels(wav: bytes) -> int:
    """Read the number of channels from the header of a WAV file."""
    assert (wav[:4], wav[8:16]) == (b"RIFF", b"WAVEfmt ")
    return int.from_bytes(wav[22:24], "little")


# The resource


@pytest.mark.parametrize("kind", KINDS)
def test_a_resource_has_its_fields(party: Party, kind: str) -> None:
    """Every documented field is there and of its type."""
    sid = party.record(kind)
    found = resource(party, sid)
    jsonschema.validate(found, RESOURCE)
    assert (found["sid"], found["account_sid"]) == (sid, party.account_sid)
    assert urlsplit(found["uri"]).path == party.path(f"Recordings/{sid}.json")
    assert parsedate_to_datetime(found["date_created"]).utcoffset() is not None
    assert bool(found["call_sid"]) or bool(found["conference_sid"])


def test_a_completed_recording_says_so(party: Party) -> None:
    """Its duration is whole seconds as a string, and its audio is at Twilio."""
    found = resource(party, party.record("two channels"))
    assert (found["status"], found["channels"]) == ("completed", 2)
    assert int(found["duration"]) > 0
    assert urlsplit(found["media_url"]).hostname == "api.twilio.com"


def test_a_recording_that_is_not_finished_says_so(party: Party) -> None:
    """It is being processed, has no duration yet, and no audio."""
    sid = party.record("processing")
    found = resource(party, sid)
    assert (found["status"], found["duration"]) == ("processing", None)
    assert party.ask(f"Recordings/{sid}.wav").status_code == 404


def test_an_absent_recording_says_why(party: Party) -> None:
    """Its status is absent, with an error code and no audio."""
    sid = party.record("too short")
    found = resource(party, sid)
    assert (found["status"], found["error_code"]) == ("absent", 16101)
    assert party.ask(f"Recordings/{sid}.wav").status_code == 404


def test_what_is_stored_externally_is_elsewhere(party: Party) -> None:
    """Its media URL is at another host, and Twilio serves nothing."""
    sid = party.record("stored externally")
    assert not str(urlsplit(resource(party, sid)["media_url"]).hostname).endswith("twilio.com")
    assert party.ask(f"Recordings/{sid}.wav").status_code == 404


@pytest.mark.parametrize("path", [f"Recordings/{NOBODYS}.json", f"Recordings/{NOBODYS}.wav"])
def test_what_is_unknown_is_404(party: Party, path: str) -> None:
    """An unknown recording is a 404 with Twilio's own code, also with soft-deleted ones included."""
    answer = party.ask(path, {"IncludeSoftDeleted": "true"})
    assert (answer.status_code, code(answer)) == (404, 20404)


def test_an_error_of_media_is_no_audio(party: Party) -> None:
    """Where the path has no `.json`, errors come as XML or JSON, and never as audio."""
    answer = party.ask(f"Recordings/{NOBODYS}.wav")
    assert not answer.headers["Content-Type"].startswith("audio/")


# Credentials


def test_wrong_credentials_are_401(party: Party) -> None:
    """A wrong token is refused with 20003 and a challenge."""
    answer = party.ask("Recordings.json", token="a-token-that-is-wrong")
    assert (answer.status_code, code(answer)) == (401, 20003)
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


def test_an_account_reaches_no_other(party: Party) -> None:
    """What belongs to another account is refused, and not shown to be there."""
    answer = party.ask("Recordings.json", account_sid=party.other_sid)
    assert answer.status_code in (401, 403, 404)


# Media


@pytest.mark.parametrize(
    ("kind", "asked", "served"),
    [
        ("two channels", "2", 2),
        ("two channels", "1", 1),
        ("two channels", None, 2),
        ("one channel", "1", 1),
        ("one channel", None, 1),
        ("conference", "2", 2),
        ("conference", "1", 1),
        ("conference", None, 1),
    ],
)
def test_channels_are_those_that_are_asked_for(party: Party, kind: str, asked: str | None, served: int) -> None:
    """Two, one, or as stored; a conference comes as one unless two are asked for."""
    sid = party.record(kind)
    answer = party.ask(f"Recordings/{sid}.wav", {"RequestedChannels": asked} if asked else {})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].partition(";")[0] in ("audio/x-wav", "audio/wav")
    assert channels(answer.content) == served
    assert int(answer.headers.get("Content-Length", len(answer.content))) == len(answer.content)


def test_two_channels_of_one_are_refused(party: Party) -> None:
    """The 400 that steps down the ladder says by its code that there are no two channels."""
    answer = party.ask(f"Recordings/{party.record('one channel')}.wav", {"RequestedChannels": "2"})
    assert (answer.status_code, code(answer)) == (400, 16113)


def test_more_channels_are_refused(party: Party) -> None:
    """What is not one or two is a 400."""
    sid = party.record("two channels")
    assert party.ask(f"Recordings/{sid}.wav", {"RequestedChannels": "3"}).status_code == 400


def test_without_an_extension_it_is_wav(party: Party) -> None:
    """The media URL that callbacks carry is that of the WAV."""
    sid = party.record("two channels")
    assert party.ask(f"Recordings/{sid}").content == party.ask(f"Recordings/{sid}.wav").content


def test_mp3_is_served(party: Party) -> None:
    """MP3 comes as audio/mpeg, and each download has the same bytes."""
    path = f"Recordings/{party.record('two channels')}.mp3"
    first, second = party.ask(path, {"RequestedChannels": "2"}), party.ask(path, {"RequestedChannels": "2"})
    assert first.headers["Content-Type"].partition(";")[0] == "audio/mpeg"
    assert first.content == second.content
    assert first.content[:1] == b"\xff" or first.content[:3] == b"ID3"


def test_encrypted_media_is_ciphertext(party: Party) -> None:
    """It has no header and its tag is at its end; the resource says how its key is wrapped."""
    sid = party.record("encrypted")
    body = party.ask(f"Recordings/{sid}.wav", {"RequestedChannels": "2"}).content
    assert body[:4] != b"RIFF"
    assert (len(body) - 16 - 44) % 4 == 0
    details = resource(party, sid)["encryption_details"]
    assert {"encryption_public_key_sid", "encryption_cek", "encryption_iv"} <= details.keys()


def test_encrypted_media_is_not_encoded(party: Party) -> None:
    """Twilio has no key to make an MP3 of it."""
    answer = party.ask(f"Recordings/{party.record('encrypted')}.mp3")
    assert (answer.status_code, code(answer)) == (400, 16109)


# Deletion


def test_a_deleted_recording_is_gone_and_remembered(party: Party) -> None:
    """After a 204 the audio is gone, and only who includes soft-deleted recordings sees that it was deleted."""
    sid = party.record("disposable" if type(party).__name__ == "Real" else "two channels")
    answer = party.ask(f"Recordings/{sid}.json", method="DELETE")
    assert (answer.status_code, answer.content) == (204, b"")
    assert party.ask(f"Recordings/{sid}.json").status_code == 404
    assert resource(party, sid, IncludeSoftDeleted="true")["status"] == "deleted"
    for path in (f"{sid}.wav", f"{sid}.mp3", f"{sid}/Transcriptions.json", f"{sid}/AddOnResults.json"):
        assert party.ask(f"Recordings/{path}").status_code == 404
    assert party.ask(f"Recordings/{sid}.json", method="DELETE").status_code == 404
    assert sid not in [item["sid"] for item in listed(party)]
    assert sid in [item["sid"] for item in listed(party, IncludeSoftDeleted="true")]


def test_what_is_not_completed_is_not_deleted(party: Party) -> None:
    """The DELETE is refused, and the recording stays as it is."""
    sid = party.record("processing")
    answer = party.ask(f"Recordings/{sid}.json", method="DELETE")
    assert 400 <= answer.status_code < 500
    assert code(answer) == 20009
    assert resource(party, sid)["status"] == "processing"


# Lists


def listed(party: Party, **query: str) -> list[dict[str, Any]]:
    """Read a list page by page, as its own answers lead on."""
    found: list[dict[str, Any]] = []
    answer = party.ask("Recordings.json", query)
    while True:
        assert answer.status_code == 200
        page = answer.json()
        found += page["recordings"]
        following = page["next_page_uri"]
        if not following:
            return found
        assert following.startswith(party.path("Recordings.json"))
        parts = urlsplit(following)
        answer = party.ask(parts.path, dict(parse_qsl(parts.query)))


def test_a_list_is_newest_first_on_however_many_pages(party: Party) -> None:
    """Each recording is listed once, the newest first."""
    made = [party.record("two channels", hours_ago=hours) for hours in (1, 2, 3, 4, 5)]
    assert [item["sid"] for item in listed(party, PageSize="2")] == made
    assert [item["sid"] for item in listed(party)] == made


def test_a_list_is_bounded_by_dates(party: Party) -> None:
    """Both bounds are days, and what lies between them is listed and nothing else."""
    _, wanted, old = (party.record("two channels", hours_ago=24 * days) for days in (0, 5, 10))
    created = parsedate_to_datetime(resource(party, wanted)["date_created"])
    bounds = {
        "DateCreated>": f"{created - timedelta(days=1):%Y-%m-%d}",
        "DateCreated<": f"{created + timedelta(days=2):%Y-%m-%d}",
    }
    assert [item["sid"] for item in listed(party, **bounds)] == [wanted]
    assert [item["sid"] for item in listed(party, **{"DateCreated<": bounds["DateCreated>"]})] == [old]


def test_a_list_holds_the_resources_themselves(party: Party) -> None:
    """What is listed is what is answered to who asks for it alone."""
    sid = party.record("two channels")
    [item] = [item for item in listed(party) if item["sid"] == sid]
    assert item == resource(party, sid)


@pytest.mark.parametrize(("what", "name"), [("Transcriptions", "transcriptions"), ("AddOnResults", "add_on_results")])
def test_subresources_are_listed(party: Party, what: str, name: str) -> None:
    """A recording without any has an empty page of them."""
    answer = party.ask(f"Recordings/{party.record('two channels')}/{what}.json")
    assert answer.status_code == 200
    page = answer.json()
    assert (page[name], page["next_page_uri"]) == ([], None)


def test_accounts_are_listed_by_their_status(party: Party) -> None:
    """The list of accounts has the account itself while it is active."""
    answer = party.ask("/2010-04-01/Accounts.json", {"Status": "active"})
    assert party.account_sid in [item["sid"] for item in answer.json()["accounts"]]
    suspended = party.ask("/2010-04-01/Accounts.json", {"Status": "suspended"}).json()["accounts"]
    assert party.account_sid not in [item["sid"] for item in suspended]
