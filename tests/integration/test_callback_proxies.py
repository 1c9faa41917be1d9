"""Callbacks that Twilio's Node SDK signed are accepted however we stand behind a proxy, and nothing else is."""

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from deploy.local.servers import RedisServer, S3Server
from deploy.local.twilio import Account
from deploy.local.twilio.callbacks import Key
from tests.integration.callback_tools import FORM, PUBLIC_URL, Web, Wire, fields_of, request, web_process
from tests.integration.nginx import PROGRAM, Nginx

MADE = json.loads((Path(__file__).resolve().parents[1] / "vectors" / "node_sdk_callbacks.json").read_text())
ACCOUNTS = {made["account_sid"]: made["auth_token"] for made in MADE["accounts"]}
VECTORS: list[dict[str, Any]] = MADE["vectors"]
SETUPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tls": {"tls": True},
    "prefix": {"tls": True, "stripped": "/hooks/v1"},
    "port": {"tls": True},
}
# Userinfo, default port, slash and fragment are no part of what Twilio signs.
WRITTEN = {"https://archive.example.com": "https://hook:planted-password@archive.example.com:443/#rc=5&rp=all"}
LIES = {
    "Host": "evil.example.com",
    "Forwarded": "for=1.2.3.4;host=evil.example.com;proto=http",
    "X-Forwarded-For": "1.2.3.4",
    "X-Forwarded-Host": "evil.example.com",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Proto": "ftp",
    "X-Forwarded-Ssl": "on",
    "X-Original-Url": "/evil",
    "X-Rewrite-Url": "/evil",
}

needs_nginx = pytest.mark.skipif(PROGRAM is None, reason="nginx is missing: apt-get install nginx-light")


@dataclass(frozen=True)
class Deployment:
    """The product under one PUBLIC_URL; `nginx` is None where there is none."""

    web: Web
    nginx: Nginx | None

    def wire(self, *, direct: bool = False) -> Wire:
        if direct or self.nginx is None:
            return self.web.wire()
        return Wire(self.nginx.port, self.nginx.tls)


@pytest.fixture(scope="module")
def deployment(
    redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]
) -> Iterator[Callable[[str], Deployment]]:
    """Return what starts a set-up, or gives the one that runs."""
    running: dict[str, Deployment] = {}
    accounts = [Account(sid=sid, auth_tokens=["old-token", token]) for sid, token in ACCOUNTS.items()]
    with contextlib.ExitStack() as resources:

        def start(setup: str) -> Deployment:
            if setup not in running:
                public_url = next(vector["public_url"] for vector in VECTORS if vector["setup"] == setup)
                written = WRITTEN.get(public_url, public_url)
                process = web_process(accounts, redis_server, s3_server, database=next(databases), PUBLIC_URL=written)
                web = resources.enter_context(process)
                nginx = resources.enter_context(Nginx(web.stack.port, **SETUPS[setup])) if PROGRAM else None
                running[setup] = Deployment(web, nginx)
            return running[setup]

        yield start


def encoded(vector: dict[str, Any], **headers: str) -> bytes:
    signed = {"X-Twilio-Signature": vector["signature"], "Content-Type": vector["content_type"]}
    return request(vector["target"], method=vector["method"], body=vector["body"].encode(), headers=signed | headers)


def accepts(deployment: Deployment, wire: Wire, vector: dict[str, Any], **headers: str) -> None:
    answer = wire.send(encoded(vector, **headers))
    assert answer is not None
    assert (answer.status, answer.body) == (204, b"")
    (message,) = deployment.web.queued()
    assert (message["account_sid"], message["recording_sid"]) == (vector["account_sid"], vector["recording_sid"])
    assert message["callback"]["RecordingUrl"].endswith(f"/Recordings/{vector['recording_sid']}")
    assert json.loads(message["callback"]["EncryptionDetails"])["encrypted_cek"] == "a+/b=="
    assert message["unknown_names"][:2] == ["UnknownOne", "UnknownTwo"]


def dropped_by_nginx(vector: dict[str, Any]) -> bool:
    """Where nginx strips a prefix, it forgets a question mark without a query."""
    return bool(vector["setup"] == "prefix" and vector["target"].endswith("?"))


each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['setup']}: {vector['name']}")


