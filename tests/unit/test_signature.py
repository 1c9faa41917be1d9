"""X-Twilio-Signature: what Twilio signed is accepted, and nothing else."""

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict

from app.settings import TwilioAccount
from app.signature import Pairs, SignedRequest, body_sha256, sign, signed_urls, verify

AC = "AC" + "0123456789abcdef" * 2
ORIGIN, PATH = "https://archiver.example.com", "/recording-status"
VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).resolve().parents[1] / "vectors" / "twilio_signatures.json").read_text()
)
PAIRS: Pairs = [
    (b"AccountSid", AC.encode()),
    (b"ErrorCode", b""),
    (b"RecordingSid", b"RE" + b"0123456789abcdef" * 2),
    (b"RecordingStatus", b"completed"),
]


def account(*tokens: str, **shared_keys: str) -> TwilioAccount:
    return TwilioAccount.model_validate(
        {"account_sid": AC, "auth_tokens": list(tokens) or ["token"], "shared_keys": shared_keys}
    )


def judge(request: SignedRequest, *, by: TwilioAccount | None = None, public_url: str = ORIGIN) -> int | None:
    return verify(request, signed_urls(public_url, request.target), by or account())


# Twilio's published vectors


def encoded(params: list[list[str]]) -> Pairs:
    return [(name.encode(), value.encode()) for name, value in params]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_published_vector_is_computed(vector: dict[str, Any]) -> None:
    """`sign` computes the signature that Twilio's libraries publish for this URL and these parameters."""
    assert sign(vector["token"], vector["signed_url"], encoded(vector["params"])) == vector["signature"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
@pytest.mark.parametrize("port", ["as written", "default port added or dropped"])
def test_published_vector_is_judged(vector: dict[str, Any], port: str) -> None:
    """A request as in the vector is accepted, unless its signature covers userinfo, which is no part of the URL."""
    parts = urlsplit(vector["signed_url"])
    host = parts.netloc.rpartition("@")[2]
    default = ":443" if parts.scheme == "https" else ":80"
    if port != "as written":
        host = host.removesuffix(default) if host.endswith(default) else host if ":" in host else host + default
    target = vector["signed_url"].split(parts.netloc, 1)[1]
    hashed = target.partition("bodySHA256=")[2] or None
    request = SignedRequest(target, vector["signature"], encoded(vector["params"]), body_sha256=hashed)
    judged = judge(request, by=account("12345"), public_url=f"{parts.scheme}://{host}")
    assert judged == (None if "@" in parts.netloc else 0)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_published_vector_with_another_token_is_refused(vector: dict[str, Any]) -> None:
    """No vector is accepted under a token that did not make it."""
    parts = urlsplit(vector["signed_url"])
    target = vector["signed_url"].split(parts.netloc, 1)[1]
    request = SignedRequest(target, vector["signature"], encoded(vector["params"]))
    public_url = f"{parts.scheme}://{parts.netloc}"
    assert judge(request, by=account("54321"), public_url=public_url) is None


def test_json_vectors_are_of_known_bodies() -> None:
    """The digests in the published JSON vectors are those of the libraries' own test bodies."""
    published = {vector["signed_url"].partition("bodySHA256=")[2] for vector in VECTORS}
    assert {body_sha256(b"{}"), body_sha256(b'{"property": "value", "boolean": true}')} <= published


# Twilio's SDK as the oracle

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    token=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    target=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    params=st.lists(st.tuples(NAMES, VALUES), max_size=8),
)
def test_signature_is_the_one_of_twilios_sdk(token: str, target: str, params: list[tuple[str, str]]) -> None:
    """For any token, target and parameters, also repeated ones, the signature is that of Twilio's own library."""
    url = f"{ORIGIN}/{target}"
    expected = RequestValidator(token).compute_signature(url, MultiDict(params))
    assert sign(token, url, [(name.encode(), value.encode()) for name, value in params]) == expected


@given(
    target=st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=40),
    names=st.lists(NAMES, unique=True, max_size=6),
    data=st.data(),
)
def test_what_twilios_sdk_signs_is_accepted(target: str, names: list[str], data: st.DataObject) -> None:
    """A request that Twilio's library signs, with or without the default port, is accepted in any order of fields."""
    params = {name: data.draw(VALUES) for name in names}
    host = data.draw(st.sampled_from(["archiver.example.com", "archiver.example.com:443"]))
    signature = RequestValidator("token").compute_signature(f"https://{host}{PATH}{target}", params)
    form = data.draw(st.permutations([(name.encode(), value.encode()) for name, value in params.items()]))
    assert judge(SignedRequest(PATH + target, signature, form)) == 0


