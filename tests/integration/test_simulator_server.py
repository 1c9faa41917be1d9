"""The simulator lets in who may come in, says no as Twilio does, and behaves as a server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import jsonschema
import pytest
import requests

from deploy.local.twilio import Account, Simulator
from tests.integration import twilio_schema
from tests.integration.simulator_tools import Receiver, Rest, receiver

KEY = "SK" + "1" * 32


@pytest.fixture
def account() -> Account:
    return Account(auth_tokens=["primary", "secondary"], api_keys={KEY: "key secret"})


@pytest.fixture
def subaccount(account: Account) -> Account:
    return Account(auth_tokens=["sub"], parent=account.sid)


@pytest.fixture
def sim(account: Account, subaccount: Account) -> Iterator[Simulator]:
    with Simulator(accounts=[account, subaccount]) as running:
        yield running


@pytest.mark.parametrize("password", ["primary", "secondary"])
def test_any_token_of_an_account_is_let_in(rest: Rest, account: Account, password: str) -> None:
    """Primary and secondary tokens both work."""
    assert rest.get("Recordings.json", auth=(account.sid, password)).status_code == 200


def test_an_api_key_is_let_in_until_it_is_removed(rest: Rest, account: Account) -> None:
    """A key with its secret works; without the key it is a 401 (20003)."""
    assert rest.get("Recordings.json", auth=(KEY, "key secret")).status_code == 200
    assert rest.get("Recordings.json", auth=(KEY, "other")).status_code == 401
    del account.api_keys[KEY]
    assert rest.get("Recordings.json", auth=(KEY, "key secret")).status_code == 401


def test_a_promoted_token_is_the_only_one_left(sim: Simulator, rest: Rest, account: Account) -> None:
    """The old primary is refused once the secondary is promoted."""
    sim.promote_token(account.sid)
    assert account.auth_tokens == ["secondary"]
    assert rest.get("Recordings.json", auth=(account.sid, "primary")).status_code == 401
    assert rest.get("Recordings.json", auth=(account.sid, "secondary")).status_code == 200


@pytest.mark.parametrize("header", [None, "Basic", "Basic !!", "Bearer x", "Basic Og=="])
def test_bad_credentials_are_refused(sim: Simulator, header: str | None) -> None:
    """Every way of not authenticating is a 401 with 20003 and a challenge."""
    url = f"{sim.url}/2010-04-01/Accounts/AC{'0' * 32}/Recordings.json"
    answer = requests.get(url, headers={"Authorization": header} if header else {}, timeout=5)
    assert (answer.status_code, answer.json()["code"]) == (401, 20003)
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    jsonschema.validate(answer.json(), twilio_schema.ERROR)


def test_a_parent_reaches_its_subaccounts(sim: Simulator, rest: Rest, account: Account, subaccount: Account) -> None:
    """With the parent's credentials, but not the other way round, and each list holds its own account only."""
    made = sim.record(subaccount.sid)
    sim.record(account.sid)
    path = f"/2010-04-01/Accounts/{subaccount.sid}/Recordings"
    listed = rest.get(f"{path}.json").json()["recordings"]
    assert [each["sid"] for each in listed] == [made.sid]
    assert rest.get(f"{path}/{made.sid}.wav").status_code == 200
    assert rest.get(f"Recordings/{made.sid}.json").status_code == 404
    assert rest.get("Recordings.json", auth=(subaccount.sid, "sub")).status_code == 401


def test_a_suspended_account_is_refused(rest: Rest, account: Account) -> None:
    """20005 with a 401."""
    account.status = "suspended"
    answer = rest.get("Recordings.json")
    assert (answer.status_code, answer.json()["code"]) == (401, 20005)


def test_errors_are_xml_where_the_path_has_no_json(rest: Rest) -> None:
    """A RestException with code, message, more info and status."""
    answer = rest.get(f"Recordings/RE{'0' * 32}")
    assert answer.headers["Content-Type"] == "application/xml"
    assert answer.text.startswith("<?xml version='1.0' encoding='UTF-8'?>\n<TwilioResponse><RestException>")
    assert dict(re.findall("<([A-Za-z]+)>([^<]+)</", answer.text)) == {
        "Code": "20404",
        "Message": "The requested resource was not found",
        "MoreInfo": "https://www.twilio.com/docs/errors/20404",
        "Status": "404",
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "Elsewhere.json", 404),
        ("GET", "Recordings/RE123.json", 404),
        ("POST", "Recordings.json", 405),
        ("DELETE", "Recordings.json", 405),
        ("PUT", f"Recordings/RE{'0' * 32}.json", 405),
        ("POST", f"Calls/CA{'0' * 32}/Recordings.json", 404),
    ],
)
def test_what_there_is_not_is_refused(rest: Rest, method: str, path: str, status: int) -> None:
    """Unknown paths and methods get Twilio's errors."""
    answer = rest.request(method, path)
    assert answer.status_code == status
    jsonschema.validate(answer.json(), twilio_schema.ERROR)


