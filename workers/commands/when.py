"""How the command line is told of days and shares."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import click

_DAYS: Final = re.compile(r"([0-9]{1,4})d")
_FIRST_DAY: Final = date(2008, 1, 1)  # Twilio began in that year: nobody has recorded anything before
_SHARE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?)%")


class When(click.ParamType[date]):
    """A UTC day: a date, or how many days before today as in `7d`."""

    name = "date|days"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Return the day."""
        if isinstance(value, date):
            return value
        # Where somebody is, tomorrow may have begun.
        day, last = self._day(str(value), param, ctx), datetime.now(UTC).date() + timedelta(days=1)
        if not _FIRST_DAY <= day <= last:
            self.fail(f"give a day from {_FIRST_DAY} to {last}", param, ctx)
        return day

    def _day(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if match := _DAYS.fullmatch(text):
            return datetime.now(UTC).date() - timedelta(days=int(match[1]))
        try:
            return date.fromisoformat(text)
        except ValueError:
            self.fail("give a date such as 2026-11-22, or days back such as 7d", param, ctx)


class Share(click.ParamType[float]):
    """A share of the whole, such as `5%`; converted to a number from 0 to 1."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share."""
        if isinstance(value, float):
            return value
        match = _SHARE.fullmatch(str(value))
        if match is None or not 0 <= float(match[1]) <= 100:
            self.fail("give a percentage from 0% to 100%, such as 5%", param, ctx)
        return float(match[1]) / 100