# Nothing else


def test_every_changed_byte_is_refused() -> None:
    """A request is refused when any one byte of its target, a name, a value or the signature is another."""
    target = f"{PATH}?tenant=7"
    genuine = SignedRequest(target, sign("token", ORIGIN + target, PAIRS), PAIRS)
    assert judge(genuine) == 0

    for at in range(len(target)):
        changed = target[:at] + chr(ord(target[at]) ^ 1) + target[at + 1 :]
        assert judge(SignedRequest(changed, genuine.signature, PAIRS)) is None, changed
    for at in range(len(genuine.signature)):
        changed = genuine.signature[:at] + chr(ord(genuine.signature[at]) ^ 1) + genuine.signature[at + 1 :]
        assert judge(SignedRequest(target, changed, PAIRS)) is None, changed
    for index, pair in enumerate(PAIRS):
        for side in (0, 1):
            for at in range(len(pair[side])):
                text = bytearray(pair[side])
                text[at] ^= 1
                other = (bytes(text), pair[1]) if side == 0 else (pair[0], bytes(text))
                form = [*PAIRS[:index], other, *PAIRS[index + 1 :]]
                assert judge(SignedRequest(target, genuine.signature, form)) is None, other


@pytest.mark.parametrize("signature", ["", "=", "x" * 28, "ñ" * 28, "\udcff", "\x00"])
def test_missing_or_junk_signature_is_refused(signature: str) -> None:
    """A missing signature, or a header with anything else in it, is refused without an error."""
    assert judge(SignedRequest(PATH, signature, PAIRS)) is None


def test_signature_in_another_spelling_is_refused() -> None:
    """The signature must be exactly the one computed, not another spelling of its base64."""
    signature = sign("token", ORIGIN + PATH, PAIRS)
    for other in (signature.rstrip("="), signature + "=", f" {signature}", signature + "\n", signature.lower()):
        assert judge(SignedRequest(PATH, other, PAIRS)) is None


def test_dropped_added_and_moved_fields_are_refused() -> None:
    """The form is covered as a whole: a field may be neither left out, nor added, nor moved into the query."""
    signature = sign("token", ORIGIN + PATH, PAIRS)
    moved = f"{PATH}?{PAIRS[0][0].decode()}={PAIRS[0][1].decode()}"
    assert judge(SignedRequest(PATH, signature, PAIRS[1:])) is None
    assert judge(SignedRequest(PATH, signature, [*PAIRS, (b"Extra", b"")])) is None
    assert judge(SignedRequest(moved, signature, PAIRS[1:])) is None


@given(cut=st.data())
def test_pairs_can_be_cut_anew_under_the_same_signature(cut: st.DataObject) -> None:
    """Twilio's scheme has no separators: other pairs with the same text have the same signature, so that the
    signature alone makes no field trustworthy."""
    text = b"".join(name + value for name, value in PAIRS)
    at = cut.draw(st.integers(1, len(text)))
    assert sign("token", ORIGIN, [(text[:at], text[at:])]) == sign("token", ORIGIN, PAIRS)


# Which account, and which of its keys


def test_empty_token_is_impossible() -> None:
    """No account can be configured with an empty token, under which anybody could sign."""
    for tokens in ("", [], [""], ["token", ""], [" "]):
        with pytest.raises(ValueError, match="auth_tokens"):
            TwilioAccount.model_validate({"account_sid": AC, "auth_tokens": tokens})
    with pytest.raises(ValueError, match="shared_keys"):
        TwilioAccount.model_validate({"account_sid": AC, "auth_tokens": "x", "shared_keys": {"id": ""}})


def test_account_that_is_not_configured_is_refused() -> None:
    """Without an account no signature is right, not even one made with an empty token."""
    signature = sign("", ORIGIN + PATH, PAIRS)
    assert verify(SignedRequest(PATH, signature, PAIRS), signed_urls(ORIGIN, PATH), None) is None


@pytest.mark.parametrize(("token", "index"), [("old", 0), ("new", 1), ("newer", 2), ("other", None)])
def test_index_of_the_token_is_told(token: str, index: int | None) -> None:
    """With several tokens the answer is the index of the one that signed."""
    signature = sign(token, ORIGIN + PATH, PAIRS)
    assert judge(SignedRequest(PATH, signature, PAIRS), by=account("old", "new", "newer")) == index


