"""Twilio's REST API in memory: what it answers to a request, by what really is there.

Knows nothing of the product. Sources: TWILIO's own documentation of the Recording resource, and for what it leaves open
the outcomes that have been seen; `tests/conformance` holds it against the simulator and, where one is given, Twilio.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from tests.model.recordings import PHONE_NUMBERS, Recording

_ROUTE = re.compile(
    r"/2010-04-01/Accounts(?:\.json|/(?P<account>AC[0-9a-f]{32})(?:/(?P<rest>.*)))", re.IGNORECASE | re.DOTALL
)
_OF_RECORDING = re.compile(
    r"Recordings/(?P<sid>RE[0-9a-f]{32})(?P<what>\.json|\.wav|\.mp3|/Transcriptions\.json|/AddOnResults\.json)?",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Answer:
    """What goes over the wire. The connection breaks at `broken_at` of the body; `silent`: it ends like a good one."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    framing: str = "length"
    broken_at: int | None = None
    silent: bool = False


@dataclass(eq=False, slots=True)
class Account:
    """An account and what it accepts: passwords by user name."""

    sid: str
    accepts: dict[str, set[str]] = field(default_factory=dict)
    active: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrives."""

    method: str
    path: str
    query: Mapping[str, str]
    authorization: str


class Twilio:
    """Accounts and recordings. `clock` says the true time; lists have pages of `page_size` at most."""

    def __init__(self, clock: Callable[[], datetime], accounts: list[Account], page_size: int = 1000) -> None:
        self.accounts = {account.sid: account for account in accounts}
        self.recordings: dict[str, Recording] = {}
        self.page_size = page_size
        self._clock = clock

    def answer(self, request: Request) -> Answer:
        """Carry a request out and answer it."""
        route = _ROUTE.fullmatch(request.path)
        caller = self._caller(request.authorization)
        if caller is None:
            return self._error(request, 401, 20003)
        if route is None:
            return self._error(request, 404, 20404)
        if route["account"] is None:
            return self._accounts(request)
        if route["account"] != caller.sid:
            return self._error(request, 401, 20003)
        if route["rest"] == "Recordings.json":
            return self._list(request, caller)
        found = _OF_RECORDING.fullmatch(route["rest"])
        recording = self.recordings.get(found["sid"]) if found else None
        now = self._clock()
        if found is None or recording is None or recording.account_sid != caller.sid or not recording.is_known(now):
            return self._error(request, 404, 20404)
        if request.method == "DELETE":
            return self._delete(request, recording)
        if found["what"] == ".json":
            gone = recording.deleted is not None and request.query.get("IncludeSoftDeleted") != "true"
            return self._error(request, 404, 20404) if gone else _json(recording.resource(now))
        if recording.deleted is not None:
            return self._error(request, 404, 20404)
        if found["what"] == "/Transcriptions.json":
            return _json(self._page(request, "transcriptions", recording.texts(now), None))
        if found["what"] == "/AddOnResults.json":
            return _json(self._page(request, "add_on_results", [], None))
        return self._media(request, recording, "mp3" if found["what"] == ".mp3" else "wav")

    def _caller(self, authorization: str) -> Account | None:
        scheme, _, encoded = authorization.partition(" ")
        user, _, password = b64decode(encoded).decode().partition(":") if scheme == "Basic" else ("", "", "")
        for account in self.accounts.values():
            if password in account.accepts.get(user, ()):
                return account
        return None

    def _accounts(self, request: Request) -> Answer:
        wanted = request.query.get("Status", "active") == "active"
        found = [{"sid": each.sid, "status": "active"} for each in self.accounts.values() if each.active == wanted]
        return _json(self._page(request, "accounts", found, None))

    def _list(self, request: Request, caller: Account) -> Answer:
        now, query = self._clock(), request.query
        earliest, latest = query.get("DateCreated>"), query.get("DateCreated<")
        found = [
            recording
            for recording in self.recordings.values()
            if recording.account_sid == caller.sid
            and recording.is_known(now)
            and (recording.deleted is None or query.get("IncludeSoftDeleted") == "true")
            and (earliest is None or recording.created >= _moment(earliest))
            and (latest is None or recording.created <= _moment(latest))
        ]
        found.sort(key=lambda recording: (recording.created, recording.sid), reverse=True)
        size = min(int(query.get("PageSize", "50")), self.page_size)
        if token := query.get("PageToken"):
            last = self.recordings[token.removeprefix("PA")]
            found = [each for each in found if (each.created, each.sid) < (last.created, last.sid)]
        page = [recording.resource(now) for recording in found[:size]]
        following = f"PA{found[size - 1].sid}" if len(found) > size else None
        return _json(self._page(request, "recordings", page, following))

    def _page(self, request: Request, name: str, items: list[Any], token: str | None) -> dict[str, Any]:
        number = int(request.query.get("Page", "0"))
        size = min(int(request.query.get("PageSize", "50")), self.page_size)
        kept = {key: value for key, value in request.query.items() if key not in ("Page", "PageSize", "PageToken")}
        following = {**kept, "PageSize": size, "Page": number + 1, "PageToken": token}
        uri = f"{request.path}?{urlencode(following)}" if token else None
        return {name: items, "page": number, "page_size": size, "next_page_uri": uri}

    def _media(self, request: Request, recording: Recording, extension: str) -> Answer:
        now = self._clock()
        if recording.status(now) != "completed" or recording.external or now < recording.ready:
            return self._error(request, 404, 20404)
        requested = request.query.get("RequestedChannels")
        if requested not in (None, "1", "2"):
            return self._error(request, 400, 20001)
        try:
            body = recording.media(requested, extension)
        except KeyError as error:
            return self._error(request, 400, error.args[0])
        recording.downloads += 1
        kind = "audio/mpeg" if extension == "mp3" else "audio/x-wav"
        return Answer(200, {"Content-Type": kind}, body, recording.framing)

    def _delete(self, request: Request, recording: Recording) -> Answer:
        if recording.deleted is not None:
            return self._error(request, 404, 20404)
        if recording.status(self._clock()) != "completed":
            return self._error(request, 409, 20009)
        recording.deleted, recording.deleted_by_us = self._clock(), True
        return Answer(204, {})

    def _error(self, request: Request, status: int, code: int) -> Answer:
        return error_answer(request.path, status, code)


def error_answer(path: str, status: int, code: int, retry_after_s: int | None = None) -> Answer:
    """Make one of Twilio's errors: JSON where the path says so, else XML. Its text names a phone number."""
    message = f"The requested resource {path} for {PHONE_NUMBERS[0]} was refused"
    if path.endswith(".json"):
        answer = _json({"code": code, "message": message, "status": status}, status)
    else:
        text = f"<?xml version='1.0'?><TwilioResponse><RestException><Code>{code}</Code><Message>{message}</Message>"
        body = f"{text}</RestException></TwilioResponse>".encode()
        answer = Answer(status, {"Content-Type": "application/xml"}, body)
    if status == 401:
        answer.headers["WWW-Authenticate"] = 'Basic realm="Twilio API"'
    if retry_after_s is not None:
        answer.headers["Retry-After"] = str(retry_after_s)
    return answer


def _json(body: Any, status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(body).encode())


def _moment(value: str) -> datetime:
    moment = datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
