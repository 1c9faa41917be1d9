"""Where things belong in the bucket, written down once more and independently of the product."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.model.recordings import Recording

_KEY = re.compile(
    r"(?P<collection>recordings|receipts|deletions|absences|quarantine|transcriptions)"
    r"/account=(?P<account>AC[0-9a-f]{32})/(?P<day>year=\d{4}/month=\d\d/day=\d\d|day=undated)"
    r"/(?P<sid>RE[0-9a-f]{32})\.(?P<extension>wav|mp3|json|requested\.json)"
)
_INDEX = re.compile(
    r"index/account=(?P<account>AC[0-9a-f]{32})/(?:recording=(?P<sid>RE[0-9a-f]{32})"
    r"|(?:call=CA|conference=CF)[0-9a-f]{32}/(?P<of>RE[0-9a-f]{32}))/(?P<date>\d{4}-\d\d-\d\d)"
)
_EXTENSIONS = {"recordings": {"wav", "mp3"}, "deletions": {"json", "requested.json"}}


@dataclass(frozen=True, slots=True)
class Place:
    """What a key means. `kind` is a collection, `requested`, `index` or `control`."""

    kind: str
    account: str = ""
    sid: str = ""
    day: str = ""
    extension: str = ""


def place_of(prefix: str, key: str) -> Place | None:
    """Read a key; None for one that is not in the layout."""
    if not key.startswith(prefix):
        return None
    rest = key.removeprefix(prefix)
    if rest.startswith(("control/", "reports/day=")):
        return Place(rest.partition("/")[0])
    if match := _INDEX.fullmatch(rest):
        return Place("index", match["account"], match["sid"] or match["of"], match["date"])
    match = _KEY.fullmatch(rest)
    if match is None or match["extension"] not in _EXTENSIONS.get(match["collection"], {"json"}):
        return None
    kind = "requested" if match["extension"] == "requested.json" else match["collection"]
    return Place(kind, match["account"], match["sid"], match["day"], match["extension"])


class Keys:
    """The keys of one recording."""

    def __init__(self, prefix: str, recording: Recording) -> None:
        self._prefix = prefix
        self._recording = recording
        created = recording.created
        self.day = f"year={created.year:04}/month={created.month:02}/day={created.day:02}"
        date = f"{created.year:04}-{created.month:02}-{created.day:02}"
        account = f"{prefix}index/account={recording.account_sid}"
        parent = f"conference={recording.conference_sid}" if recording.conference_sid else f"call={recording.call_sid}"
        self.index = (
            f"{account}/recording={recording.sid}/{date}",
            f"{account}/{parent}/{recording.sid}/{date}",
        )
        self.hold = f"{prefix}control/holds/account={recording.account_sid}/{recording.sid}.json"

    def of(self, collection: str, extension: str = "json") -> str:
        """Return a key of a collection."""
        recording = self._recording
        return f"{self._prefix}{collection}/account={recording.account_sid}/{self.day}/{recording.sid}.{extension}"
