"""The endpoint that Twilio calls: authenticate, parse, enqueue, acknowledge."""

import hmac
import re
from datetime import UTC, datetime
from time import monotonic
from typing import Final
from urllib.parse import unquote_to_bytes

import structlog
from flask import Request, Response, request

from app.metrics import CALLBACK_SECONDS, CALLBACKS, SIGNATURE_KEYS
from app.pairs import MAX_BODY_BYTES, read_form, read_json
from app.problems import problem
from app.queue import Publisher, QueueUnavailableError, arrived_at
from app.recording import Callback, MalformedError, is_sid
from app.settings import WebSettings
from app.signature import Pairs, SignedRequest, body_sha256, signed_text, signed_urls, verify
from app.tracing import span

PATH: Final = "/recording-status"
_METHODS: Final = ("GET", "POST")
_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_RETRY_AFTER_S: Final = "10"
# As a form says it, or a query.
_SAYS_RECORDING: Final = re.compile(rb"RecordingSid=?RE[0-9a-fA-F]{32}")
_SAYS_STATUS: Final = re.compile(rb"RecordingStatus=?[a-z-]")
_TOKEN: Final = re.compile(r"[0-9A-Za-z-]{1,64}")  # no signature covers it: nothing but a token gets through

log = structlog.get_logger()


class RefusedError(Exception):
    """A request that gets an error answer; `outcome` is its name in logs and metrics."""

    def __init__(self, outcome: str, answer: Response, *, expected: bool = False) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.answer = answer
        self.expected = expected


class CallbackEndpoint:
    """Takes Twilio's callbacks. 204 means that the queue holds the message, or that there is nothing to do."""

    def __init__(self, settings: WebSettings, publisher: Publisher) -> None:
        self._settings = settings
        self._publisher = publisher

    def answer(self) -> Response:
        """Answer one request, and log one line about it: a warning when it was refused."""
        started = arrived_at.get(monotonic())
        sids: dict[str, str] = {}
        write = log.info
        with span("callback") as said:
            try:
                outcome = self._take(request, sids)
                answer = Response(status=204)
            except RefusedError as refusal:
                outcome, answer = refusal.outcome, refusal.answer
                write = log.info if refusal.expected else log.warning
            said |= {"outcome": outcome, **sids}
        seconds = monotonic() - started
        CALLBACKS.labels(outcome).inc()
        CALLBACK_SECONDS.observe(seconds)
        write("callback_answered", outcome=outcome, status=answer.status_code, ms=round(seconds * 1000, 1), **sids)
        return answer

    def _take(self, incoming: Request, sids: dict[str, str]) -> str:
        body = _read_body(incoming)
        self._authenticate_basic(incoming)
        pairs = _read_pairs(incoming, body)
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
        try:
            given = incoming.authorization
        except ValueError:  # werkzeug 3.1 knows base64 that is wrong, but not what is no ASCII
            given = None
        given_username = (given.username if given else None) or ""
        given_password = (given.password if given else None) or ""
        right_username = hmac.compare_digest(given_username.encode(), username.encode())
        right_password = hmac.compare_digest(given_password.encode(), password.get_secret_value().encode())
        if not (right_username and right_password):
            # Twilio calls without credentials first and repeats after this answer.
            asked = "Authorization" not in incoming.headers
            raise RefusedError(
                "credentials_asked" if asked else "credentials_wrong",
                problem(
                    401,
                    "give the credentials of WEBHOOK_USERNAME and WEBHOOK_PASSWORD",
                    headers={"WWW-Authenticate": 'Basic realm="Recording Archiver", charset="UTF-8"'},
                ),
                expected=asked,
            )

    def _authenticate_signature(self, incoming: Request, body: bytes, pairs: Pairs) -> None:
        is_json = incoming.method == "POST" and incoming.mimetype == _JSON
        form = pairs if incoming.method == "POST" and not is_json else ()
        target = _raw_target(incoming)
        signed = SignedRequest(
            target=target,
            signature=incoming.headers.get("X-Twilio-Signature", ""),
            form=form,
            body_sha256=body_sha256(body) if is_json else None,
            settings=incoming.headers.get("X-Twilio-Webhooks-Signature-Settings", ""),
        )
        claimed = [value for name, value in pairs if name == b"AccountSid"]
        account_sid = claimed[0].decode("ascii", "replace") if claimed else ""
        account = self._settings.accounts.get(account_sid) if is_sid(account_sid, "AC") else None
        urls = signed_urls(self._settings.PUBLIC_URL, target)
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
        if _is_ambiguous(signed):
            mend = "the signed fields can be read in more than one way; send them as Twilio names them"
            raise RefusedError("signature_ambiguous", problem(403, mend, field="body"))
        place = list(self._settings.accounts).index(account_sid)
        SIGNATURE_KEYS.labels(str(place), "shared" if key < 0 else str(key)).inc()


