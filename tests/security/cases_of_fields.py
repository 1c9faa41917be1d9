"""Callbacks whose fields, signatures or encodings are not what Twilio sends; most are signed all the same."""

import base64
import hashlib
import hmac
import itertools
import json
import re
from collections.abc import Callable
from random import Random
from urllib.parse import urlencode

from deploy.local.twilio.callbacks import Key
from tests.integration.callback_tools import FORM, JSON, PATH, PUBLIC_URL, request
from tests.security.genuine import (
    MAIN,
    PLANTED,
    STRANGER,
    SUB,
    TEXTS,
    Case,
    Fields,
    Triple,
    encode,
    form,
    genuine_fields,
    get,
    key_for,
    triple_of,
    with_json,
)


def recut(random: Random) -> Case:
    """Cut what was signed into other fields: the signature stays right if their names are in order."""
    fields = genuine_fields(random)
    forged = f"RE{'9' * 32}"
    texts = (f"RecordingSid{forged}", f"RecordingSid{forged}RecordingStatuscompleted", "AccountSid" + MAIN.sid, PLANTED)
    taken = {name for name, _ in fields}
    fields += [
        (name, random.choice(texts))
        for name in ("Aa", "CallerName", "Transcript", "lower")
        if name not in taken and random.random() < 0.4
    ]
    signed = "".join(name + value for name, value in sorted(fields))
    for _ in range(20):
        again = random.choice((shift_a_boundary, cut_at_names))(random, sorted(fields), signed)
        if again == sorted(again) and dict(again) != dict(fields):
            break
    data = form(random, fields, body=encode(random, again))
    return Case(data, triple_of(fields))


def shift_a_boundary(random: Random, fields: Fields, _signed: str) -> Fields:
    place, distance = random.randrange(len(fields)), random.randrange(1, 8)
    name, value = fields[place]
    if random.random() < 0.5:  # between a name and its value
        cut = (name + value)[: max(1, len(name) + random.choice((-distance, distance)))]
        return [*fields[:place], (cut, (name + value)[len(cut) :]), *fields[place + 1 :]]
    following, rest = fields[place + 1] if place + 1 < len(fields) else ("", "")
    both = value + following
    cut = both[: max(0, len(value) + random.choice((-distance, distance)))]
    return [*fields[:place], (name, cut), (both[len(cut) :], rest), *fields[place + 2 :]]


def cut_at_names(random: Random, _fields: Fields, signed: str) -> Fields:
    places = sorted(
        match.start() for match in re.finditer("AccountSid|RecordingSid|RecordingStatus|[A-Z][a-z]+", signed)
    )
    some = random.sample(places, random.randrange(1, min(12, len(places)) + 1))
    chosen = sorted([0, *some, len(signed)])
    again: Fields = []
    for start, end in itertools.pairwise(chosen):
        piece = signed[start:end]
        known = next(
            (name for name in ("AccountSid", "RecordingSid", "RecordingStatus") if piece.startswith(name)), None
        )
        if known:
            length = random.randrange(4, 10) if known == "RecordingStatus" else 34
            rest = piece[len(known) + length :]
            again.append((known, piece[len(known) :][:length]))
            again += [(rest, "")] if rest else []
        elif piece:
            cut = random.randrange(1, len(piece) + 1)
            again.append((piece[:cut], piece[cut:]))
    return again


def forged(random: Random) -> Case:
    """Take another recording's SID from the text of a field, and bury the true one in an unknown name."""
    always = ("AccountSid", "RecordingSid", "RecordingStatus", "RecordingTrack", "RecordingUrl")
    account, (_, true), *others = sorted(pair for pair in genuine_fields(random) if pair[0] in always)
    forgery = ("RecordingSid", f"RE{'9' * 32}")
    cut = random.randrange(1, len(true))
    fields = [account, ("CallerName", "".join(forgery)), ("RecordingSid", true), *others]
    again = [account, ("CallerName", ""), forgery, (f"RecordingSid{true[:cut]}", true[cut:]), *others]
    return Case(form(random, fields, body=encode(random, again)), triple_of(fields))


def moved(random: Random) -> Case:
    """Move parameters between body, query and headers, or send them in another form than the signed one."""
    fields = genuine_fields(random)
    half = random.randrange(len(fields) + 1)
    signed = key_for(random, fields).headers(f"{PUBLIC_URL}{PATH}", fields)
    query = urlencode(fields[half:])
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: request(
            f"{PATH}?{query}", body=encode(random, fields[:half]), headers={"Content-Type": FORM, **signed}
        ),
        lambda: request(f"{PATH}?{urlencode(fields)}", method="GET", headers=signed),
        lambda: request(f"{PATH}?{urlencode(fields)}", headers={"Content-Type": FORM, **signed}),
        lambda: request(PATH, body=json.dumps(dict(fields)).encode(), headers={"Content-Type": JSON, **signed}),
        lambda: request(PATH, body=encode(random, fields), headers={"Content-Type": JSON, **signed}),
        lambda: request(PATH, method="GET", body=encode(random, fields), headers={"Content-Type": FORM, **signed}),
        lambda: request(
            PATH, body=b"x=y", headers={"Content-Type": FORM, **signed, **{f"X-{n}": "x" for n, _ in fields}}
        ),
    )
    return Case(random.choice(ways)(), triple_of(fields))


