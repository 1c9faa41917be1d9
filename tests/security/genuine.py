"""Genuine callbacks with random content, signed as Twilio signs."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from urllib.parse import quote, quote_plus, urlencode

from deploy.local.twilio import Account
from deploy.local.twilio.callbacks import Key
from tests.integration.callback_tools import FORM, JSON, PATH, PUBLIC_URL, request

MAIN = Account(sid="AC" + "a1" * 16, auth_tokens=["main-token-one", "main-token-two"])
SUB = Account(sid="AC" + "b2" * 16, auth_tokens=["sub-token"], shared_keys={"key-1": "shared-secret"}, parent=MAIN.sid)
STRANGER = Account(sid="AC" + "c3" * 16, auth_tokens=["strangers-token"])
PLANTED = "+15550009999"

Fields = list[tuple[str, str]]
Triple = tuple[str, str, str]

FINAL = ("completed", "absent", "failed")
STATUSES = (*FINAL, *FINAL, "in-progress", "paused", "resumed", "started", "stopped", "something-new", "x" * 32)
TEXTS = (
    "",
    " ",
    "0",
    PLANTED,
    "ü&=+%/?#",
    "\u2013" * 40,
    "a" * 500,
    "%41%zz",
    "\x00\r\n",
    "\U0001f4de",
    '{"a": "b"}',
    "a=b&c=d",
)


@dataclass(frozen=True)
class Case:
    """One request. `signed` is what a signature in it vouches for: account, recording and status; None for nothing.

    `genuine` ones have to be accepted. After a broken request nothing else may be sent on its connection.
    """

    data: bytes
    signed: Triple | None
    genuine: bool = False
    broken: bool = False
    method: str = "POST"


def genuine_fields(random: Random, account: Account | None = None) -> Fields:
    """Return a callback's fields, in any order, with some that are not documented."""
    sid = (account or random.choice((MAIN, SUB))).sid
    recording = f"RE{random.randbytes(16).hex()}"
    some = {
        "CallSid": f"CA{random.randbytes(16).hex()}",
        "ConferenceSid": f"CF{random.randbytes(16).hex()}",
        "EncryptionDetails": json.dumps({"type": "rsa-aes", "encrypted_cek": "a+/=" * 100}),
        "ErrorCode": random.choice(("0", "16101")),
        "RecordingChannels": "2",
        "RecordingDuration": str(random.randrange(10_000)),
        "RecordingSource": "DialVerb",
        "RecordingStartTime": "Sun, 22 Nov 2026 10:11:12 +0000",
        "RecordingTrack": "both",
        "RecordingUrl": f"https://api.twilio.com/2010-04-01/Accounts/{sid}/Recordings/{recording}",
        "From": PLANTED,
        "Zebra": random.choice(TEXTS),
        f"New_{random.randrange(100)}.x": random.choice(TEXTS),
    }
    fields = [("AccountSid", sid), ("RecordingSid", recording), ("RecordingStatus", random.choice(STATUSES))]
    fields += random.sample(sorted(some.items()), random.randrange(len(some)))
    random.shuffle(fields)
    return fields


def triple_of(fields: Sequence[tuple[str, str]]) -> Triple | None:
    """Return what fields say, if they say it once."""
    values = [
        [value for name, value in fields if name == wanted]
        for wanted in ("AccountSid", "RecordingSid", "RecordingStatus")
    ]
    return (values[0][0], values[1][0], values[2][0]) if all(len(found) == 1 for found in values) else None


def key_for(random: Random, fields: Sequence[tuple[str, str]]) -> Key:
    """Return a key that may sign for the fields' account."""
    if any(pair == ("AccountSid", SUB.sid) for pair in fields):
        return random.choice((Key("sub-token"), Key("shared-secret", "key-1")))
    return Key(random.choice(MAIN.auth_tokens))


def form(
    random: Random, fields: Fields, *, query: str = "", body: bytes | None = None, key: Key | None = None
) -> bytes:
    """Build a signed form; `body` is sent instead of the one that was signed."""
    signed = (key or key_for(random, fields)).headers(f"{PUBLIC_URL}{PATH}{query}", fields)
    return request(
        PATH + query, body=encode(random, fields) if body is None else body, headers={"Content-Type": FORM, **signed}
    )


def encode(random: Random, fields: Sequence[tuple[str, str]]) -> bytes:
    """Encode a form in one of the ways that mean the same."""
    encoded = urlencode(fields, quote_via=random.choice((quote, quote_plus)))
    if random.random() < 0.2:
        encoded = re.sub("%[0-9A-F]{2}", lambda escape: escape[0].lower(), encoded)
    return encoded.encode()


def get(random: Random, fields: Fields) -> bytes:
    target = f"{PATH}?{encode(random, fields).decode()}"
    return request(target, method="GET", headers=key_for(random, fields).headers(PUBLIC_URL + target))


def with_json(random: Random, body: bytes, key: Key) -> bytes:
    target = f"{PATH}?bodySHA256={hashlib.sha256(body).hexdigest()}"
    return request(target, body=body, headers={"Content-Type": JSON, **key.headers(PUBLIC_URL + target)})


def genuine(random: Random) -> Case:
    fields = genuine_fields(random)
    way = random.randrange(3)
    if way == 0:
        data = form(random, fields, query=random.choice(("", "?", "?tenant=a%20b", "/", "/?x=%C3%BC&y")))
    elif way == 1:
        data = get(random, fields)
    else:
        data = with_json(
            random, json.dumps(dict(fields), indent=random.choice((None, 1))).encode(), key_for(random, fields)
        )
    return Case(data, triple_of(fields), genuine=True, method="GET" if way == 1 else "POST")
