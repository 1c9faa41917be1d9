"""The callback endpoint over HTTP: which requests it takes, and what it says to the others."""

import base64
import hashlib
import hmac
import json
import secrets
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from deploy.local.servers import RedisServer, S3Server
from deploy.local.twilio import Account
from deploy.local.twilio.callbacks import Key
from tests.integration.callback_tools import (
    FORM,
    JSON,
    PATH,
    PUBLIC_URL,
    Answer,
    Web,
    callback,
    fields_of,
    json_callback,
    query_callback,
    request,
    web_process,
)

TOKEN, SECOND, SUB_TOKEN = "first-token", "second-token", "sub-token"
MAIN = Account(sid="AC" + "a1" * 16, auth_tokens=[TOKEN, SECOND])
SUB = Account(sid="AC" + "b2" * 16, auth_tokens=[SUB_TOKEN], shared_keys={"key-1": "customer-secret"}, parent=MAIN.sid)
USERNAME, PASSWORD = "twilio", "pässword: with colon"


@pytest.fixture(scope="module")
def web(redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> Iterator[Web]:
    """Return the endpoint with two accounts."""
    with web_process([MAIN, SUB], redis_server, s3_server, database=next(databases)) as web:
        yield web


@pytest.fixture(scope="module")
def guarded(redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> Iterator[Web]:
    """Return the endpoint behind HTTP Basic."""
    settings = {"WEBHOOK_USERNAME": USERNAME, "WEBHOOK_PASSWORD": PASSWORD}
    with web_process([MAIN], redis_server, s3_server, database=next(databases), **settings) as web:
        yield web


@pytest.fixture
def recording_sid() -> str:
    return f"RE{secrets.token_hex(16)}"


def send(web: Web, data: bytes, method: str = "POST", *, half_close: bool = False) -> Answer:
    with web.wire() as wire:
        answer = wire.send(data, method=method, half_close=half_close)
    assert answer is not None
    assert answer.headers.get("server") in (None, "gunicorn")  # no version
    assert "location" not in answer.headers
    return answer


def basic(username: str, password: str) -> dict[str, str | None]:
    return {"Authorization": f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"}


# Methods, paths and redirects


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "BREW", "PROPFIND"])
@pytest.mark.parametrize("path", [PATH, f"{PATH}/"])
def test_other_methods_are_refused(web: Web, method: str, path: str) -> None:
    """Whatever is not POST or GET is answered with 405 and both names."""
    answer = send(web, request(path, method=method), method)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, POST"
    if method != "HEAD":
        assert answer.problem()["detail"] == "use POST or GET"


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "//",
        f"{PATH}//",
        f"{PATH}/more",
        f"/x/..{PATH}",
        "/healthz/",
        "/readyz/",
        "/metrics/",
        "//evil.example.com/..%2f",
        "/%2e%2e",
        "*",
        "evil.example.com:443",
        "http://evil.example.com",
        "http://evil.example.com/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_paths_are_not_found(web: Web, target: str, method: str) -> None:
    """What is not the endpoint is no resource, however near it comes; there is never a redirect."""
    answer = send(web, request(target, method=method, headers={"Content-Length": "0"}))
    assert answer.status in (400, 404)
    answer.problem()


@pytest.mark.parametrize(
    "target", [f"{PATH}/", f"/{PATH}", f"{PATH}?", f"{PATH}?a=%2F&b=%20&%C3%BC=+", "/recording%2Dstatus"]
)
def test_the_target_is_signed_as_it_was_sent(web: Web, recording_sid: str, target: str) -> None:
    """A slash too many, a lonely question mark and escapes are neither changed nor answered with a redirect."""
    fields = fields_of(MAIN.sid, recording_sid)
    plain = callback(fields, TOKEN)
    signed = Key(TOKEN).headers(PUBLIC_URL + target, list(fields.items()))
    body = plain.partition(b"\r\n\r\n")[2]
    assert send(web, request(target, body=body, headers={"Content-Type": FORM, **signed})).status == 204
    elsewhere = Key(TOKEN).headers(PUBLIC_URL + PATH, list(fields.items()))
    assert send(web, request(target, body=body, headers={"Content-Type": FORM, **elsewhere})).status == 403


def test_a_whole_url_as_target_is_its_path(web: Web, recording_sid: str) -> None:
    """A proxy may send the whole URL as the request's target; its host decides nothing."""
    data = callback(fields_of(MAIN.sid, recording_sid), TOKEN)
    whole = data.replace(b"POST /", b"POST HTTP://evil.example.com:81/", 1)
    assert send(web, whole).status == 204


# What is accepted


def test_the_message_holds_what_twilio_documents(web: Web, recording_sid: str) -> None:
    """SIDs, documented fields, names of unknown ones, the arrival time and the token reach the queue, nothing else."""
    web.queued()
    documented = fields_of(MAIN.sid, recording_sid, "absent", ErrorCode="16101", CallSid="CA" + "0" * 32)
    data = callback(
        documented | {"From": "+15550001111", "Zebra": "stripes"},
        SECOND,
        query="?tenant=1",
        headers={"I-Twilio-Idempotency-Token": "event-1"},
    )
    assert send(web, data).status == 204
    (message,) = web.queued()
    received_at = message["callback"].pop("received_at")
    assert received_at.endswith("Z")
    assert message == {
        "account_sid": MAIN.sid,
        "recording_sid": recording_sid,
        "callback": documented,
        "unknown_names": ["From", "Zebra"],
        "idempotency_token": "event-1",
    }


@pytest.mark.parametrize("status", ["in-progress", "paused", "resumed", "started", "stopped", "something-new"])
def test_statuses_that_end_nothing_are_acknowledged(web: Web, recording_sid: str, status: str) -> None:
    """A status that is not final is acknowledged, and nothing is enqueued."""
    web.queued()
    assert send(web, callback(fields_of(MAIN.sid, recording_sid, status), TOKEN)).status == 204
    assert web.queued() == []


@pytest.mark.parametrize("status", ["completed", "absent", "failed"])
def test_final_statuses_are_enqueued(web: Web, recording_sid: str, status: str) -> None:
    """Each final status is enqueued with that status."""
    web.queued()
    assert send(web, callback(fields_of(MAIN.sid, recording_sid, status), TOKEN)).status == 204
    (message,) = web.queued()
    assert (message["recording_sid"], message["callback"]["RecordingStatus"]) == (recording_sid, status)


@pytest.mark.parametrize("framing", ["length", "chunked", "chunked with a trailer", "expecting 100-continue"])
def test_every_framing_of_a_body_is_taken(web: Web, recording_sid: str, framing: str) -> None:
    """A proxy may send the body with its length, in chunks, or after it was invited to."""
    data = callback(fields_of(MAIN.sid, recording_sid), TOKEN)
    head, _, body = data.partition(b"\r\n\r\n")
    if framing.startswith("chunked"):
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        head = b"\r\n".join([*lines, b"Transfer-Encoding: chunked"])
        end = b"0\r\nX-Sum: 1\r\n\r\n" if "trailer" in framing else b"0\r\n\r\n"
        body = b"5;x=y\r\n%b\r\n%X\r\n%b\r\n" % (body[:5], len(body) - 5, body[5:]) + end
    if framing.startswith("expecting"):
        head += b"\r\nExpect: 100-continue"
    assert send(web, head + b"\r\n\r\n" + body).status == 204


def test_a_body_that_waits_to_be_invited_is_invited(web: Web, recording_sid: str) -> None:
    """With `Expect: 100-continue` a client may hold its body back until it is asked for."""
    head, _, body = callback(
        fields_of(MAIN.sid, recording_sid), TOKEN, headers={"Expect": "100-Continue", "Connection": "close"}
    ).partition(b"\r\n\r\n")
    with web.wire() as wire:
        connection = wire.connect()
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(1024).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(body)
        answer = b"".join(iter(lambda: connection.recv(1024), b""))
    assert answer.startswith(b"HTTP/1.1 204 ")


def test_nobody_is_invited_in_vain(web: Web) -> None:
    """A body that has come, or that would be refused for its size, is not asked for."""
    expecting = {"Content-Type": FORM, "Expect": "100-continue", "Connection": "close"}
    for data, status in (
        (request(PATH, headers=expecting, body=b"a=b"), b"403"),
        (request(PATH, headers=expecting | {"Content-Length": "65537"}), b"413"),
    ):
        with web.wire() as wire:
            wire.connect().sendall(data)
            answer = b"".join(iter(lambda: wire.connect().recv(1024), b""))
        assert answer.startswith(b"HTTP/1.1 %b " % status)


def test_requests_that_come_together_are_all_answered(web: Web) -> None:
    """A client may send its requests at once and close its side, and still gets every answer in turn."""
    recording_sids = [f"RE{secrets.token_hex(16)}" for _ in range(20)]
    web.queued()
    with web.wire() as wire:
        connection = wire.connect()
        connection.sendall(b"".join(callback(fields_of(MAIN.sid, sid), TOKEN) for sid in recording_sids))
        connection.shutdown(socket.SHUT_WR)
        answers = b"".join(iter(lambda: connection.recv(1024), b""))
    assert answers.count(b"HTTP/1.1 204 ") == len(recording_sids)
    assert [message["recording_sid"] for message in web.queued()] == recording_sids


def test_a_shared_key_is_accepted_for_its_account_only(web: Web, recording_sid: str) -> None:
    """HMAC-SHA256 with the announced shared key is accepted, for the account that has the key."""
    for account_sid, status in ((SUB.sid, 204), (MAIN.sid, 403)):
        fields = fields_of(account_sid, recording_sid)
        signed = Key("customer-secret", "key-1").headers(PUBLIC_URL + PATH, list(fields.items()))
        assert send(web, callback(fields, "unused", headers=dict(signed))).status == status


@pytest.mark.parametrize(("account_sid", "token"), [(MAIN.sid, SUB_TOKEN), (SUB.sid, TOKEN), (SUB.sid, SECOND)])
def test_an_account_is_signed_for_by_its_own_tokens(web: Web, recording_sid: str, account_sid: str, token: str) -> None:
    """The token of one configured account signs nothing for another."""
    assert send(web, callback(fields_of(account_sid, recording_sid), token)).status == 403


@pytest.mark.parametrize("account_sid", ["AC" + "c3" * 16, MAIN.sid.upper(), MAIN.sid[:-1], "", f"{MAIN.sid}\n"])
def test_an_account_that_is_not_configured_is_refused(web: Web, recording_sid: str, account_sid: str) -> None:
    """A signature for any other account is refused, even one by a known token."""
    web.queued()
    answer = send(web, callback(fields_of(account_sid, recording_sid), TOKEN))
    assert (answer.status, answer.problem()["field"]) == (403, "X-Twilio-Signature")
    assert web.queued() == []


# JSON


def test_json_values_of_other_types_are_taken(web: Web, recording_sid: str) -> None:
    """Numbers, null and objects arrive as the text that a form would hold."""
    web.queued()
    details = {"type": "rsa-aes", "encrypted_cek": "a+/=", "nested": [{"deep": None}]}
    body = fields_of(MAIN.sid, recording_sid) | {
        "ErrorCode": 0,
        "RecordingDuration": 12,
        "RecordingChannels": 2.0,
        "ConferenceSid": None,
        "EncryptionDetails": details,
        "NewObject": {"a": [1, 2]},
        "NewFlag": True,
    }
    assert send(web, json_callback(json.dumps(body, indent=1).encode(), TOKEN)).status == 204
    (message,) = web.queued()
    taken = message["callback"]
    assert (taken["ErrorCode"], taken["RecordingDuration"], taken["RecordingChannels"]) == ("0", "12", "2.0")
    assert taken["ConferenceSid"] == ""
    assert json.loads(taken["EncryptionDetails"]) == details
    assert message["unknown_names"] == ["NewFlag", "NewObject"]


def members(more: str) -> str:
    """Return a JSON object with the fields that are always there, and more."""
    return json.dumps(fields_of(MAIN.sid, "RE" + "0" * 32))[:-1] + more


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (members(f', "RecordingSid": "RE{"1" * 32}"}}'), 400),
        (members(', "x": 1, "x": 1}'), 400),
        (members(f', "x": {"[" * 500}{"]" * 500}}}'), 204),
        (members(f', "x": {"[" * 30_000}{"]" * 30_000}}}'), 403),
        (members(', "x": "\\ud800"}'), 403),
        (members(', "x": NaN, "y": -Infinity, "z": 1e999}'), 204),
        (members(f', "x": {"9" * 5000}}}'), 403),
        (members(', "RecordingDuration": {"a": 1, "a": 2}}'), 204),
        (members(""), 403),
        (json.dumps({"AccountSid": MAIN.sid, "RecordingSid": 1, "RecordingStatus": "completed"}), 400),
        (json.dumps({"AccountSid": MAIN.sid, "RecordingSid": "RE" + "0" * 32, "RecordingStatus": ["completed"]}), 400),
        (json.dumps({"AccountSid": [MAIN.sid], "RecordingSid": "RE" + "0" * 32, "RecordingStatus": "completed"}), 403),
        (json.dumps([["AccountSid", MAIN.sid], ["RecordingSid", "RE" + "0" * 32], ["RecordingStatus", "absent"]]), 403),
        ("", 403),
        ("null", 403),
        ("[]", 403),
        ("{}", 403),
    ],
    ids=lambda value: str(value)[-24:],
)
def test_odd_json_is_judged(web: Web, body: str, status: int) -> None:
    """Signed JSON that is broken, repeated, nested or of other types is taken or refused, and never a fault."""
    assert send(web, json_callback(body.encode(), TOKEN)).status == status


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_json_in_another_encoding_is_no_fault(web: Web, recording_sid: str, encoding: str) -> None:
    """Whatever the encoding of signed JSON, the answer is about the request."""
    body = json.dumps(fields_of(MAIN.sid, recording_sid) | {"x": "ü"}, ensure_ascii=False).encode(encoding)
    assert send(web, json_callback(body, TOKEN)).status in (204, 403)


