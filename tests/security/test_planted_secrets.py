"""Nothing that the web process puts out holds a secret or a phone number, whatever it is sent."""

import base64
import json
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.twilio import Account
from tests.integration.callback_tools import (
    FORM,
    PATH,
    PUBLIC_URL,
    Answer,
    Web,
    callback,
    fields_of,
    json_callback,
    request,
    web_process,
)
from tests.output import Output

TOKENS = ["planted-old-token", "planted-new-token"]
TOKEN = TOKENS[1]
BASIC = {"Authorization": f"Basic {base64.b64encode(b'twilio:planted-basic-password').decode()}"}
WRONG = {"Authorization": f"Basic {base64.b64encode(b'twilio:planted-wrong-password').decode()}"}
MAIN = Account(sid="AC" + "a1" * 16, auth_tokens=TOKENS, api_keys={"SK" + "5e" * 16: "planted-api-secret"})
SUB = Account(sid="AC" + "b2" * 16, auth_tokens=["planted-new-token"], shared_keys={"key-1": "planted-shared-key"})
RECORDING = "RE" + "0c" * 16
PEOPLE = {
    "From": "+15550001111",
    "To": "sip:+15550002222@example.com",
    "Caller": "planted-text",
    "+15550001111": "name and value changed places",
    "CallerCity": "(555) 000-3333 5550003333",
}
HEADERS = {
    "User-Agent": "planted-text/+15550001111",
    "Referer": "https://example.com/?phone=+15550001111",
    "X-Phone": "+15550001111",
    "X-Forwarded-For": "15550001111",
    "Cookie": "session=planted-text",
    "I-Twilio-Idempotency-Token": "+15550001111",
}


def requests() -> Iterator[tuple[str, bytes]]:
    """Yield requests with secrets and numbers wherever they fit, and the method of each."""
    genuine = fields_of(MAIN.sid, RECORDING, CallSid="CA" + "1" * 32) | PEOPLE
    headers = HEADERS | BASIC
    query = f"?{urlencode({'phone': '+15550001111', 'text': 'planted-text'})}"
    yield "POST", callback(genuine, TOKEN, query=query, headers=headers)
    yield "POST", callback(genuine | {"RecordingStatus": "in-progress"}, TOKEN, headers=headers)
    yield "POST", callback(genuine | {"AccountSid": SUB.sid}, TOKEN, headers=headers)
    yield "POST", json_callback(json.dumps(genuine | {"Nested": PEOPLE}).encode(), TOKEN, headers=headers)
    yield "POST", json_callback(json.dumps(genuine).encode()[:-9], TOKEN, headers=headers)
    yield "POST", callback(genuine, "planted-text", headers=headers)
    yield "POST", callback(genuine, TOKEN, headers=HEADERS)
    yield "POST", callback(genuine, TOKEN, headers=HEADERS | WRONG)
    yield "POST", callback([*genuine.items(), *genuine.items(), ("From", "+15550002222")], TOKEN, headers=headers)
    for name in ("AccountSid", "CallSid", "ConferenceSid", "RecordingSid", "RecordingStatus"):
        for value in ("+15550001111", "planted-text", "planted-text" * 1000):
            yield "POST", callback(genuine | {name: value}, TOKEN, headers=headers)
    body = urlencode(genuine).encode()
    yield "POST", request(PATH, body=body + b"&planted-text=%ff", headers=headers | {"Content-Type": FORM})
    yield "POST", request(PATH, body=body, headers=headers | {"Content-Type": "planted-text/+15550001111"})
    yield "POST", request(PATH, body=body * 500, headers=headers | {"Content-Type": FORM})
    for method in ("GET", "PUT", "HEAD", "OPTIONS", "TRACE", "PLANTED-TEXT"):
        yield method, request(f"{PATH}{query}", method=method, headers=headers)
    yield "GET", request(f"/planted-text/+15550001111{query}", method="GET", headers=headers)
    yield "GET", request(f"/healthz{query}", method="GET", headers=headers)
    for line in ("GET /?+15550001111 planted-text HTTP/1.1", "planted-text +15550001111 HTTP/1.1", "15550001111"):
        yield "GET", f"{line}\r\nAuthorization planted-text\r\nX-Phone : +15550001111\r\n\r\n".encode()
    yield "GET", b"GET / HTTP/1.1\r\nplanted-text +15550001111\r\n\r\n"
    yield "GET", b"GET / HTTP/1.1\r\nTransfer-Encoding: planted-text\r\n\r\n"
    yield (
        "POST",
        request(PATH, headers=headers | {"Content-Type": FORM, "Transfer-Encoding": "chunked"}) + b"planted-text\r\n",
    )


def send(web: Web, data: bytes, method: str) -> Answer | None:
    with web.wire() as wire:
        return wire.send(data, method=method, half_close=True)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_gets_out(s3_server: S3Server, log_format: str) -> None:
    """Logs at level debug, metrics, answers and all that ever was in Redis are free of them, in an outage as well."""
    settings = {
        "LOG_FORMAT": log_format,
        "LOG_LEVEL": "debug",
        "PUBLIC_URL": PUBLIC_URL.replace("://", "://twilio:planted-url-password@"),
        "WEBHOOK_USERNAME": "twilio",
        "WEBHOOK_PASSWORD": "planted-basic-password",
    }
    output = Output()
    with (
        RedisServer(password="planted-redis-password") as redis_server,
        web_process([MAIN, SUB], redis_server, s3_server, **settings) as web,
    ):
        in_service = [send(web, data, method) for method, data in requests()]
        redis_server.kill()
        in_outage = [send(web, data, method) for method, data in requests()]
        about = [web.get(path) for path in ("/metrics", "/readyz", "/healthz")]
        redis_server.start()
        wait_until(lambda: web.get("/readyz").status == 200, timeout_s=20, what="recovery")
        exit_code = web.stack.web.terminate(30)  # as long as platforms wait for it
        assert exit_code == 0, web.stack.web.tail()
        output.keep_of(web.stack.web)
        output.keep_of(redis_server.process)
    for answer in (*in_service, *in_outage, *about):
        output.keep("answer", str(answer))
    # What was looked at is all there: answers of every kind, a message, the log of a callback and of the end.
    assert {answer.status for answer in in_service if answer} >= {204, 400, 401, 403, 404, 405, 413, 415}
    assert 503 in {answer.status for answer in in_outage if answer}
    looked_at = ("CallerCity", "callback_answered", "request_unreadable", "Shutting down")
    assert [text for text in looked_at if not output.holds(text)] == []
    assert output.leaks() == []


@pytest.mark.parametrize(
    "text",
    [
        "Redis refused planted-redis-password",
        "https://twilio:sesame%3D%3D%3D%3Dopen@example.com",
        "Authorization: Basic " + base64.b64encode(b"twilio:sesame====open").decode(),
        base64.b64encode(b'{"token": "sesame====open"}').decode(),
        base64.b64encode(b'{"some": "sesame====open"}').decode(),
        '"From": "+15550001111"',
        "sip:15550001111@example.com",
    ],
)
def test_what_gets_out_is_found(text: str) -> None:
    """A secret of a process and a phone number are found as they are, quoted, or in base64."""
    output = Output()
    output.learn({"WEBHOOK_PASSWORD": "sesame====open", "TWILIO_AUTH_TOKEN": "another-token"})
    output.keep("log", "The sun is shining on AC55500011115550001111555000111155 and 1755500011112.")
    assert output.leaks() == []
    output.keep("log of web", f"Something happened: {text}, and more.")
    (leak,) = output.leaks()
    assert "log of web" in leak
