"""Callbacks are signed so that Twilio's own validator accepts them, and delivered by Twilio's rules."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

import pytest
from twilio.request_validator import RequestValidator, get_signature_algorithm

from deploy.local.twilio import (
    Account,
    DelayedCallback,
    LostCallback,
    Match,
    RepeatedCallback,
    SimRecording,
    Simulator,
)
from tests.integration.simulator_tools import Received, Receiver, Rest, receiver, sdk

PUBLIC = "https://archive.example.com/prefix/recording-status"


@pytest.fixture(scope="module")
def account() -> Account:
    return Account(auth_tokens=["primary", "secondary"], shared_keys={"webhooks_sharedkey_1": "customer"})


@pytest.fixture
def made(sim: Simulator, account: Account) -> SimRecording:
    return sim.record(account.sid)


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def accepted(got: Received, url: str, token: str) -> bool:
    """Ask Twilio's validator about a request as its receiver would."""
    is_json = got.headers["Content-Type"] == "application/json"
    params = got.body.decode() if is_json else got.form if got.method == "POST" else {}
    return RequestValidator(token).validate(url, params, got.headers["X-Twilio-Signature"])


@pytest.mark.parametrize("method", ["POST", "GET", "JSON"])
def test_twilios_validator_accepts_the_signature(sim: Simulator, made: SimRecording, method: str) -> None:
    """Each way of sending is accepted with the primary token, and with no other and no other URL."""
    with receiver() as callback:
        assert sim.send_callback(made, f"{callback.url}?a=b", method).status == 204
    (got,) = callback.received
    url = origin(callback.url) + got.target
    assert got.method == ("GET" if method == "GET" else "POST")
    assert accepted(got, url, "primary")
    assert not accepted(got, url, "secondary")
    assert not accepted(got, url + "x", "primary")


@pytest.mark.parametrize("method", ["POST", "GET", "JSON"])
def test_another_url_than_the_one_called_may_be_signed(sim: Simulator, made: SimRecording, method: str) -> None:
    """Behind a proxy the public URL is the signed one; the https port is not part of it."""
    with receiver() as callback:
        sim.send_callback(made, callback.url, method, public_url=PUBLIC.replace(".com", ".com:8443"))
    (got,) = callback.received
    query = urlsplit(got.target).query
    assert accepted(got, PUBLIC + (f"?{query}" if query else ""), "primary")


def test_announced_callbacks_may_carry_more(sim: Simulator, account: Account) -> None:
    """A recording's own callbacks have further fields where such are given, and are signed with them."""
    with receiver() as callback:
        sim.record(account.sid, callback_url=callback.url, callback_fields={"CallerCity": "Springfield"})
        assert sim.wait_for_callbacks()
    (got,) = callback.received
    assert (got.form["CallerCity"], got.form["RecordingStatus"]) == ("Springfield", "completed")
    assert accepted(got, origin(callback.url) + got.target, "primary")


@pytest.mark.parametrize("method", ["POST", "GET", "JSON"])
def test_all_fields_arrive(sim: Simulator, made: SimRecording, method: str) -> None:
    """The documented fields are there whichever way; fields may be changed, added and left out."""
    changes = {"RecordingStatus": "absent", "New": "ü &=", "RecordingTrack": None, "Empty": ""}
    with receiver() as callback:
        sim.send_callback(made, callback.url, method, fields=changes)
    (got,) = callback.received
    if method == "JSON":
        fields = json.loads(got.body)
    else:
        fields = dict(parse_qsl(urlsplit(got.target).query, keep_blank_values=True)) or got.form
    fields.pop("bodySHA256", None)
    assert fields == {
        "AccountSid": made.account_sid,
        "CallSid": made.call_sid,
        "RecordingSid": made.sid,
        "RecordingUrl": f"https://api.twilio.com/2010-04-01/Accounts/{made.account_sid}/Recordings/{made.sid}",
        "RecordingStatus": "absent",
        "RecordingDuration": "10",
        "RecordingChannels": "2",
        "RecordingStartTime": fields["RecordingStartTime"],
        "RecordingSource": "DialVerb",
        "ErrorCode": "0",
        "New": "ü &=",
        "Empty": "",
    }


