"""Carry out what a request asks of Twilio's REST API: authenticate, then one function per endpoint."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import parse_qsl

from . import control, live, representations
from .accounts import Account
from .errors import ApiError
from .lists import account_page, recording_page, single_page
from .messages import Request, Response
from .recordings import LIVE, SimRecording


def answer(request: Request) -> Response:
    """Answer a request. Raises ApiError wherever Twilio says no."""
    if request.endpoint == "control":
        return control.answer(request)
    if request.endpoint == "cdn":
        return _presigned(request)
    caller = _authenticate(request)
    if request.endpoint == "unknown":
        raise ApiError(404, 20404)
    if request.endpoint == "method":
        raise ApiError(405, 20004)
    if request.account_sid:
        _authorise(request, caller)
    return _ENDPOINTS[request.endpoint](request, caller)


def _authenticate(request: Request) -> Account:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        username, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise ApiError(401, 20003) from None
    for account in request.simulator.store.accounts.values():
        if scheme.lower() == "basic" and account.accepts(username, password):
            if account.status != "active":
                raise ApiError(401, 20005)
            if request.method == "DELETE" and username in account.restricted_keys:
                raise ApiError(401, 20003)
            return account
    raise ApiError(401, 20003)


def _authorise(request: Request, caller: Account) -> None:
    """Let an account reach its own resources and a parent those of its subaccounts."""
    owner = request.simulator.store.accounts.get(request.account_sid or "")
    if owner is None:
        raise ApiError(404, 20404)
    if caller.sid not in (owner.sid, owner.parent):
        raise ApiError(401, 20003)


def _find(request: Request, *, include_soft_deleted: bool = False) -> SimRecording:
    recording = request.simulator.store.find(
        request.parts["account_sid"], request.parts["recording_sid"], include_soft_deleted=include_soft_deleted
    )
    for name in ("call_sid", "conference_sid"):
        if name in request.parts and getattr(recording, name) != request.parts[name]:
            raise ApiError(404, 20404)
    return recording


def _accounts(request: Request, caller: Account) -> Response:
    known = request.simulator.store.accounts.values()
    return Response.json(account_page(request, [a for a in known if caller.sid in (a.sid, a.parent)]))


def _account(request: Request, caller: Account) -> Response:
    account = request.simulator.store.accounts[request.parts["account_sid"]]
    return Response.json(representations.account(account, request.simulator.started_at))


def _list(request: Request, caller: Account) -> Response:
    return Response.json(recording_page(request))


def _resource(request: Request, caller: Account) -> Response:
    wanted = request.query.get("IncludeSoftDeleted", "").lower() == "true"
    return Response.json(representations.resource(_find(request, include_soft_deleted=wanted)))


def _presigned(request: Request) -> Response:
    """Serve as a presigned address does: no credentials are needed, and none are accepted."""
    if "authorization" in request.headers:
        raise ApiError(400, 20001, "Only one authentication mechanism is allowed")
    if "payload_sid" in request.parts:
        for recording in request.simulator.recordings.values():
            for payload in _payloads(recording.add_on_results):
                if payload["sid"] == request.parts["payload_sid"]:
                    return Response.json(payload["data"])
        raise ApiError(404, 20404)
    return _media(request)


def _media(request: Request, caller: Account | None = None) -> Response:
    recording, store = _find(request), request.simulator.store
    extension = request.parts.get("extension", "wav")
    if recording.status != "completed" or recording.external:
        raise ApiError(404, 20404)
    age = store.clock() - (recording.completed_at or recording.date_created)
    if age.total_seconds() < recording.media_ready_after:
        raise ApiError(404, 20404)
    if request.query.get("RequestedChannels", "1") not in ("1", "2"):
        raise ApiError(400, 20001)
    body = recording.media(request.requested_channels, extension)
    content_type = "audio/mpeg" if extension == "mp3" else "audio/x-wav"
    return Response(200, {"Content-Type": content_type}, body, recording.framing)


def _delete(request: Request, caller: Account) -> Response:
    request.simulator.store.delete(_find(request))
    return Response(204)


def _transcriptions(request: Request, caller: Account) -> Response:
    if wanted := request.parts.get("transcription_sid"):
        for recording in request.simulator.store.newest_first(request.parts["account_sid"]):
            for transcription in recording.transcriptions:
                if transcription["sid"] == wanted:
                    return Response.json(transcription)
        raise ApiError(404, 20404)
    return Response.json(single_page(request, "transcriptions", _find(request).transcriptions))


def _addons(request: Request, caller: Account) -> Response:
    results = _find(request).add_on_results
    if "result_sid" not in request.parts:
        return Response.json(single_page(request, "add_on_results", _without("payloads", results)))
    result = _of_sid(results, request.parts["result_sid"])
    if "/Payloads" not in request.path:
        return Response.json(_without("payloads", [result])[0])
    payloads = result["payloads"]
    if "payload_sid" not in request.parts:
        return Response.json(single_page(request, "payloads", _without("data", payloads)))
    payload = _of_sid(payloads, request.parts["payload_sid"])
    if not request.path.endswith("/Data.json"):
        return Response.json(_without("data", [payload])[0])
    location = f"{request.simulator.url}/_cdn/{payload['sid']}"
    return Response.json({"redirect_to": location}, 307).with_headers(Location=location)


def _payloads(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [payload for result in results for payload in result["payloads"]]


def _without(name: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in item.items() if key != name} for item in items]


def _of_sid(items: list[dict[str, Any]], sid: str) -> dict[str, Any]:
    for item in items:
        if item["sid"] == sid:
            return item
    raise ApiError(404, 20404)


def _start(request: Request, caller: Account) -> Response:
    call = request.simulator.store.calls.get(request.parts.get("call_sid", ""))
    if call is None or call.account_sid != request.account_sid:
        raise ApiError(404, 20404)
    form = parse_qsl(request.body.decode(), keep_blank_values=True)
    recording = live.start(request.simulator, call, form)
    return Response.json(representations.resource(recording, live=True), 201)


def _update(request: Request, caller: Account) -> Response:
    form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    status = form.get("Status")
    allowed = {"paused", "in-progress"} | ({"stopped"} if "call_sid" in request.parts else set())
    if status not in allowed or form.get("PauseBehavior", "silence") not in ("skip", "silence"):
        raise ApiError(400, 20001)
    recording = _current(request) if request.recording_sid == "Twilio.CURRENT" else _find(request)
    live.change(request.simulator, recording, status)
    return Response.json(representations.resource(recording, live=True) | {"status": status})


def _current(request: Request) -> SimRecording:
    """Return the one active recording of the call or conference that `Twilio.CURRENT` stands for."""
    parent = {name: request.parts[name] for name in ("call_sid", "conference_sid") if name in request.parts}
    active = [
        recording
        for recording in request.simulator.store.newest_first(request.parts["account_sid"])
        if recording.status in LIVE and all(getattr(recording, name) == sid for name, sid in parent.items())
    ]
    if not active:
        raise ApiError(404, 20404)
    if len(active) > 1:
        raise ApiError(400, 21220)
    return active[0]


_ENDPOINTS = {
    "accounts": _accounts,
    "account": _account,
    "list": _list,
    "resource": _resource,
    "media": _media,
    "delete": _delete,
    "transcriptions": _transcriptions,
    "addons": _addons,
    "start": _start,
    "update": _update,
}