def foreign(random: Random) -> Case:
    """Sign with a key that does not belong to the account."""
    account = random.choice((MAIN, SUB, STRANGER))
    fields = genuine_fields(random, account)
    keys = [Key(""), Key("wrong"), Key("shared-secret"), Key("sub-token", "key-1"), Key("shared-secret", "key-2")]
    if account is not MAIN:
        keys += [Key("main-token-one")]
    if account is not SUB:
        keys += [Key("sub-token"), Key("shared-secret", "key-1"), Key("strangers-token")]
    return Case(form(random, fields, key=random.choice(keys)), None)


# Signed, and not as Twilio would


def repeated(random: Random) -> Case:
    fields = genuine_fields(random)
    name, value = random.choice(fields)
    fields.append((name, random.choice((value, value, f"RE{'9' * 32}", "completed", ""))))
    data = form(random, fields) if random.random() < 0.7 else get(random, fields)
    return Case(data, triple_of(fields), method="GET" if data.startswith(b"GET") else "POST")


def malformed(random: Random) -> Case:
    """Sign fields that have no or other values; what is accepted has to say what was signed."""
    fields = dict(genuine_fields(random))
    texts = [text for text in TEXTS if text != PLANTED]  # the text of a documented field is kept
    for _ in range(random.randrange(1, 3)):
        name = random.choice(("AccountSid", "RecordingSid", "RecordingStatus", "CallSid", "RecordingUrl"))
        value = fields.get(name, "")
        fields[name] = random.choice(
            (*texts, value.upper(), value.lower(), value + "\n", " " + value, value[:-1], value * 2, "x" * 9000)
        )
    for name in random.sample(sorted(fields), random.randrange(3)):
        del fields[name]
    pairs = list(fields.items())
    return Case(form(random, pairs), triple_of(pairs))


def raw_bytes(random: Random) -> Case:
    """Sign bytes that are no text, or no proper escapes."""
    fields = genuine_fields(random)
    odd = random.choice(
        (
            b"%",
            b"%zz",
            b"%f",
            b"\xff",
            b"%FF%FE",
            b"%C0%80",
            b"\x00",
            b"%00",
            b"%u0041",
            b"=",
            b"&&;",
            b"%ED%A0%80",
            b"a\r\n",
        )
    )
    place = random.choice((b"&Zzz=" + odd, b"&" + odd + b"=1", b"&RecordingUrl=" + odd, odd))
    body = encode(random, fields) + place
    name, _, value = place.lstrip(b"&").partition(b"=")
    signed = PUBLIC_URL + PATH + "".join(n + v for n, v in sorted(fields))
    mac = hmac.new(key_for(random, fields).secret.encode(), signed.encode() + name + value, hashlib.sha1)
    headers = {"Content-Type": FORM, "X-Twilio-Signature": base64.b64encode(mac.digest()).decode()}
    return Case(request(PATH, body=body, headers=headers), triple_of(fields))


def huge(random: Random) -> Case:
    fields = genuine_fields(random)
    way = random.randrange(4)
    if way == 0:
        fields += [(f"F{number}", "") for number in range(random.choice((199, 500, 9000)))]
    elif way == 1:
        fields += [(f"Zz{'z' * random.choice((100, 60_000))}", "")]
    elif way == 2:
        fields += [("Zz", "z" * random.choice((4097, 60_000, 65_536, 200_000)))]
    else:
        fields += [("Zz", "")] * random.choice((2, 20_000))
    return Case(form(random, fields), triple_of(fields))


def odd_json(random: Random) -> Case:
    fields = dict(genuine_fields(random))
    key = key_for(random, list(fields.items()))
    text = json.dumps(fields)
    values = (
        "null",
        "1",
        "-1e999",
        "NaN",
        "true",
        "[]",
        "{}",
        '{"a":{"b":[null]}}',
        "[" * 9 + "]" * 9,
        '"\\ud800"',
        '"\\u0000"',
        "9" * 5000,
    )
    name = random.choice(("AccountSid", "RecordingSid", "RecordingStatus", "EncryptionDetails", "Zebra"))
    fields.pop(name, None)
    changed = json.dumps(fields)[:-1] + f', "{name}": {random.choice(values)}}}'
    bodies: tuple[bytes, ...] = (
        changed.encode(),
        changed.encode(),
        (text[:-1] + f', "{name}": "RE{"9" * 32}"}}').encode(),
        text.encode(random.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7"))),
        text[: random.randrange(len(text))].encode(),
        text.encode() + random.randbytes(3),
        (text[:-1] + ', "Zz": ' + "[" * random.choice((900, 30_000))).encode(),
        (text[:-1] + ', "Zz": ' + '{"a":' * 9000 + "1" + "}" * 9001).encode(),
        f"[{text}]".encode(),
        json.dumps([list(pair) for pair in fields.items()]).encode(),
        random.randbytes(random.randrange(300)),
    )
    body = random.choice(bodies)
    return Case(with_json(random, body, key), _triple_of_json(body))


def _triple_of_json(body: bytes) -> Triple | None:
    try:
        read = json.loads(body, object_pairs_hook=lambda pairs: pairs)
        if not isinstance(read, list) or not all(isinstance(item, tuple) for item in read):
            return None
        return triple_of([(name, value if isinstance(value, str) else json.dumps(value)) for name, value in read])
    except (ValueError, RecursionError):
        return None
