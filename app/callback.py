"""The endpoint that Twilio calls: authenticate, parse, enqueue, acknowledge."""

import hmac
import json
from datetime import UTC, datetime
from time import perf_counter
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import structlog
from flask import Blueprint, Request, Response, request

from app.metrics import CALLBACK_SECONDS, CALLBACKS, SIGNATURE_KEYS
from app.problems import problem
from app.queue import Publisher, QueueUnavailableError
from app.recording import Callback, MalformedError, is_sid
from app.settings import WebSettings
from app.signature import Pairs, SignedRequest, body_sha256, signed_urls, verify

PATH: Final = "/recording-status"
MAX_BODY_BYTES: Final = 64 * 1024
_METHODS: Final = ("GET", "POST")
_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_RETRY_AFTER_S: Final = "10"

log = structlog.get_logger()


class RefusedError(Exception):
    """A request that gets an error answer; `outcome` is its name in logs and metrics."""

    def __init__(self, outcome: str, answer: Response) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.answer = answer


class CallbackEndpoint:
    """Takes Twilio's callbacks. 204 means that the queue holds the message, or that there is nothing to do."""

    def __init__(self, settings: WebSettings, publisher: Publisher) -> None:
        self._settings = settings
        self._publisher = publisher

    def blueprint(self) -> Blueprint:
        """Route the endpoint under its own path and under that of PUBLIC_URL, which a proxy may have stripped."""
        blueprint = Blueprint("callback", __name__)
        for path in {PATH, urlsplit(self._settings.PUBLIC_URL).path + PATH}:
            blueprint.add_url_rule(
                path,
                endpoint=path.strip("/").replace("/", "-").replace(".", "-"),
                view_func=self.answer,
                methods=[*_METHODS, "DELETE", "HEAD", "OPTIONS", "PATCH", "PUT", "TRACE"],
                provide_automatic_options=False,
                strict_slashes=False,
            )
        return blueprint

    def answer(self) -> Response:
        """Answer one request, and log one line about it."""
        started = perf_counter()
        sids: dict[str, str] = {}
        try:
            outcome = self._take(request, sids)
            answer = Response(status=204)
        except RefusedError as refusal:
            outcome, answer = refusal.outcome, refusal.answer
        seconds = perf_counter() - started
        CALLBACKS.labels(outcome).inc()
        CALLBACK_SECONDS.observe(seconds)
        log.info("callback_answered", outcome=outcome, status=answer.status_code, ms=round(seconds * 1000, 1), **sids)
        return answer

    def _take(self, incoming: Request, sids: dict[str, str]) -> str:
        body = _read_body(incoming)
        self._authenticate_basic(incoming)
        pairs = _pairs(incoming, body)
        self._authenticate_signature(incoming, body, pairs)
        callback = _parse(pairs, incoming)
        sids |= {"account_sid": callback.account_sid, "recording_sid": callback.recording_sid}
        if not callback.is_final:
            return "acknowledged"
        try:
            self._publisher.publish_callback(callback)
        except QueueUnavailableError:
            raise RefusedError(
                "queue_unavailable",
                problem(503, "the queue is not available; try again", headers={"Retry-After": _RETRY_AFTER_S}),
            ) from None
        return "enqueued"

    def _authenticate_basic(self, incoming: Request) -> None:
        username, password = self._settings.WEBHOOK_USERNAME, self._settings.WEBHOOK_PASSWORD
        if username is None or password is None:
            return
        given = incoming.authorization
        given_username = (given.username if given else None) or ""
        given_password = (given.password if given else None) or ""
        right_username = hmac.compare_digest(given_username.encode(), username.encode())
        right_password = hmac.compare_digest(given_password.encode(), password.get_secret_value().encode())
        if not (right_username and right_password):
            # Twilio calls without credentials first and repeats after this answer.
            raise RefusedError(
                "credentials_wrong" if given else "credentials_asked",
                problem(
                    401,
                    "give the credentials of WEBHOOK_USERNAME and WEBHOOK_PASSWORD",
                    headers={"WWW-Authenticate": 'Basic realm="Recording Archiver", charset="UTF-8"'},
                ),
            )

    def _authenticate_signature(self, incoming: Request, body: bytes, pairs: Pairs) -> None:
        is_json = incoming.method == "POST" and incoming.mimetype == _JSON
        target = _raw_target(incoming)
        signed = SignedRequest(
            target=target,
            signature=incoming.headers.get("X-Twilio-Signature", ""),
            form=pairs if incoming.method == "POST" and not is_json else (),
            body_sha256=body_sha256(body) if is_json else None,
            settings=incoming.headers.get("X-Twilio-Webhooks-Signature-Settings", ""),
        )
        claimed = [value for name, value in pairs if name == b"AccountSid"]
        account_sid = claimed[0].decode("ascii", "replace") if claimed else ""
        account = self._settings.accounts.get(account_sid) if is_sid(account_sid, "AC") else None
        urls = signed_urls(self._settings.PUBLIC_URL, target, PATH)
        key = verify(signed, urls, account)
        if key is None:
            raise RefusedError(
                "signature_missing" if not signed.signature else "signature_wrong",
                problem(
                    403,
                    "X-Twilio-Signature is missing or was not made by a configured account for this URL; "
                    "compare PUBLIC_URL with the URL that Twilio was given, and the auth tokens",
                    field="X-Twilio-Signature",
                ),
            )
        place = list(self._settings.accounts).index(account_sid)
        SIGNATURE_KEYS.labels(str(place), "shared" if key < 0 else str(key)).inc()