def test_same_token_twice_counts_as_the_first() -> None:
    """The first of two equal tokens is the one that is told."""
    signature = sign("token", ORIGIN + PATH, PAIRS)
    assert judge(SignedRequest(PATH, signature, PAIRS), by=account("token", "token")) == 0


SHARED = sign("shared", ORIGIN + PATH, PAIRS, "sha256")


@pytest.mark.parametrize(
    "settings",
    [
        "key=key1,algorithm=HMAC_SHA256",
        "algorithm=HMAC_SHA256,key=key1",
        " key = key1 , algorithm = HMAC_SHA256 ",
        "key=key1,algorithm=HMAC_SHA256,version=2",
    ],
)
def test_announced_shared_key_is_accepted(settings: str) -> None:
    """A signature by HMAC-SHA256 under an announced shared key is accepted, and told from the tokens'."""
    assert judge(SignedRequest(PATH, SHARED, PAIRS, settings=settings), by=account(key1="shared")) == -1


@pytest.mark.parametrize(
    "settings",
    [
        "key=unknown,algorithm=HMAC_SHA256",
        "algorithm=HMAC_SHA256",
        "key=key1",
        "key=key1,algorithm=HMAC_SHA1",
        "key=key1,algorithm=",
        "KEY=key1,algorithm=HMAC_SHA256",
        "key1",
        ",",
        " ",
    ],
)
def test_other_announcements_are_refused(settings: str) -> None:
    """An announced key or algorithm that is not known is refused, also when an auth token would fit."""
    by = account("token", key1="shared")
    assert judge(SignedRequest(PATH, SHARED, PAIRS, settings=settings), by=by) is None
    assert judge(SignedRequest(PATH, sign("token", ORIGIN + PATH, PAIRS), PAIRS, settings=settings), by=by) is None


def test_the_id_of_a_shared_key_may_hold_an_equals_sign() -> None:
    """What follows the first equals sign is the value, whatever it holds."""
    request = SignedRequest(PATH, SHARED, PAIRS, settings="key=key=1,algorithm=HMAC_SHA256")
    assert judge(request, by=account(**{"key=1": "shared"})) == -1


def test_announced_shared_key_is_the_only_one_tried() -> None:
    """A request that announces a shared key is not accepted under a token, nor under SHA-1."""
    announced = "key=key1,algorithm=HMAC_SHA256"
    by = account("token", key1="shared")
    for signature in (sign("token", ORIGIN + PATH, PAIRS), sign("shared", ORIGIN + PATH, PAIRS)):
        assert judge(SignedRequest(PATH, signature, PAIRS, settings=announced), by=by) is None


def test_shared_key_without_announcement_is_refused() -> None:
    """A shared key counts only where it is announced."""
    assert judge(SignedRequest(PATH, SHARED, PAIRS), by=account(key1="shared")) is None


# JSON bodies

BODY = b'{"AccountSid": "x"}'


def json_request(query: str, body: bytes = BODY) -> SignedRequest:
    target = f"{PATH}?{query}"
    return SignedRequest(target, sign("token", ORIGIN + target), body_sha256=body_sha256(body))


@pytest.mark.parametrize(
    "query", ["bodySHA256={}", "a=1&bodySHA256={}", "bodySHA256={}&a=1", "bodySHA256={}&a=?", "a&bodySHA256={}&"]
)
def test_json_with_its_digest_is_accepted(query: str) -> None:
    """A JSON body is accepted when its digest is in the signed query."""
    assert judge(json_request(query.format(body_sha256(BODY)))) == 0


@pytest.mark.parametrize(
    "query",
    [
        "",
        "a=1",
        "bodySHA256",
        "bodySHA256=",
        "bodysha256={lower}",
        "bodySHA256={upper}",
        "bodySHA256={other}",
        "bodySHA256={lower}0",
        "bodySHA256={lower}&bodySHA256={lower}",
        "bodySHA256={other}&bodySHA256={lower}",
        "bodySHA256={lower}&bodySHA256=",
        "bodySHA256={lower}&bodySHA256={lower}=",
        "xbodySHA256={lower}",
    ],
)
def test_json_without_exactly_its_digest_is_refused(query: str) -> None:
    """A well-signed URL whose digest is missing, repeated, in capitals or of another body is refused."""
    lower, other = body_sha256(BODY), body_sha256(b"{}")
    assert judge(json_request(query.format(lower=lower, upper=lower.upper(), other=other))) is None


def test_digest_needs_the_signature_too() -> None:
    """The right digest under a wrong signature is refused."""
    target = f"{PATH}?bodySHA256={body_sha256(BODY)}"
    request = SignedRequest(target, sign("other", ORIGIN + target), body_sha256=body_sha256(BODY))
    assert judge(request) is None


