"""Cut lists into pages as Twilio's 2010 API does, and read the filters."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from .accounts import Account
from .errors import ApiError
from .messages import Request
from .recordings import SimRecording
from .representations import account, resource

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 50, 1000


def recording_page(request: Request) -> dict[str, Any]:
    """Return one page of recordings, newest first.

    The next page continues after the last recording of this one (its SID is in the PageToken), so what is
    recorded or deleted meanwhile shifts nothing.
    """
    store, size = request.simulator.store, _page_size(request)
    after, passes = request.query.get("PageToken", ""), _filter(request)
    with store.lock:
        found = [recording for recording in store.newest_first(request.parts["account_sid"]) if passes(recording)]
        if after:
            last = store.recordings.get(after.removeprefix("PA"))
            if last is None:
                raise ApiError(400, 20001)
            found = [recording for recording in found if recording.order < last.order]
        else:
            found = found[_number(request, "Page", 0) * size :]
        page = [resource(recording) for recording in found[:size]]
    token = f"PA{page[-1]['sid']}" if len(found) > size else None
    return _envelope(request, "recordings", page, size, token)


def account_page(request: Request, accounts: Sequence[Account]) -> dict[str, Any]:
    """Return the accounts that a caller may see: its own and its subaccounts. All fit on one page."""
    wanted = [a for a in accounts if request.query.get("Status", a.status) == a.status]
    page = [account(known, request.simulator.started_at) for known in wanted]
    return _envelope(request, "accounts", page, _page_size(request), None)


def single_page(request: Request, name: str, items: Sequence[Any]) -> dict[str, Any]:
    """Return a subresource list; those of one recording always fit on one page."""
    return _envelope(request, name, list(items), _page_size(request), None)


def _envelope(request: Request, name: str, page: list[Any], size: int, token: str | None) -> dict[str, Any]:
    number = _number(request, "Page", 0)
    filters = {k: v for k, v in request.query.items() if k not in ("PageSize", "Page", "PageToken")}

    def uri(at: int, **extra: str) -> str:
        return f"{request.path}?{urlencode({**filters, 'PageSize': size, 'Page': at, **extra})}"

    return {
        name: page,
        "page": number,
        "page_size": size,
        "start": number * size,
        "end": number * size + max(0, len(page) - 1),
        "uri": uri(number),
        "first_page_uri": uri(0),
        "previous_page_uri": None,
        "next_page_uri": uri(number + 1, PageToken=token) if token else None,
    }


def _page_size(request: Request) -> int:
    size = _number(request, "PageSize", DEFAULT_PAGE_SIZE)
    if size < 1:
        raise ApiError(400, 20001)
    return min(size, MAX_PAGE_SIZE)


def _number(request: Request, name: str, default: int) -> int:
    value = request.query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise ApiError(400, 20001)
    return int(value)


def _filter(request: Request) -> Callable[[SimRecording], bool]:
    """Read the filters of a list.

    `DateCreated` is a GMT day. `DateCreated<` and `DateCreated>` are inclusive (`DateCreated<=2026-11-23`
    on the wire) and take a day as its first midnight, a timestamp as it stands ("on or before midnight of
    this date": Recording resource, list parameters; the SDK sends every date as a timestamp).
    """
    query, earliest, latest = request.query, FIRST, LAST
    if "DateCreated" in query:
        earliest = _moment(query["DateCreated"]).replace(hour=0, minute=0, second=0, microsecond=0)
        latest = earliest + timedelta(days=1, microseconds=-1)
    if "DateCreated>" in query:
        earliest = max(earliest, _moment(query["DateCreated>"]))
    if "DateCreated<" in query:
        latest = min(latest, _moment(query["DateCreated<"]))
    call_sids = {query.get("CallSid"), request.parts.get("call_sid")} - {None}
    conference_sids = {query.get("ConferenceSid"), request.parts.get("conference_sid")} - {None}
    deleted_too = query.get("IncludeSoftDeleted", "").lower() == "true"

    def passes(recording: SimRecording) -> bool:
        return (
            earliest <= recording.date_created <= latest
            and call_sids <= {recording.call_sid}
            and conference_sids <= {recording.conference_sid}
            and (deleted_too or recording.deleted_at is None)
        )

    return passes


def _moment(value: str) -> datetime:
    """Read a day or a timestamp (ISO 8601), GMT where it names no zone."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ApiError(400, 20001) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