def test_json_needs_its_digest(web: Web, recording_sid: str) -> None:
    """A JSON body whose digest is missing, wrong or given twice is refused whatever the signature."""
    body = json.dumps(fields_of(MAIN.sid, recording_sid)).encode()
    digest = json_callback(body, TOKEN).split(b"bodySHA256=")[1][:64].decode()
    for query in ("", f"?bodySHA256={'0' * 64}", f"?bodySHA256={digest}&bodySHA256={digest}", f"?bodysha256={digest}"):
        signed = Key(TOKEN).headers(f"{PUBLIC_URL}{PATH}{query}")
        data = request(PATH + query, body=body, headers={"Content-Type": "application/json", **signed})
        assert send(web, data).status == 403


# What is refused, and how


def test_recut_fields_are_refused(web: Web, recording_sid: str) -> None:
    """What was signed for one recording or status can't be cut into another, under the same signature."""
    genuine = fields_of(MAIN.sid, recording_sid, CallerName=f"RecordingSidRE{'9' * 32}", RecordingTrack="both")
    signed = Key(TOKEN).headers(PUBLIC_URL + PATH, list(genuine.items()))
    recut = [
        # The forged SID is cut from a caller's name, the genuine one becomes part of an unknown field.
        {
            "AccountSid": MAIN.sid,
            "CallerName": "",
            "RecordingSid": f"RE{'9' * 32}",
            f"RecordingSid{recording_sid}": "RecordingStatuscompletedRecordingTrackboth",
        },
        # The status loses its end to the name that follows.
        genuine | {"RecordingStatus": "complete", "RecordingTrack": None, "dRecordingTrack": "both"},
    ]
    web.queued()
    for fields in recut:
        kept = {name: value for name, value in fields.items() if value is not None}
        again = Key(TOKEN).headers(PUBLIC_URL + PATH, list(kept.items()))
        assert again == signed
        answer = send(web, callback(kept, TOKEN))
        assert (answer.status, answer.problem()["field"]) == (403, "body")
    assert web.queued() == []


