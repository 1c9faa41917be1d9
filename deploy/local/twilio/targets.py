"""Say which requests or callbacks a fault is for."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType
from typing import Protocol


class Target(Protocol):
    """What a fault may meet: a request, or a callback."""

    @property
    def method(self) -> str: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def account_sid(self) -> str | None: ...
    @property
    def recording_sid(self) -> str | None: ...
    @property
    def requested_channels(self) -> int | None: ...


@dataclass(frozen=True)
class Match:
    """Which requests a fault is for; None (for `requested_channels`: `...`) means any.

    `endpoint` is accounts, account, list, resource, media, cdn, delete, start, update, transcriptions, addons
    or callback; without it the fault's own is meant, such as media for a cut. `requested_channels` None are
    the requests that ask for no number.
    """

    method: str | None = None
    endpoint: str | None = None
    requested_channels: int | EllipsisType | None = ...
    account_sid: str | None = None

    def fits(self, target: Target, default_endpoint: str | None) -> bool:
        """Tell whether a target is meant."""
        return (
            self.method in (None, target.method)
            and (self.endpoint or default_endpoint) in (None, target.endpoint)
            and self.requested_channels in (..., target.requested_channels)
            and self.account_sid in (None, target.account_sid)
        )