@needs_nginx
@pytest.mark.parametrize(
    "vector",
    [each for each in VECTORS if not dropped_by_nginx(each)],
    ids=lambda each: f"{each['setup']}: {each['name']}",
)
def test_a_genuine_callback_is_accepted_behind_nginx(
    deployment: Callable[[str], Deployment], vector: dict[str, Any]
) -> None:
    """Behind nginx, a callback of Twilio's SDK is accepted and enqueued."""
    setup = deployment(vector["setup"])
    with setup.wire() as wire:
        accepts(setup, wire, vector)


@each_vector
def test_a_genuine_callback_is_accepted_without_a_proxy(
    deployment: Callable[[str], Deployment], vector: dict[str, Any]
) -> None:
    """Where nothing strips the prefix or changes the host, the same callback is accepted as well."""
    setup = deployment(vector["setup"])
    with setup.wire(direct=True) as wire:
        accepts(setup, wire, vector)


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize(
    "direct", [pytest.param(False, marks=needs_nginx, id="nginx"), pytest.param(True, id="direct")]
)
def test_headers_decide_nothing(deployment: Callable[[str], Deployment], setup: str, direct: bool) -> None:
    """Headers that lie about scheme, host, port and path change neither a good nor a bad callback's answer."""
    vector = next(vector for vector in VECTORS if vector["setup"] == setup)
    started = deployment(setup)
    with started.wire(direct=direct) as wire:
        accepts(started, wire, vector, **LIES)
        answer = wire.send(encoded(vector | {"signature": vector["signature"][::-1]}, **LIES))
        assert answer is not None
        assert answer.status == 403
    assert started.web.queued() == []


@pytest.mark.parametrize(
    "path", ["/hooks/v1", "/hooks/v1/", "/hooks", "/hooks/v1//recording-status/x", "/x/recording-status"]
)
def test_near_the_prefix_is_nothing(deployment: Callable[[str], Deployment], path: str) -> None:
    """What is not the endpoint below the prefix is not found, and never redirected."""
    assert deployment("prefix").web.get(path).problem()["status"] == 404


@pytest.mark.parametrize("stripped", [False, True])
@pytest.mark.parametrize("path", ["//recording-status", "/recording-status/"])
def test_a_slash_too_many_is_signed_with_the_prefix(
    deployment: Callable[[str], Deployment], path: str, stripped: bool
) -> None:
    """Whether the prefix was stripped or not, a slash too many in the URL that Twilio was given does no harm."""
    (account_sid, token), web = next(iter(ACCOUNTS.items())), deployment("prefix").web
    prefix = "/hooks/v%31"
    fields = fields_of(account_sid, f"RE{'0' * 32}")
    signed = Key(token).headers(PUBLIC_URL + prefix + path, list(fields.items()))
    target = path if stripped else prefix + path
    with web.wire() as wire:
        answer = wire.send(request(target, body=urlencode(fields).encode(), headers={"Content-Type": FORM, **signed}))
    assert answer is not None
    assert answer.status == 204
    assert len(web.queued()) == 1


def test_the_other_resources_are_below_the_prefix_too(deployment: Callable[[str], Deployment]) -> None:
    """Where no proxy strips the prefix, health checks find what they look for."""
    web = deployment("prefix").web
    assert [web.get(f"/hooks/v1{path}").status for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3


def changed(text: str, position: int) -> str:
    """Change one bit, so that one byte differs; it never turns an escape into another spelling of the same one."""
    return text[:position] + chr(ord(text[position]) ^ 1) + text[position + 1 :]


@needs_nginx
@each_vector
def test_one_changed_byte_is_refused(deployment: Callable[[str], Deployment], vector: dict[str, Any]) -> None:
    """With one byte of target, body or signature changed, a genuine callback is refused and nothing is enqueued."""
    setup, choose = deployment(vector["setup"]), random.Random(vector["signature"])
    with setup.wire() as wire:
        for part in ("target", "body", "signature"):
            text = vector[part]
            for position in choose.sample(range(len(text)), k=min(len(text), 15)):
                answer = wire.send(encoded(vector | {part: changed(text, position)}))
                assert answer is not None
                # In the path or in nginx's syntax it is another resource or no request; else it is a wrong signature.
                allowed = {403, 404, 400} if part == "target" else {403}
                assert answer.status in allowed, (part, position)
    assert setup.web.queued() == []