@pytest.mark.parametrize("method", ["GET", "JSON"])
def test_a_form_can_not_be_sent_as_something_else(web: Web, recording_sid: str, method: str) -> None:
    """What was signed as a form can't be moved into the query, where text of a field could pass as other fields."""
    forged = fields_of(MAIN.sid, f"RE{'9' * 32}")
    body = json.dumps(forged).encode()
    text = {"GET": urlencode(forged), "JSON": f"bodySHA256={hashlib.sha256(body).hexdigest()}"}[method]
    genuine = fields_of(MAIN.sid, recording_sid, CallerName=f"&{text}&")
    signed = Key(TOKEN).headers(f"{PUBLIC_URL}{PATH}?tenant=1", list(genuine.items()))
    target = f"{PATH}?tenant=1" + "".join(name + value for name, value in sorted(genuine.items()))
    assert Key(TOKEN).headers(PUBLIC_URL + target) == signed
    web.queued()
    if method == "GET":
        answer = send(web, request(target, method="GET", headers=signed))
    else:
        answer = send(web, request(target, body=body, headers={"Content-Type": JSON, **signed}))
    assert (answer.status, answer.problem()["field"]) == (403, "body")
    assert web.queued() == []


def test_new_names_of_twilio_are_no_forgery(web: Web, recording_sid: str) -> None:
    """A field whose name begins like a known one is an unknown field like any other."""
    more = {"RecordingSidOfParent": "", "RecordingStatusCallbackEvent": "completed", "RecordingStatusText": "RE1"}
    for data in (
        callback(fields_of(MAIN.sid, recording_sid, **more), TOKEN),
        json_callback(json.dumps(fields_of(MAIN.sid, recording_sid, **more)).encode(), TOKEN),
        query_callback(fields_of(MAIN.sid, recording_sid, **more), TOKEN),
    ):
        assert send(web, data).status == 204


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"RecordingSid": "RE" + "g" * 32}, "RecordingSid"),
        ({"RecordingSid": f"RE{'0' * 32}\n"}, "RecordingSid"),
        ({"RecordingSid": ""}, "RecordingSid"),
        ({"CallSid": "CA1"}, "CallSid"),
        ({"ConferenceSid": "RE" + "0" * 32}, "ConferenceSid"),
        ({"RecordingStatus": ""}, "RecordingStatus"),
        ({"RecordingStatus": "Completed"}, "RecordingStatus"),
        ({"RecordingStatus": "x" * 33}, "RecordingStatus"),
        ({"RecordingUrl": "x" * 5000}, "RecordingUrl"),
        ({f"F{number}": "" for number in range(300)}, "body"),
    ],
)
def test_malformed_fields_are_named(web: Web, change: dict[str, str], field: str) -> None:
    """A signed callback with a malformed field is refused with the field's name, and never with its value."""
    fields = fields_of(MAIN.sid, "RE" + "0" * 32) | change
    answer = send(web, callback(fields, TOKEN))
    assert (answer.status, answer.problem()["field"]) == (400, field)
    assert not any(value.encode() in answer.body for value in change.values() if value)