def test_fields_may_be_repeated(sim: Simulator, made: SimRecording) -> None:
    """Pairs replace all fields, so that a field can come twice; the signature still holds."""
    with receiver() as callback:
        sim.send_callback(made, callback.url, fields=[("RecordingSid", "one"), ("RecordingSid", "two")])
    (got,) = callback.received
    assert got.body == b"RecordingSid=one&RecordingSid=two"


def test_a_conference_callback_has_no_call_sid(sim: Simulator, account: Account) -> None:
    """ConferenceSid stands in its place."""
    made = sim.record(account.sid, "conference")
    with receiver() as callback:
        sim.send_callback(made, callback.url)
    assert callback.received[0].form["ConferenceSid"] == made.conference_sid
    assert "CallSid" not in callback.received[0].form


def test_encryption_details_are_a_json_string(sim: Simulator, account: Account) -> None:
    """They are spelled otherwise than in the resource and mean the same."""
    made = sim.record(account.sid, encrypted=True)
    with receiver() as callback, Rest(sim, account) as rest:
        sim.send_callback(made, callback.url)
        resource = rest.get(f"Recordings/{made.sid}.json").json()["encryption_details"]
    details = json.loads(callback.received[0].form["EncryptionDetails"])
    assert details == {
        "type": resource["type"],
        "public_key_sid": resource["encryption_public_key_sid"],
        "encrypted_cek": resource["encryption_cek"],
        "iv": resource["encryption_iv"],
    }


def test_promoting_a_token_switches_signing_at_once(made: SimRecording, sim: Simulator) -> None:
    """The next callback is signed with the token that was secondary."""
    account = Account(auth_tokens=["old", "new"])
    with Simulator(accounts=[account]) as own, receiver() as callback:
        made = own.record(account.sid)
        own.send_callback(made, callback.url)
        own.promote_token(account)
        own.send_callback(made, callback.url)
    before, after = callback.received
    assert accepted(before, callback.url, "old")
    assert accepted(after, callback.url, "new")


def test_a_subaccounts_recording_is_signed_with_its_own_token() -> None:
    """The parent's token signs nothing of a subaccount."""
    parent = Account(auth_tokens=["parent"])
    sub = Account(auth_tokens=["sub"], parent=parent.sid)
    with Simulator(accounts=[parent, sub]) as sim, receiver() as callback:
        sim.send_callback(sim.record(sub.sid), callback.url)
    assert accepted(callback.received[0], callback.url, "sub")
    assert not accepted(callback.received[0], callback.url, "parent")


def test_any_token_may_sign(sim: Simulator, made: SimRecording) -> None:
    """A forged callback is one that is signed with another token."""
    with receiver() as callback:
        sim.send_callback(made, callback.url, token="forged")
    assert accepted(callback.received[0], callback.url, "forged")


def test_a_shared_key_signs_with_sha256(sim: Simulator, made: SimRecording) -> None:
    """The settings header names key and algorithm, and Twilio's validator accepts the signature."""
    with receiver() as callback:
        sim.send_callback(made, callback.url, shared_key="webhooks_sharedkey_1")
    (got,) = callback.received
    settings = got.headers["X-Twilio-Webhooks-Signature-Settings"]
    algorithm = get_signature_algorithm(settings)
    assert settings == "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"
    validator = RequestValidator("customer")
    assert validator.validate(callback.url, got.form, got.headers["X-Twilio-Signature"], algorithm)


@pytest.mark.parametrize("how", ["argument", "url"])
def test_basic_credentials_come_only_after_a_challenge(sim: Simulator, made: SimRecording, how: str) -> None:
    """First without, then, after a 401 that asks for Basic, the same again with credentials; never signed."""
    challenge = (401, {"WWW-Authenticate": 'Basic realm="archive"'})
    with receiver(challenge) as callback:
        url = callback.url if how == "argument" else callback.url.replace("//", "//user:p%40ss@")
        answer = sim.send_callback(made, url, basic=("user", "p@ss") if how == "argument" else None)
    first, second = callback.received
    assert (answer.status, answer.attempts) == (204, 1)
    assert "Authorization" not in first.headers
    assert second.headers["Authorization"] == "Basic dXNlcjpwQHNz"
    assert first.body == second.body
    assert accepted(second, callback.url, "primary")


@pytest.mark.parametrize("headers", [{}, {"WWW-Authenticate": "Basic"}, {"WWW-Authenticate": "Bearer realm=x"}])
def test_no_credentials_without_a_challenge(sim: Simulator, made: SimRecording, headers: dict[str, str]) -> None:
    """A 401 is final without a WWW-Authenticate that asks for Basic and names a realm."""
    with receiver((401, headers)) as callback:
        assert sim.send_callback(made, callback.url, basic=("user", "pass")).status == 401
    assert len(callback.received) == 1


