"""Genuine callbacks that somebody changed under way: bytes, framing, headers, methods and targets."""

import base64
import json
import re
from dataclasses import replace
from hashlib import sha256
from random import Random
from urllib.parse import urlencode

from tests.integration.callback_tools import FORM, JSON, PATH, PUBLIC_URL, request
from tests.security.genuine import PLANTED, STATUSES, Case, encode, genuine, genuine_fields, key_for, triple_of


def flipped(random: Random) -> Case:
    case = genuine(random)
    data = bytearray(case.data)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return replace(case, data=bytes(data), genuine=False, broken=True)


def cut_or_extended(random: Random) -> Case:
    case = genuine(random)
    place = random.randrange(len(case.data))
    more = random.choice((b"", b"", random.randbytes(20), case.data[:place], b"\r\n\r\n", b"\x00", b"&x=y"))
    return replace(
        case, data=case.data[:place] + more + (case.data[place:] if more else b""), genuine=False, broken=True
    )


def chunked(random: Random) -> Case:
    case = genuine(random)
    head, _, body = case.data.partition(b"\r\n\r\n")
    keep_length = random.random() < 0.1
    lines = [line for line in head.split(b"\r\n") if keep_length or not line.startswith(b"Content-Length")]
    size = random.choice((1, 7, 100, 100_000))
    chunks = [
        b"%x" % len(part) + random.choice((b"", b";a=b", b" ; a")) + b"\r\n" + part + b"\r\n"
        for part in _pieces(body, size)
    ]
    last = random.choice(
        (
            b"0\r\n\r\n",
            b"000\r\n\r\n",
            b"0\r\nX-T: 1\r\n\r\n",
            b"0\r\nContent-Length: 1\r\n\r\n",
            b"",
            b"0\r\n",
            b"-1\r\n\r\n",
            b"g\r\n\r\n",
        )
    )
    coding = random.choice(
        (b"chunked", b"chunked", b"Chunked", b"gzip, chunked", b"chunked, chunked", b"identity", b"x")
    )
    data = b"\r\n".join([*lines, b"Transfer-Encoding: " + coding]) + b"\r\n\r\n" + b"".join(chunks) + last
    return replace(case, data=data, genuine=False, broken=True)


def _pieces(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


def odd_header(random: Random) -> Case:
    case = genuine(random)
    signature = base64.b64encode(random.randbytes(20))
    lines = (
        b"X-Twilio-Signature: " + signature,
        b"X_Twilio_Signature: " + signature,
        b"X-Twilio-Webhooks-Signature-Settings: key=key-1,algorithm=HMAC_SHA256",
        b"X-Twilio-Webhooks-Signature-Settings: ,=,,key",
        b"X-Twilio-Webhooks-Signature-Settings: \xff=\xfe",
        b"Content-Type: text/plain",
        b"Content-Length: 0",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: +1",
        b"Content-Encoding: gzip",
        b"Host: evil.example.com",
        b"Host:",
        b"Authorization: Basic \xff\xff",
        b"Authorization: Digest =",
        b"Script_Name: /evil",
        b"SCRIPT_NAME: /recording-status",
        b"X-Forwarded-Proto: ftp",
        b"X-Forwarded-Host: evil.example.com",
        b"Forwarded: host=evil",
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        b"Upgrade: websocket\r\nConnection: upgrade",
        b"Expect: 100-continue",
        b"Expect: 200-ok",
        b"Connection: close",
        b"Cookie: a=b; " + b"c" * random.choice((10, 9000)),
        b"I-Twilio-Idempotency-Token: " + random.choice((b"", b"\xff\x80", b"x" * 500, PLANTED.encode())),
        b"Range: bytes=0-1",
        b"X-A: 1\r\n folded",
        b"X-\x00: 1",
        b": nameless",
        b"no colon",
        b"X: " + b"x" * random.choice((10, 8185, 70_000)),
        b"\r\n".join(b"X-%d: 1" % number for number in range(random.choice((10, 80)))),
    )
    start, _, rest = case.data.partition(b"\r\n")
    data = start + b"\r\n" + random.choice(lines) + b"\r\n" + rest
    return replace(case, data=data, genuine=False, broken=True)


def content_type(random: Random) -> Case:
    case = genuine(random)
    other = random.choice(
        (
            b"",
            b"text/plain",
            b"multipart/form-data",
            b"multipart/form-data; boundary=x",
            JSON.encode(),
            FORM.encode(),
            b"\xff",
            b"a/b;" * 100,
            b"application/json; charset=utf-16",
        )
    )
    data = re.sub(rb"Content-Type: [^\r]*", lambda _: b"Content-Type: " + other, case.data)
    if random.random() < 0.2:
        data = re.sub(rb"Content-Type: [^\r]*\r\n", b"", case.data)
    return replace(case, data=data, genuine=False, broken=True)


def other_method(random: Random) -> Case:
    case = genuine(random)
    method = random.choice(
        ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "BREW", "post", "P\xd6ST", "GET", "POST")
    )
    data = re.sub(rb"^[A-Z]+", lambda _: method.encode("latin-1"), case.data)
    return replace(case, data=data, genuine=False, broken=True, method=method)