@pytest.mark.parametrize(
    "form", [{}, {"Status": "finished"}, {"Status": "paused", "PauseBehavior": "hum"}, {"Status": "completed"}]
)
def test_malformed_updates_are_refused(sim: Simulator, rest: Rest, account: Account, form: dict[str, str]) -> None:
    """Only the documented statuses and pause behaviours are taken."""
    call = sim.place_call(account.sid)
    sim.record(account.sid, call=call, status="in-progress")
    assert rest.post(f"Calls/{call.sid}/Recordings/Twilio.CURRENT.json", data=form).status_code == 400


@pytest.mark.parametrize("form", [{"RecordingTrack": "none"}, {"RecordingChannels": "3"}])
def test_malformed_starts_are_refused(sim: Simulator, rest: Rest, account: Account, form: dict[str, str]) -> None:
    """Only the documented tracks and channels are taken."""
    call = sim.place_call(account.sid)
    assert rest.post(f"Calls/{call.sid}/Recordings.json", data=form).status_code == 400


@pytest.mark.parametrize("path", ["Recordings/{}.json", "Recordings/{}"])
def test_deletes_with_and_without_json(sim: Simulator, rest: Rest, account: Account, path: str) -> None:
    """A DELETE answers 204 without a body."""
    answer = rest.delete(path.format(sim.record(account.sid).sid))
    assert (answer.status_code, answer.content) == (204, b"")


def test_deletes_below_the_call(sim: Simulator, rest: Rest, account: Account) -> None:
    """A recording may be addressed below its own call, and below no other."""
    made, other = sim.record(account.sid), sim.record(account.sid)
    assert rest.delete(f"Calls/{other.call_sid}/Recordings/{made.sid}.json").status_code == 404
    assert rest.delete(f"Calls/{made.call_sid}/Recordings/{made.sid}.json").status_code == 204


def test_head_has_the_headers_and_no_body(sim: Simulator, rest: Rest, account: Account) -> None:
    """HEAD says how long the media is, and serves nothing."""
    made = sim.record(account.sid, seconds=1)
    answer = rest.head(f"Recordings/{made.sid}.wav")
    assert (answer.headers["Content-Length"], answer.content) == ("32044", b"")
    assert sim.served == []


def test_connections_are_kept_alive(sim: Simulator, account: Account) -> None:
    """Many requests need one connection; errors do not end it."""
    made = sim.record(account.sid, seconds=1)
    base = f"/2010-04-01/Accounts/{account.sid}/"
    headers = {"Authorization": requests.auth._basic_auth_str(account.sid, "primary")}
    with closing(HTTPConnection("127.0.0.1", urlsplit(sim.url).port, timeout=5)) as connection:
        connection.auto_open = 0
        connection.connect()
        for path in (f"Recordings/{made.sid}.wav", "Nothing.json", "Recordings.json") * 5:
            connection.request("GET", base + path, headers=headers)
            connection.getresponse().read()
    assert [event.status for event in sim.timeline] == [200, 404, 200] * 5


def test_the_port_is_known_before_the_start(account: Account) -> None:
    """A simulator that was never started stops without complaint."""
    sim = Simulator(accounts=[account])
    assert sim.url.startswith("http://127.0.0.1:")
    sim.stop()


def test_stops_beside_a_connection_that_is_kept(account: Account) -> None:
    """Ten simulators one after the other, each with a client that stays connected."""
    with ExitStack() as clients:
        for _ in range(10):
            with Simulator(accounts=[account]) as sim:
                rest = clients.enter_context(Rest(sim, account))
                assert rest.get("Recordings.json").status_code == 200
            with pytest.raises(requests.ConnectionError):
                rest.get("Recordings.json")


@pytest.fixture
def callback() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def test_people_can_play_calls(sim: Simulator, account: Account, callback: Receiver) -> None:
    """`POST /_simulator/calls` plays one more call, which announces itself."""
    options = {"kind": "conference", "seconds": 3, "callback_url": callback.url}
    answer = requests.post(f"{sim.url}/_simulator/calls", json=options, timeout=5)
    assert answer.status_code == 201
    made = sim.recordings[answer.json()["sid"]]
    assert (made.account_sid, made.source, made.seconds) == (account.sid, "Conference", 3)
    assert sim.wait_for_callbacks()
    assert callback.received[0].form["RecordingSid"] == made.sid


def test_people_can_look_around(sim: Simulator, account: Account) -> None:
    """`GET /_simulator/recordings` tells the ground truth, without a key."""
    made = sim.record(account.sid, encrypted=True)
    sim.record(account.sid, status="paused")
    answer = requests.get(f"{sim.url}/_simulator/recordings", timeout=5)
    first, second = answer.json()["recordings"]
    assert (first["sid"], first["encrypted"], first["deleted_at"]) == (made.sid, True, None)
    assert first["date_created"].endswith("Z")
    assert second["status"] == "paused"
    assert "key" not in answer.text


@pytest.mark.parametrize("body", ['{"seconds": "ten"}', '{"volume": 11}', "[]", "{", '{"account_sid": "AC0"}'])
def test_what_cannot_be_played_is_refused(sim: Simulator, body: str) -> None:
    """An unknown option, a wrong type and no JSON at all are a 400."""
    assert requests.post(f"{sim.url}/_simulator/calls", data=body, timeout=5).status_code == 400
    assert sim.recordings == {}