@given(st.binary(max_size=64))
def test_body_digest_is_lower_case_hex(body: bytes) -> None:
    """The digest is written as Twilio writes it."""
    assert body_sha256(body) == hashlib.sha256(body).hexdigest().lower()


# The URL that was signed


@pytest.mark.parametrize(
    ("public_url", "target", "urls"),
    [
        ("https://h", PATH, {f"https://h{PATH}", f"https://h:443{PATH}"}),
        ("https://h:443", PATH, {f"https://h{PATH}", f"https://h:443{PATH}"}),
        ("https://h:0443", PATH, {f"https://h{PATH}", f"https://h:443{PATH}"}),
        ("https://h:8443", PATH, {f"https://h{PATH}", f"https://h:8443{PATH}"}),
        ("http://h", PATH, {f"http://h{PATH}", f"http://h:80{PATH}"}),
        ("http://h:8080", PATH, {f"http://h{PATH}", f"http://h:8080{PATH}"}),
        ("https://[2001:db8::1]", PATH, {f"https://[2001:db8::1]{PATH}", f"https://[2001:db8::1]:443{PATH}"}),
        ("https://[2001:db8::1]:8443", PATH, {f"https://[2001:db8::1]{PATH}", f"https://[2001:db8::1]:8443{PATH}"}),
        ("https://MyCompany.com", PATH, {f"https://MyCompany.com{PATH}", f"https://MyCompany.com:443{PATH}"}),
        (
            "https://h/a/b",
            f"/a/b{PATH}",
            {
                f"https://h/a/b{PATH}",
                f"https://h:443/a/b{PATH}",
                f"https://h/a/b/a/b{PATH}",
                f"https://h:443/a/b/a/b{PATH}",
            },
        ),
        ("https://h/a/b", PATH, {f"https://h/a/b{PATH}", f"https://h:443/a/b{PATH}"}),
        ("https://h/a", f"{PATH}?x=/a{PATH}", {f"https://h/a{PATH}?x=/a{PATH}", f"https://h:443/a{PATH}?x=/a{PATH}"}),
        ("https://h", f"{PATH}?", {f"https://h{PATH}?", f"https://h:443{PATH}?"}),
        ("https://h", f"{PATH}/", {f"https://h{PATH}/", f"https://h:443{PATH}/"}),
        ("https://h", f"/{PATH}", {f"https://h/{PATH}", f"https://h:443/{PATH}"}),
        (
            "https://h",
            f"{PATH}?q=%7e%2F+%20&e",
            {f"https://h{PATH}?q=%7e%2F+%20&e", f"https://h:443{PATH}?q=%7e%2F+%20&e"},
        ),
        ("https://h", f"{PATH}?q=ñ", {f"https://h{PATH}?q=ñ", f"https://h:443{PATH}?q=ñ"}),
    ],
)
def test_signed_url_is_rebuilt_from_configuration_and_raw_target(public_url: str, target: str, urls: set[str]) -> None:
    """Scheme, host, port and prefix come from the configuration, the rest exactly as it arrived."""
    assert set(signed_urls(public_url, target)) == urls


@pytest.mark.parametrize(
    ("public_url", "signed_url"),
    [
        ("https://h", f"http://h{PATH}"),
        ("https://h", f"https://other{PATH}"),
        ("https://h", f"https://h:8443{PATH}"),
        ("https://h", f"https://user@h{PATH}"),
        ("https://h", f"https://h{PATH}#rc=5&rp=all"),
        ("https://h", f"https://H{PATH}"),
        ("https://h/a", f"https://h{PATH}"),
        ("https://h/a", f"https://h/a/a{PATH}"),
    ],
)
def test_signature_over_another_url_is_refused(public_url: str, signed_url: str) -> None:
    """A signature over another scheme, host, port, prefix, or one with userinfo or fragment is refused."""
    assert judge(SignedRequest(PATH, sign("token", signed_url, PAIRS), PAIRS), public_url=public_url) is None


def test_bytes_that_are_no_text_are_judged() -> None:
    """A target and pairs with bytes that are not UTF-8 are signed and compared as those bytes."""
    target, form = f"{PATH}?q=\udcff", [(b"\xff", b"\xfe\x00")]
    assert judge(SignedRequest(target, sign("token", ORIGIN + target, form), form)) == 0
    assert judge(SignedRequest(target, sign("token", ORIGIN + PATH, form), form)) is None