def test_a_repeated_field_is_refused(web: Web, recording_sid: str) -> None:
    """A name that is given twice is refused, with equal values as well, which the signature doesn't tell apart."""
    for second in (recording_sid, "RE" + "7" * 32):
        pairs = [*fields_of(MAIN.sid, recording_sid).items(), ("RecordingSid", second)]
        answer = send(web, callback(pairs, TOKEN))
        assert answer.status in (400, 403)
        answer.problem()


def test_fields_that_are_no_text_are_refused(web: Web, recording_sid: str) -> None:
    """Signed bytes that are no UTF-8 are a malformed body."""
    body = callback(fields_of(MAIN.sid, recording_sid), TOKEN).partition(b"\r\n\r\n")[2] + b"&Zebra=%FF\xfe"
    signature = signature_of_bytes(TOKEN, MAIN.sid, recording_sid, b"Zebra\xff\xfe")
    headers = {"Content-Type": FORM, "X-Twilio-Signature": signature}
    answer = send(web, request(PATH, body=body, headers=headers))
    assert (answer.status, answer.problem()["detail"]) == (400, "must be UTF-8")


def signature_of_bytes(token: str, account_sid: str, recording_sid: str, more: bytes) -> str:
    signed = f"{PUBLIC_URL}{PATH}AccountSid{account_sid}RecordingSid{recording_sid}RecordingStatuscompleted"
    return base64.b64encode(hmac.new(token.encode(), signed.encode() + more, hashlib.sha1).digest()).decode()


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "multipart/form-data; boundary=x", "application/xml"])
def test_other_content_types_are_refused(web: Web, content_type: str | None) -> None:
    """A body that is neither form nor JSON is answered with 415."""
    data = callback(fields_of(MAIN.sid, "RE" + "0" * 32), TOKEN, headers={"Content-Type": content_type})
    answer = send(web, data)
    assert (answer.status, answer.problem()["field"]) == (415, "Content-Type")