TARGETS = (
    "/",
    "//",
    "*",
    "",
    "?",
    "/%",
    "/\x7f",
    "evil:80",
    "/healthz",
    "/metrics",
    "/readyz?x",
    "/./recording-status",
    "/x/../recording-status",
    "//recording-status",
    "//evil.example.com/recording-status",
    "/RECORDING-STATUS",
    "/recording status",
    "/recording%2Dstatus",
    "/recording-status/..",
    "/recording-status//",
    "/recording-status/more",
    "/recording-status#fragment",
    "/recording-status%00",
    "/recording-status;a=b",
    "/recording-status?%zz",
    "/recording-status??",
    "/recording-status?a=1&a=2&AccountSid=x",
    f"/recording-status?{'a' * 9000}",
    "/recording-status\xff",
    "http://[/recording-status",
    "http://evil.example.com/recording-status",
    "https://archive.example.com/recording-status",
)


def other_target(random: Random) -> Case:
    """Send what was signed to another path, or sign another path."""
    fields = genuine_fields(random)
    target = random.choice(TARGETS)
    signed_target = random.choice((PATH, target))
    signed = key_for(random, fields).headers(PUBLIC_URL + signed_target, fields)
    data = request(target, body=encode(random, fields), headers={"Content-Type": FORM, **signed})
    return Case(data, triple_of(fields), broken=True)


def recast(random: Random) -> Case:
    """Send a signed form as a query or as JSON, so that the text of one of its fields passes as other fields."""
    fields = [pair for pair in genuine_fields(random) if pair[0] in ("AccountSid", "RecordingSid", "RecordingStatus")]
    key = key_for(random, fields)
    forged = dict(fields) | {"RecordingSid": f"RE{'9' * 32}", "RecordingStatus": random.choice(STATUSES)}
    body = json.dumps(forged).encode()
    method, text = random.choice((("GET", urlencode(forged)), ("POST", f"bodySHA256={sha256(body).hexdigest()}")))
    fields.append((random.choice(("Aa", "CallerName", "Zebra")), f"&{text}&"))
    signed = key.headers(f"{PUBLIC_URL}{PATH}?tenant=1", fields)
    target = f"{PATH}?tenant=1" + "".join(name + value for name, value in sorted(fields))
    sent = b"" if method == "GET" else body
    return Case(
        request(target, method=method, body=sent, headers={"Content-Type": JSON, **signed}), None, method=method
    )


def garbage(random: Random) -> Case:
    starts = (
        b"",
        b"GET ",
        b"POST /recording-status HTTP/1.1\r\n",
        b"POST /recording-status HTTP/1.1\r\nContent-Length: ",
        b"\x16\x03\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n" * 5,
    )
    data = random.choice(starts) + random.randbytes(random.choice((0, 10, 1000))) + random.choice((b"", b"\r\n\r\n"))
    return Case(data or b"\n", None, broken=True)