def _read_body(incoming: Request) -> bytes:
    """Return the body of a request whose method, size and content type can be Twilio's."""
    if incoming.method not in _METHODS:
        allow = {"Allow": ", ".join(_METHODS)}
        raise RefusedError("method_refused", problem(405, "use POST or GET", headers=allow))
    if incoming.content_length is not None and incoming.content_length > MAX_BODY_BYTES:
        raise RefusedError("body_too_large", _too_large())
    body = incoming.stream.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise RefusedError("body_too_large", _too_large())
    if incoming.method == "POST" and incoming.mimetype not in (_FORM, _JSON):
        raise RefusedError("content_type_refused", problem(415, f"use {_FORM} or {_JSON}", field="Content-Type"))
    return body


def _too_large() -> Response:
    return problem(413, f"a callback has at most {MAX_BODY_BYTES} bytes")


def _raw_target(incoming: Request) -> str:
    """Return path and query as they came over the wire: WSGI's own fields are decoded."""
    raw = str(incoming.environ.get("RAW_URI") or incoming.environ.get("REQUEST_URI") or incoming.full_path)
    return raw.encode("latin-1", "replace").decode("utf-8", "surrogateescape")


def _pairs(incoming: Request, body: bytes) -> Pairs:
    """Decode name and value pairs; what is no pair at all counts as none, and then no signature fits."""
    if incoming.method == "POST" and incoming.mimetype == _JSON:
        return _json_pairs(body)
    encoded = body if incoming.method == "POST" else incoming.query_string
    return parse_qsl(encoded, keep_blank_values=True)


def _json_pairs(body: bytes) -> Pairs:
    def as_text(value: object) -> str:
        if value is None:
            return ""
        return value if isinstance(value, str) else json.dumps(value)

    try:
        read = json.loads(body, object_pairs_hook=lambda pairs: pairs)
        if isinstance(read, list) and all(isinstance(item, tuple) for item in read):
            return [(name.encode(), as_text(_plain(value)).encode()) for name, value in read]
    except (ValueError, RecursionError):
        pass
    return []


def _plain(value: object) -> object:
    """Turn the pairs that a nested JSON object was read as back into an object."""
    if isinstance(value, list):
        if value and all(isinstance(item, tuple) for item in value):
            return {name: _plain(inner) for name, inner in value}
        return [_plain(item) for item in value]
    return value


def _parse(pairs: Pairs, incoming: Request) -> Callback:
    try:
        text = [(name.decode("utf-8"), value.decode("utf-8")) for name, value in pairs]
        return Callback.parse(text, datetime.now(UTC), incoming.headers.get("I-Twilio-Idempotency-Token"))
    except UnicodeDecodeError:
        raise RefusedError("malformed", problem(400, "must be UTF-8", field="body")) from None
    except MalformedError as error:
        raise RefusedError("malformed", problem(400, error.mend, field=error.field)) from None
