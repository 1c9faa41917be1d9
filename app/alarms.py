"""Events that call for a person: lines of the log of level error, counted by their names on the board.

There, because what a process has counted in its memory is gone when it ends, and because not every process can be
scraped. A rule needs no more than the name of the event, and the runbook has a line for each.
"""

import re
from typing import Any, Final, Self

from app.board import ALARM, Board
from app.queue import redis_client
from app.settings import CommonSettings

_NAME: Final = re.compile(r"[a-z_]{1,60}")
_TIMEOUT_S: Final = 1.0  # to connect, and to answer: what is counted is rare, and already wrong


class Alarms:
    """A processor of structlog that lets everything pass, and counts what is of level error."""

    def __init__(self, board: Board) -> None:
        self._board = board

    @classmethod
    def of(cls, settings: CommonSettings) -> Self:
        """Count on the board of these settings; nothing connects before there is something to count."""
        return cls(Board(redis_client(settings, timeout_s=_TIMEOUT_S, once=True)))

    def __call__(self, _logger: Any, method: str, fields: Any) -> Any:
        """Count one event; without Redis it is only in the log."""
        if method in ("error", "exception", "critical"):
            event = str(fields.get("event"))
            self._board.count(ALARM + (event if _NAME.fullmatch(event) else "other"))
        return fields