def _read_body(incoming: Request) -> bytes:
    """Return the body of a request whose method, size and content type can be Twilio's."""
    if incoming.method not in _METHODS:
        allow = {"Allow": ", ".join(_METHODS)}
        raise RefusedError("method_refused", problem(405, "use POST or GET", headers=allow))
    if (incoming.content_length or 0) > MAX_BODY_BYTES:
        raise _too_large()
    try:
        body = incoming.stream.read(MAX_BODY_BYTES + 1)
    except Exception:  # each server has its own for a body that ends early or whose chunks are broken
        mend = "the body ends early or its chunks are broken"
        raise RefusedError("body_broken", problem(400, mend, field="body")) from None
    if len(body) > MAX_BODY_BYTES:
        raise _too_large()
    if incoming.method == "POST" and incoming.mimetype not in (_FORM, _JSON):
        raise RefusedError("content_type_refused", problem(415, f"use {_FORM} or {_JSON}", field="Content-Type"))
    return body


def _too_large() -> RefusedError:
    return RefusedError("body_too_large", problem(413, f"a callback has at most {MAX_BODY_BYTES} bytes"))


def _raw_target(incoming: Request) -> str:
    """Return path and query as they came over the wire: WSGI's own fields are decoded."""
    raw = str(incoming.environ.get("RAW_URI") or incoming.environ.get("REQUEST_URI") or incoming.full_path)
    origin_form = re.sub(r"^https?://[^/?#]*", "", raw, flags=re.IGNORECASE)  # RFC 9112: proxies may send a whole URL
    return origin_form.encode("latin-1", "replace").decode("utf-8", "surrogateescape")


def _read_pairs(incoming: Request, body: bytes) -> Pairs:
    if incoming.method == "GET":
        return read_form(incoming.query_string)
    return read_json(body) if incoming.mimetype == _JSON else read_form(body)


def _is_ambiguous(signed: SignedRequest) -> bool:
    """Tell whether what was signed could have been signed as another recording's or with another status.

    Names and values are signed without separators, right after the URL, so that fields can be cut anew and moved
    between form and query. A SID ends after 32 digits and a status before a capital letter: both are as signed where
    they are said once (with JSON, not at all: its digest covers them) and no name that could be a status's end follows.
    (The account needs no such rule: it chooses the key.)
    """
    url = unquote_to_bytes(signed.target.encode("utf-8", "surrogateescape"))
    text = url + signed_text(signed.form)
    times = 1 if signed.body_sha256 is None else 0
    after_status = min((name for name, _ in signed.form if name > b"RecordingStatus"), default=b"")
    too_often = any(len(says.findall(text)) > times for says in (_SAYS_RECORDING, _SAYS_STATUS))
    return too_often or re.match(rb"[a-z-]", after_status) is not None


def _parse(pairs: Pairs, incoming: Request) -> Callback:
    try:
        text = [(name.decode("utf-8"), value.decode("utf-8")) for name, value in pairs]
        token = _TOKEN.fullmatch(incoming.headers.get("I-Twilio-Idempotency-Token", ""))
        return Callback.parse(text, datetime.now(UTC), token[0] if token else None)
    except UnicodeDecodeError:
        raise RefusedError("malformed", problem(400, "must be UTF-8", field="body")) from None
    except MalformedError as error:
        raise RefusedError("malformed", problem(400, error.mend, field=error.field)) from None
