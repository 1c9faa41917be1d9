"""Errors to Sentry, for those who want them there: each line of the log of level error, as an event of that name.

Nothing else is sent: no exception with its locals, no request, no other line of the log, and of the line only fields
that are known to hold no content. `sentry-sdk` is an extra; without SENTRY_DSN it is not even loaded.
"""

from collections.abc import Mapping
from typing import Any, Final, Self

from app.receipt import archiver_version
from app.settings import CommonSettings

_FIELDS: Final = ("account_sid", "attempts", "count", "error", "place", "reason", "recording_sid", "task")


class Sentry:
    """A processor of structlog that lets everything pass, and sends what is of level error. Waits for nobody."""

    def __init__(self, dsn: str, process: str, **options: Any) -> None:
        """Take a DSN and the name of this process; `options` are Sentry's own."""
        from sentry_sdk import Client

        self._client = Client(
            dsn=dsn,
            release=f"recording-archiver@{archiver_version()}",
            server_name=process,
            default_integrations=False,
            auto_enabling_integrations=False,
            send_default_pii=False,
            include_local_variables=False,
            max_breadcrumbs=0,
            **options,
        )

    @classmethod
    def of(cls, settings: CommonSettings, process: str) -> list[Self]:
        """Return a list with what sends to SENTRY_DSN, or an empty one."""
        return [] if settings.SENTRY_DSN is None else [cls(settings.SENTRY_DSN.get_secret_value(), process)]

    def __call__(self, _logger: Any, method: str, fields: Any) -> Any:
        """Send one event, in a thread of Sentry's own."""
        if method in ("error", "exception", "critical"):
            self._client.capture_event(event_of(fields))
        return fields


def event_of(fields: Mapping[str, Any]) -> Any:
    """Return what is sent of a line: those of the same name and reason are one issue."""
    name = str(fields.get("event"))
    tags = {field: str(fields[field]) for field in _FIELDS if field in fields}
    return {
        "level": "error",
        "logger": "recording-archiver",
        "message": name,
        "fingerprint": [name, tags.get("reason", "")],
        "tags": tags,
    }
