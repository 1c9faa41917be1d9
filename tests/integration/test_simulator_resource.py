"""The simulator's answers have the shape that Twilio documents, for every kind and status of recording."""

from __future__ import annotations

import jsonschema
import pytest

from deploy.local.twilio import Account, SimRecording, Simulator
from tests.integration import twilio_schema
from tests.integration.simulator_tools import Rest

KINDS = ["call", "conference", "outbound", "trunk", "record_verb", "start_call", "start_conference"]
STATUSES = ["in-progress", "paused", "processing", "completed", "absent", "failed"]


def fetch(rest: Rest, recording: SimRecording, query: str = "") -> dict[str, object]:
    answer = rest.get(f"Recordings/{recording.sid}.json{query}")
    assert answer.headers["Content-Type"] == "application/json"
    resource = answer.json()
    jsonschema.validate(resource, twilio_schema.RECORDING)
    return resource


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_recording_fits_the_schema(sim: Simulator, rest: Rest, account: Account, kind: str) -> None:
    """A recording of a call has a CallSid, one of a conference a ConferenceSid."""
    resource = fetch(rest, sim.record(account.sid, kind))
    assert (resource["call_sid"] is None) == ("conference" in kind)
    assert (resource["conference_sid"] is None) == ("conference" not in kind)
    assert resource["channels"] == (1 if kind == "record_verb" else 2)


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_fits_the_schema(sim: Simulator, rest: Rest, account: Account, status: str) -> None:
    """What is live fetches as `processing`, without duration and price; `failed` is absent to the REST API."""
    code = 16101 if status == "absent" else 16104 if status == "failed" else None
    resource = fetch(rest, sim.record(account.sid, status=status, error_code=code))
    shown = {"in-progress": "processing", "paused": "processing", "failed": "absent"}.get(status, status)
    assert resource["status"] == shown
    assert (resource["duration"] is None) == (shown == "processing")
    assert (resource["price"] is None) == (shown == "processing")
    assert resource["error_code"] == code


def test_an_encrypted_recording_shows_its_details(sim: Simulator, rest: Rest, account: Account) -> None:
    """`encryption_details` is an object with Twilio's names in the resource, and null otherwise."""
    encrypted = fetch(rest, sim.record(account.sid, encrypted=True))
    assert encrypted["encryption_details"]["encryption_public_key_sid"] == account.public_key_sid
    assert fetch(rest, sim.record(account.sid))["encryption_details"] is None


def test_a_deleted_recording_fits_the_schema(sim: Simulator, rest: Rest, account: Account) -> None:
    """Soft-deleted metadata is complete."""
    made = sim.record(account.sid)
    sim.delete(made)
    assert fetch(rest, made, "?IncludeSoftDeleted=true")["status"] == "deleted"


def test_an_externally_stored_recording_says_where_it_is(sim: Simulator, rest: Rest, account: Account) -> None:
    """`media_url` is then not at Twilio, and Twilio's own media answers 404."""
    made = sim.record(account.sid, external=True)
    assert "twilio.com" not in str(fetch(rest, made)["media_url"])
    assert rest.get(f"Recordings/{made.sid}.wav").status_code == 404


def test_pages_fit_the_schema(sim: Simulator, rest: Rest, account: Account) -> None:
    """A list is a page with a relative `next_page_uri`, which is null on the last one."""
    for kind in KINDS:
        sim.record(account.sid, kind)
    first = rest.get("Recordings.json?PageSize=5").json()
    jsonschema.validate(first, twilio_schema.RECORDING_PAGE)
    assert (len(first["recordings"]), first["page"], first["page_size"]) == (5, 0, 5)
    last = rest.get(first["next_page_uri"]).json()
    jsonschema.validate(last, twilio_schema.RECORDING_PAGE)
    assert (len(last["recordings"]), last["page"], last["next_page_uri"]) == (2, 1, None)


def test_an_empty_page_fits_the_schema(rest: Rest) -> None:
    """An account without recordings has one empty page."""
    page = rest.get("Recordings.json").json()
    jsonschema.validate(page, twilio_schema.RECORDING_PAGE)
    assert (page["recordings"], page["page_size"]) == ([], 50)


@pytest.mark.parametrize(("asked", "given"), [("1", 1), ("1000", 1000), ("5000", 1000)])
def test_page_sizes_are_bounded(rest: Rest, asked: str, given: int) -> None:
    """PageSize goes up to 1000."""
    assert rest.get(f"Recordings.json?PageSize={asked}").json()["page_size"] == given


@pytest.mark.parametrize(
    "query", ["PageSize=0", "PageSize=x", "Page=-1", "PageToken=PAx", "DateCreated=soon", "DateCreated%3E=13"]
)
def test_a_malformed_list_parameter_is_refused(rest: Rest, query: str) -> None:
    """What cannot be read is a 400, not an empty list."""
    answer = rest.get(f"Recordings.json?{query}")
    assert answer.status_code == 400
    jsonschema.validate(answer.json(), twilio_schema.ERROR)


def test_inequalities_are_written_as_in_twilios_documentation(sim: Simulator, rest: Rest, account: Account) -> None:
    """`DateCreated>=…` typed into a URL is the filter `DateCreated>`."""
    made = sim.record(account.sid)
    assert rest.get("Recordings.json?DateCreated>=2100-01-01").json()["recordings"] == []
    assert rest.get("Recordings.json?DateCreated<=2100-01-01").json()["recordings"][0]["sid"] == made.sid


def test_subresources_fit_the_schema(sim: Simulator, rest: Rest, account: Account) -> None:
    """Transcriptions and add-on results, finished and not, have Twilio's properties."""
    made = sim.record(account.sid)
    for status in ("completed", "in-progress", "failed"):
        sim.add_transcription(made, status=status)
        sim.add_add_on_result(made, status=status, data=[{"any": "thing"}])
    uris = rest.get(f"Recordings/{made.sid}.json").json()["subresource_uris"]
    transcriptions = rest.get(uris["transcriptions"]).json()
    results = rest.get(uris["add_on_results"]).json()
    jsonschema.validate(transcriptions, twilio_schema.page_of("transcriptions", twilio_schema.TRANSCRIPTION))
    jsonschema.validate(results, twilio_schema.page_of("add_on_results", twilio_schema.ADD_ON_RESULT))
    assert len(transcriptions["transcriptions"]) == len(results["add_on_results"]) == 3


def test_subresources_of_a_deleted_recording_are_gone(sim: Simulator, rest: Rest, account: Account) -> None:
    """After a deletion the lists below the recording answer 404."""
    made = sim.record(account.sid)
    sim.delete(made)
    assert rest.get(f"Recordings/{made.sid}/Transcriptions.json").status_code == 404
    assert rest.get(f"Recordings/{made.sid}/AddOnResults.json").status_code == 404
