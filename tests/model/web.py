"""The product's own endpoint, called as Twilio calls it."""

from collections.abc import Mapping
from functools import cache
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

from flask import Flask

from app.callback import CallbackEndpoint
from app.queue import Publisher
from app.signature import sign
from tests.model.variants import PLAIN, PUBLIC_URL

PATH = "/twilio/recording-status"

# What a WSGI server says of every callback.
_SERVED = {
    "REQUEST_METHOD": "POST",
    "SCRIPT_NAME": "",
    "PATH_INFO": PATH,
    "QUERY_STRING": "",
    "RAW_URI": PATH,
    "CONTENT_TYPE": "application/x-www-form-urlencoded",
    "HTTP_HOST": "localhost",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "wsgi.url_scheme": "http",
}


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


def call_back(
    publisher: Publisher, fields: Mapping[str, str], token: str | None, signed: Mapping[str, str] | None = None
) -> int:
    """Send a callback signed with `token` (None: not at all), and return the status of the answer.

    `signed` are the fields that the signature was made for, if they are not those that are sent.
    """
    app, endpoint, relay = _endpoint()
    relay.target = publisher
    body = urlencode(fields).encode()
    environ = _SERVED | {"CONTENT_LENGTH": str(len(body)), "wsgi.input": BytesIO(body)}
    if token is not None:
        form = [(name.encode(), value.encode()) for name, value in (signed or fields).items()]
        environ["HTTP_X_TWILIO_SIGNATURE"] = sign(token, f"{PUBLIC_URL}/recording-status", form)
    with app.request_context(environ):
        return endpoint.answer().status_code
