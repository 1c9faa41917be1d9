"""Signatures of webhooks, judged by `standardwebhooks`, and the settings that they are made from."""

import json
from base64 import b64encode
from datetime import UTC, datetime
from time import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from standardwebhooks import Webhook

from app.settings import SettingsError, WorkerSettings, load
from tests.output import OUTPUT
from workers.webhook import Receiver

MINIMAL = {
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "TWILIO_ACCOUNT_SID": "AC" + "0123456789abcdef" * 2,
    "TWILIO_AUTH_TOKEN": "auth-token",
    "ARCHIVE_BUCKET": "recordings-of-acme",
}
URL = "https://hooks.example.com/archiver?key=part-of-the-url"
KEYS = st.binary(min_size=24, max_size=64)


def secret(key: bytes) -> str:
    return f"whsec_{b64encode(key).decode()}"


SECRET = secret(b"a key of the unit tests, 01")


def receiver(*secrets: str) -> Receiver:
    return Receiver(SecretStr(URL), [SecretStr(each) for each in secrets])


@given(key=KEYS, body=st.text(), webhook_id=st.from_regex(r"msg_[0-9a-f]{32}", fullmatch=True))
def test_signs_as_the_library_does(key: bytes, body: str, webhook_id: str) -> None:
    """Any secret, id and body give the library's own signature."""
    body, now = json.dumps(body), int(time())
    theirs = Webhook(secret(key)).sign(webhook_id, datetime.fromtimestamp(now, UTC), body)
    assert receiver(secret(key)).sign(webhook_id, now, body) == theirs


@given(old=KEYS, new=KEYS)
def test_either_secret_verifies_during_a_rotation(old: bytes, new: bytes) -> None:
    """Each signs, and the library finds the one that it knows."""
    now, body = int(time()), '{"type":"recording.archived"}'
    signatures = receiver(secret(new), secret(old)).sign("msg_1", now, body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(now), "webhook-signature": signatures}
    for key in (old, new):
        assert Webhook(secret(key)).verify(body, headers) == {"type": "recording.archived"}


def test_knows_its_own_signature_and_no_other() -> None:
    """Another id, time, body or secret makes another signature; one of several is enough."""
    ours, signature = receiver(SECRET), receiver(SECRET).sign("msg_1", 1, "{}")
    assert ours.is_ours("msg_1", 1, "{}", signature)
    assert receiver(secret(b"x" * 24), SECRET).is_ours("msg_1", 1, "{}", f"v1,AAAA {signature}")
    for other in (("msg_2", 1, "{}"), ("msg_1", 2, "{}"), ("msg_1", 1, "[]")):
        assert not ours.is_ours(*other, signature)
    for wrong in ("", " ", "v1,", "v1,é\ud800", signature[:-1]):
        assert not ours.is_ours("msg_1", 1, "{}", wrong)
    assert not receiver(secret(b"x" * 24)).is_ours("msg_1", 1, "{}", signature)


def read(**settings: str) -> WorkerSettings:
    OUTPUT.learn(MINIMAL)
    return load(WorkerSettings, MINIMAL | settings)


def test_is_off_when_unset() -> None:
    """Without NOTIFY_URL there is no receiver."""
    assert Receiver.of(read()) is None


@pytest.mark.parametrize("url", [URL, "http://127.0.0.1:9000/", "http://[::1]:9000", "http://localhost:1/a"])
def test_urls_that_are_taken(url: str) -> None:
    """https to anywhere, and plain http to this machine."""
    settings = read(NOTIFY_URL=url, NOTIFY_SECRET=f"{SECRET}, {secret(bytes(64))}")
    assert settings.NOTIFY_URL is not None
    assert settings.NOTIFY_URL.get_secret_value() == url
    assert len(settings.NOTIFY_SECRET) == 2
    assert "part-of-the-url" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "mend"),
    [
        ("NOTIFY_URL", "http://hooks.example.com/", "https://"),
        ("NOTIFY_URL", "http://127.0.0.1.example.com/", "https://"),
        ("NOTIFY_URL", "hooks.example.com", "https://"),
        ("NOTIFY_URL", "https://user:password@hooks.example.com/", "no user name"),
        ("NOTIFY_URL", "https://hooks.example.com/#part", "fragment"),
        ("NOTIFY_URL", "https://hooks.example.com:0/", "well-formed"),
        ("NOTIFY_SECRET", "not-a-webhook-secret", "whsec_"),
        ("NOTIFY_SECRET", secret(b"too short"), "24 to 64"),
        ("NOTIFY_SECRET", secret(bytes(65)), "24 to 64"),
        ("NOTIFY_SECRET", f"{SECRET}!", "base64"),
        ("NOTIFY_SECRET", f"{SECRET},also-one", "whsec_"),
        ("NOTIFY_SECRET", " , ", "secret"),
        ("NOTIFY_URL", "", "NOTIFY_URL: is missing; it belongs to NOTIFY_SECRET"),
        ("NOTIFY_SECRET", "", "NOTIFY_SECRET: is missing; it belongs to NOTIFY_URL"),
    ],
)
def test_what_is_wrong_is_named_with_its_mend(name: str, value: str, mend: str) -> None:
    """One mistake, without the value."""
    with pytest.raises(SettingsError) as caught:
        read(**{"NOTIFY_URL": URL, "NOTIFY_SECRET": SECRET} | {name: value})
    (mistake,) = caught.value.mistakes
    assert mistake.startswith(f"{name}")
    assert mend in mistake
    assert not value.strip() or value not in mistake