@pytest.mark.parametrize(
    "content_type", ["APPLICATION/x-www-form-urlencoded", f"{FORM}; charset=utf-8", f"{FORM} ;x=y"]
)
def test_content_types_are_read_as_http_says(web: Web, recording_sid: str, content_type: str) -> None:
    """Case and parameters of the content type don't matter."""
    data = callback(fields_of(MAIN.sid, recording_sid), TOKEN, headers={"Content-Type": content_type})
    assert send(web, data).status == 204


@pytest.mark.parametrize("announced", [65_537, 10_000_000, 10**17])
def test_a_body_that_is_too_large_is_refused_at_once(web: Web, announced: int) -> None:
    """More than 64 KiB are refused before they have come."""
    data = request(PATH, body=b"AccountSid=", headers={"Content-Type": FORM, "Content-Length": str(announced)})
    answer = send(web, data)
    assert answer.status == 413
    answer.problem()


def test_a_chunked_body_that_is_too_large_is_refused(web: Web) -> None:
    """Without an announced length as well, 64 KiB are the limit."""
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    headers = {"Content-Type": FORM, "Transfer-Encoding": "chunked"}
    assert send(web, request(PATH, headers=headers) + chunk * 3 + b"0\r\n\r\n").status == 413


def test_64_kib_are_taken(web: Web, recording_sid: str) -> None:
    """A body of exactly 64 KiB is read, and judged by its fields."""
    fields = fields_of(MAIN.sid, recording_sid)
    size = len(callback(fields, TOKEN).partition(b"\r\n\r\n")[2])
    full = fields | {"Zebra": "z" * (65_536 - size - len("&Zebra="))}
    assert send(web, callback(full, TOKEN)).status == 204
    assert send(web, callback(full | {"Zebra": full["Zebra"] + "z"}, TOKEN)).status == 413