def test_a_redirect_is_followed_with_get_and_loses_the_fields(sim: Simulator, made: SimRecording) -> None:
    """Twilio documents it so: never answer a callback with a redirect."""
    with receiver((301, {"Location": "/elsewhere"})) as callback:
        assert sim.send_callback(made, callback.url).status == 204
    first, second = callback.received
    assert (first.method, second.method, second.target, second.body) == ("POST", "GET", "/elsewhere", b"")


def test_a_server_error_is_not_retried_by_default(sim: Simulator, made: SimRecording) -> None:
    """A 5xx loses the event."""
    with receiver((503, {})) as callback:
        answer = sim.send_callback(made, callback.url)
    assert (answer.status, answer.attempts, len(callback.received)) == (503, 1, 1)


def test_the_fragment_asks_for_retries_and_is_neither_sent_nor_signed(sim: Simulator, made: SimRecording) -> None:
    """With #rc=5&rp=all a 5xx is retried under the same idempotency token."""
    with receiver((500, {}), (503, {}), (204, {})) as callback:
        answer = sim.send_callback(made, f"{callback.url}#rc=5&rp=all")
    assert (answer.status, answer.attempts) == (204, 3)
    assert {got.target for got in callback.received} == {"/callback"}
    assert len({got.headers["I-Twilio-Idempotency-Token"] for got in callback.received}) == 1
    assert all(accepted(got, callback.url, "primary") for got in callback.received)


