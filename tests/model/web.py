"""The product's own endpoint, called as Twilio calls it."""

from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlencode

from flask import Flask

from app.callback import CallbackEndpoint
from app.queue import Publisher
from app.signature import sign
from tests.model.variants import PLAIN, PUBLIC_URL

PATH = "/twilio/recording-status"


class _Relay(Publisher):
    """Publishes wherever the history that runs just now says."""

    def __init__(self) -> None:
        self.target: Publisher | None = None

    def publish(self, task: str, *, expires_s: float | None = None, **message: Any) -> None:
        assert self.target is not None
        self.target.publish(task, expires_s=expires_s, **message)


@cache
def _endpoint() -> tuple[Flask, CallbackEndpoint, _Relay]:
    relay = _Relay()
    return Flask("model"), CallbackEndpoint(PLAIN.web, relay), relay


def call_back(publisher: Publisher, fields: Mapping[str, str], token: str) -> int:
    """Send a callback signed with `token`, and return the status of the answer."""
    app, endpoint, relay = _endpoint()
    relay.target = publisher
    body = urlencode(fields).encode()
    form = [(name.encode(), value.encode()) for name, value in fields.items()]
    headers = {"X-Twilio-Signature": sign(token, f"{PUBLIC_URL}/recording-status", form)}
    content_type = "application/x-www-form-urlencoded"
    with app.test_request_context(PATH, method="POST", data=body, headers=headers, content_type=content_type):
        return endpoint.answer().status_code