@pytest.mark.parametrize(
    "chunks", [b"g\r\n", b"5\r\nab", b"2\r\nabX", b"-1\r\n\r\n", b"ffffffffffffffffff\r\n", b"1;\r\n\r\n"]
)
def test_broken_chunks_are_refused(web: Web, chunks: bytes) -> None:
    """A chunked body that breaks off or breaks the rules is a bad request, or no request at all."""
    data = request(PATH, headers={"Content-Type": FORM, "Transfer-Encoding": "chunked"}) + chunks
    with web.wire() as wire:
        answer = wire.send(data + b"\r\n0\r\n\r\n", half_close=True)
    assert answer is None or answer.status == 400


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /healthz?planted HTTP/9.9\r\n\r\n", 400),
        (b"GET /healthz?planted planted HTTP/1.1\r\n\r\n", 400),
        (b"get /healthz?planted HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nplanted\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nplan(ted: 1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nA: 1\r\n planted\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: planted\r\nHost: planted\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nA: planted\x00\r\n\r\n", 400),
        (b"GET /\xfcplanted HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: planted\r\n\r\n", 400),
        (b"POST /healthz HTTP/1.1\r\nContent-Length: planted\r\n\r\n", 400),
        (b"POST /healthz HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx", 400),
        (b"GET /healthz HTTP/1.1\r\nExpect: planted\r\n\r\n", 417),
        (b"GET /" + b"planted" * 1400 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /healthz HTTP/1.1\r\nA: " + b"planted" * 1400 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\n" + b"planted: 1\r\n" * 70 + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\nplanted: 1\n\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03planted\r\n\r\n", 400),
    ],
)
def test_what_is_no_http_is_refused_without_an_echo(web: Web, data: bytes, status: int) -> None:
    """Broken HTTP is answered with a problem; neither it nor the log repeats anything of the request."""
    answer = send(web, data, half_close=True)
    assert answer.status == status
    answer.problem()
    assert b"planted" not in answer.body
    assert "planted" not in web.log()


