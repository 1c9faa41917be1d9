"""Error answers as RFC 9457 problems that name the field and the mend, and never echo a value."""

import json
from collections.abc import Mapping
from http import HTTPStatus

from flask import Response


def problem(
    status: int, detail: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Build an `application/problem+json` answer; `detail` says what to mend."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if field is not None:
        body["field"] = field
    answer = Response(json.dumps(body), status=status, content_type="application/problem+json")
    answer.headers.extend(dict(headers or {}))
    return answer
