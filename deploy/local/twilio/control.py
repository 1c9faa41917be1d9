"""Let people play calls and look around while a simulator runs: two addresses that Twilio does not have."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from .errors import ApiError
from .messages import Request, Response
from .recordings import SimRecording

_TAKEN: dict[str, type | tuple[type, ...]] = {
    "account_sid": str,
    "kind": str,
    "seconds": (int, float),
    "channels": int,
    "encrypted": bool,
    "status": str,
    "error_code": int,
    "external": bool,
    "size_bytes": int,
    "media_ready_after": (int, float),
    "callback_url": str,
    "callback_method": str,
    "callback_events": list,
}


def answer(request: Request) -> Response:
    """Answer `POST /_simulator/calls` (JSON: what `Simulator.record` takes) or `GET /_simulator/recordings`.

    No credentials are asked: the simulator listens on loopback only. Raises ApiError 20001 and 20004.
    """
    wanted = {"calls": "POST", "recordings": "GET"}[request.parts["control"]]
    if request.method != wanted:
        raise ApiError(405, 20004)
    simulator = request.simulator
    if wanted == "GET":
        return Response.json({"recordings": [ground_truth(each) for each in simulator.recordings.values()]})
    try:
        options: dict[str, Any] = json.loads(request.body or b"{}")
        for name, value in options.items():
            if name not in _TAKEN or not isinstance(value, _TAKEN[name]):
                raise ApiError(400, 20001, f"{name} is not an option of a call, or has the wrong type")
        account_sid = options.pop("account_sid", None) or next(iter(simulator.store.accounts))
        recording = simulator.record(account_sid, **options)
    except (ValueError, KeyError, AttributeError):
        raise ApiError(400, 20001, "The body is not a JSON object of options that fit together") from None
    return Response.json(ground_truth(recording), 201)


def ground_truth(recording: SimRecording) -> dict[str, Any]:
    """Return what is known of a recording, without its keys."""
    shown = {name: value for name, value in vars(recording).items() if name not in ("content_key", "order", "callback")}
    shown["encrypted"] = recording.encrypted
    return {
        name: value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
        for name, value in shown.items()
    }