@pytest.mark.parametrize("name", ["Script_Name", "SCRIPT_NAME", "Path_Info", "X-Forwarded-Protocol", "X-Forwarded-Ssl"])
def test_no_header_moves_the_application(web: Web, name: str) -> None:
    """Headers with which proxies speak to other servers have no effect, not even an error."""
    data = request("/healthz", method="GET", headers={name: "/evil"})
    assert send(web, data).status == 200 if "_" not in name else send(web, data).status in (200, 400)


# HTTP Basic


def test_basic_is_asked_for_first(guarded: Web, recording_sid: str) -> None:
    """As Twilio does it: the call without credentials is answered with 401, its repetition with them is accepted."""
    guarded.queued()
    answer = send(guarded, callback(fields_of(MAIN.sid, recording_sid), TOKEN))
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic realm=")
    answer.problem()
    assert guarded.queued() == []
    data = callback(fields_of(MAIN.sid, recording_sid), TOKEN, headers=basic(USERNAME, PASSWORD))
    assert send(guarded, data).status == 204
    assert len(guarded.queued()) == 1


@pytest.mark.parametrize("method", ["POST", "GET", "JSON"])
def test_the_simulated_twilio_passes_basic(guarded: Web, method: str) -> None:
    """Twilio's own sequence of calls ends with the callback accepted."""
    recording = guarded.stack.simulator.record(MAIN.sid)
    answer = guarded.stack.simulator.send_callback(
        recording,
        guarded.stack.callback_url,
        method,
        public_url=PUBLIC_URL + PATH,
        basic=(USERNAME, PASSWORD),
    )
    assert answer.status == 204


@pytest.mark.parametrize(
    "headers",
    [
        basic(USERNAME, "wrong"),
        basic("wrong", PASSWORD),
        basic(USERNAME, ""),
        basic("", ""),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic \xff"},
        {"Authorization": f"Basic {base64.b64encode(bytes([255, 254, 58, 255])).decode()}"},
        {"Authorization": "Bearer x"},
        {"Authorization": "Digest username=twilio"},
    ],
)
def test_wrong_credentials_are_an_alarm(guarded: Web, recording_sid: str, headers: dict[str, str | None]) -> None:
    """Wrong credentials are refused and logged as a warning; a signature doesn't replace them."""
    before = len(lines(guarded, "credentials_wrong"))
    assert send(guarded, callback(fields_of(MAIN.sid, recording_sid), TOKEN, headers=headers)).status == 401
    new = lines(guarded, "credentials_wrong")[before:]
    assert [line["level"] for line in new] == ["warning"]


def test_the_first_401_is_no_alarm(guarded: Web, recording_sid: str) -> None:
    """A call without credentials is how Twilio begins: it is logged, but not as a warning."""
    before = len(lines(guarded, "credentials_asked"))
    assert send(guarded, callback(fields_of(MAIN.sid, recording_sid), TOKEN)).status == 401
    new = lines(guarded, "credentials_asked")[before:]
    assert [line["level"] for line in new] == ["info"]


def test_credentials_come_before_the_signature(guarded: Web) -> None:
    """Who has no credentials learns nothing about signature, account or fields."""
    bodies = [
        callback(fields_of(MAIN.sid, "RE1"), TOKEN),
        callback(fields_of("AC1", "RE1"), "wrong"),
        json_callback(b"{", TOKEN),
    ]
    answers = [send(guarded, data) for data in bodies]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1


def lines(web: Web, outcome: str) -> list[dict[str, Any]]:
    """Return the log's lines about callbacks with an outcome."""
    read = [json.loads(line) for line in web.log().splitlines() if '"callback_answered"' in line]
    return [line for line in read if line["outcome"] == outcome]


# The log


def test_one_line_per_callback(web: Web, recording_sid: str) -> None:
    """Each callback is one line with its SIDs, outcome and milliseconds."""
    send(web, callback(fields_of(MAIN.sid, recording_sid), TOKEN))
    (line,) = [each for each in lines(web, "enqueued") if each["recording_sid"] == recording_sid]
    assert (line["level"], line["status"], line["account_sid"]) == ("info", 204, MAIN.sid)
    assert 0 < line["ms"] < 2000
    assert set(line) == {"event", "level", "at", "outcome", "status", "ms", "account_sid", "recording_sid"}