@pytest.mark.parametrize(("fragment", "attempts"), [("", 2), ("#rc=0", 1), ("#rc=3", 4), ("#rc=3&rp=5xx", 1)])
def test_a_failed_connection_is_retried_once(sim: Simulator, made: SimRecording, fragment: str, attempts: int) -> None:
    """Only a failure to connect is retried by default, and once."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        answer = sim.send_callback(made, f"http://127.0.0.1:{closed.getsockname()[1]}/{fragment}")
    assert (answer.status, answer.error, answer.attempts) == (None, "ct", attempts)


def test_a_late_answer_is_given_up(sim: Simulator, made: SimRecording) -> None:
    """After the read timeout there is no answer and, by default, no retry."""
    with receiver(None) as callback:
        started = time.monotonic()
        answer = sim.send_callback(made, f"{callback.url}#rt=150")
        assert time.monotonic() - started < 5
    assert (answer.status, answer.error, answer.attempts) == (None, "rt", 1)


def test_the_total_time_bounds_all_retries(sim: Simulator, made: SimRecording) -> None:
    """However many retries are asked for, `tt` ends them."""
    with receiver(*[None] * 6) as callback:
        answer = sim.send_callback(made, f"{callback.url}#rc=5&rp=all&rt=200&tt=300")
    assert (answer.error, answer.attempts) == ("rt", 2)


def test_idempotency_tokens_tell_events_apart(sim: Simulator, made: SimRecording) -> None:
    """Two callbacks have two tokens; a duplicate can be given the same one."""
    with receiver() as callback:
        sim.send_callback(made, callback.url)
        sim.send_callback(made, callback.url)
        sim.send_callback(made, callback.url, idempotency_token="again")
    tokens = [got.headers["I-Twilio-Idempotency-Token"] for got in callback.received]
    assert len(set(tokens)) == 3
    assert tokens[2] == "again"


def test_callbacks_are_on_the_timeline_without_credentials(sim: Simulator, made: SimRecording) -> None:
    """Each exchange is an event with its answer, and nothing in it is a secret."""
    with receiver((401, {"WWW-Authenticate": "Basic realm=x"})) as callback:
        sim.send_callback(made, callback.url.replace("//", "//user:hunter2@"))
    assert [(event.kind, event.status) for event in sim.timeline] == [("callback", 401), ("callback", 204)]
    assert sim.timeline[0].recording_sid == made.sid
    assert "hunter2" not in repr(sim.timeline)
    assert "primary" not in repr(sim.timeline)


def test_a_completed_recording_announces_itself(sim: Simulator, account: Account) -> None:
    """In the background, by default only when it is completed."""
    with receiver() as callback:
        done = sim.record(account.sid, callback_url=callback.url)
        absent = sim.record(account.sid, callback_url=callback.url, status="absent", error_code=16101)
        later = sim.record(account.sid, callback_url=callback.url, status="processing")
        assert sim.wait_for_callbacks()
        assert [got.form["RecordingSid"] for got in callback.received] == [done.sid]
        sim.finish(later)
        assert sim.wait_for_callbacks()
    assert [got.form["RecordingSid"] for got in callback.received] == [done.sid, later.sid]
    assert absent.sid not in str(callback.received)


def test_other_events_are_announced_when_asked_for(sim: Simulator, account: Account) -> None:
    """`absent` comes with its code, and `failed` is a status of callbacks only."""
    with receiver() as callback:
        for status, code in (("absent", 16101), ("failed", 16104)):
            sim.record(
                account.sid,
                callback_url=callback.url,
                callback_events=("absent", "failed"),
                status=status,
                error_code=code,
            )
        assert sim.wait_for_callbacks()
    got = {each.form["RecordingStatus"]: each.form["ErrorCode"] for each in callback.received}
    assert got == {"absent": "16101", "failed": "16104"}


def test_trunking_sends_no_callback(sim: Simulator, account: Account) -> None:
    """Elastic SIP Trunking recordings announce nothing, and nor does one without a URL."""
    with receiver() as callback:
        sim.record(account.sid, "trunk", callback_url=callback.url)
        sim.record(account.sid)
        assert sim.wait_for_callbacks()
    assert callback.received == []


def test_a_recording_started_through_rest_calls_back(sim: Simulator, account: Account) -> None:
    """With the events and the method that the request asked for."""
    call = sim.place_call(account.sid)
    with receiver() as callback:
        live = sdk(sim, account).calls(call.sid).recordings
        live.create(
            recording_status_callback=f"{callback.url}?own=1",
            recording_status_callback_method="GET",
            recording_status_callback_event=["in-progress", "completed"],
        )
        assert sim.wait_for_callbacks()
        live("Twilio.CURRENT").update(status="stopped")
        assert sim.wait_for_callbacks()
    queries = [dict(parse_qsl(urlsplit(got.target).query)) for got in callback.received]
    assert [query["RecordingStatus"] for query in queries] == ["in-progress", "completed"]
    assert all(got.method == "GET" for got in callback.received)
    assert all(query["own"] == "1" for query in queries)


@pytest.fixture
def unfinished(sim: Simulator, account: Account) -> Iterator[tuple[SimRecording, Receiver]]:
    """A recording in progress, and the callback URL that hears of its end."""
    with receiver() as callback:
        yield sim.record(account.sid, status="in-progress", callback_url=callback.url), callback


def test_a_callback_may_be_lost(sim: Simulator, unfinished: tuple[SimRecording, Receiver]) -> None:
    """Nothing is ever sent."""
    made, callback = unfinished
    sim.inject(LostCallback(), made.sid)
    sim.finish(made)
    assert sim.wait_for_callbacks()
    assert callback.received == []


def test_a_callback_may_come_several_times(sim: Simulator, unfinished: tuple[SimRecording, Receiver]) -> None:
    """Each copy is an event of its own."""
    made, callback = unfinished
    sim.inject(RepeatedCallback(3), match=Match(method="POST"))
    sim.finish(made)
    assert sim.wait_for_callbacks()
    assert len({got.headers["I-Twilio-Idempotency-Token"] for got in callback.received}) == 3


def test_a_callback_may_come_late(sim: Simulator, unfinished: tuple[SimRecording, Receiver]) -> None:
    """It waits until it is released, and the REST API is ahead of it."""
    made, callback = unfinished
    late = sim.inject(DelayedCallback(), made.sid)
    sim.finish(made)
    assert not sim.wait_for_callbacks(0.02)
    assert callback.received == []
    late.release()
    assert sim.wait_for_callbacks()
    assert [got.form["RecordingSid"] for got in callback.received] == [made.sid]


def test_nothing_is_sent_after_the_end(account: Account) -> None:
    """A callback that is still held up when the simulator stops is never sent: it would meet whoever comes next."""
    with receiver() as callback:
        with Simulator(accounts=[account]) as sim:
            sim.inject(DelayedCallback())
            sim.record(account.sid, callback_url=callback.url)
            assert not sim.wait_for_callbacks(0.02)
        assert sim.wait_for_callbacks()
        assert callback.received == []
