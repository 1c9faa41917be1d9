"""The boundaries of every request in a recording's life: told apart, counted, and used to kill whoever asks.

What Twilio, S3 and Redis are asked comes by here, before it is carried out, after it, and when the answer has been
sent. Nothing in the product knows of it.
"""

import base64
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

from deploy.local import s3_proxy as s3
from deploy.local import twilio
from deploy.local.redis_proxy import Exchange
from deploy.local.redis_proxy import Point as RedisPoint

POINTS = ("before", "during", "after", "sent")
_SID, _TAG = re.compile(r"RE[0-9a-f]{32}"), re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_BODY = re.compile(r'"body": "([A-Za-z0-9+/]+=*)"')


@dataclass(frozen=True, order=True)
class Step:
    """One request of a life: `what` is asked of which side by `who`, for the how manieth time.

    `is_shared`: nothing in the request says which recording it is for.
    """

    who: str
    side: str
    what: str
    number: int
    is_shared: bool = False

    def __str__(self) -> str:
        return f"{self.who}: {self.side} {self.what}" + (f" #{self.number}" if self.number > 1 else "")


@dataclass
class Trap:
    """Waits for whoever comes to a point of a step of a recording's life, and does there, once, what ends it.

    That is to kill it, or to hold it until somebody else has; after that the request goes no further.
    """

    recording_sid: str
    step: Step
    point: str
    end: Callable[[], object]
    met: Event = field(default_factory=Event)
    sprung: Event = field(default_factory=Event)


class Boundaries:
    """Sees all requests, remembers the steps of each recording's life, and springs traps. Thread-safe."""

    def __init__(self) -> None:
        self.lives: defaultdict[str, list[Step]] = defaultdict(list)
        self.shared: list[Step] = []
        self._lock = Lock()
        self._counts: Counter[tuple[str | None, str, str, str]] = Counter()
        self._traps: list[Trap] = []
        self._open: dict[tuple[str, int], tuple[str | None, Step]] = {}
        self._sids_of_tags: dict[str, str] = {}

    def arm(self, trap: Trap) -> Trap:
        """Set a trap; one of a shared step waits for the next such request, whichever recording it is for."""
        with self._lock:
            self._traps.append(trap)
        return trap

    def disarm(self, trap: Trap) -> None:
        with self._lock, suppress(ValueError):
            self._traps.remove(trap)

    # The three sides

    def of_twilio(self) -> twilio.Hook:
        """Return what is injected for all requests to Twilio."""

        def before(request: twilio.Request) -> twilio.Response | None:
            step = f"{request.method} {request.endpoint}"
            if request.endpoint == "media":
                step += f" as {request.requested_channels}"
            self._begin("twilio", request.sequence, "worker", step, request.recording_sid)
            return twilio.Response(503, {}) if self._springs("twilio", request.sequence, "before") else None

        return twilio.Hook(
            before=before,
            after=lambda request, response: self._springs("twilio", request.sequence, "after") and None,
            during=lambda request: self._springs("twilio", request.sequence, "during"),
            sent=lambda request: self._springs("twilio", request.sequence, "sent"),
        )

    def of_s3(self) -> s3.Hook:
        """Return what is injected for all requests to S3."""

        def before(request: s3.S3Request) -> None:
            named = request.key or request.query.get("prefix", "")
            sid = _SID.search(named)
            collection = named.split("/")[0] or "bucket"
            kind = named.rpartition(".requested")[1] or (re.search(r"/(call|conference|recording)=", named) or [""])[0]
            step = " ".join(filter(None, (request.operation, collection, kind.strip("/.="))))
            if request.part_number:
                step += f" {request.part_number}"
            self._begin("s3", request.sequence, "worker", step, sid[0] if sid else None)
            end(request.sequence, "before")

        def end(sequence: int, point: str) -> None:
            if self._springs("s3", sequence, point):
                raise s3.DropError

        return s3.Hook(
            before=before,
            after=lambda request, response: end(request.sequence, "after"),
            sent=lambda request: self._springs("s3", request.sequence, "sent"),
        )

    def of_redis(self, exchange: Exchange, point: RedisPoint) -> None:
        """Watch what Redis is asked; only what names a recording, or a message about one, is of a life."""
        text = b" ".join(word for words in exchange.commands for word in words).decode("utf-8", "replace")
        known = ("redis", exchange.sequence) in self._open
        if not known and point != "sent":
            found = self._message(text if point == "before" else exchange.replies.decode("utf-8", "replace"))
            if found:
                sid, task, has_callback = found
                is_publishing = exchange.name.endswith("LPUSH") and "unacked" not in text
                who = "web" if is_publishing and has_callback else "worker"
                self._begin("redis", exchange.sequence, who, f"{exchange.name} {task}".strip(), sid)
        if self._springs("redis", exchange.sequence, point):
            raise s3.DropError

    def _message(self, text: str) -> tuple[str | None, str, bool] | None:
        """Return which recording a text is about, the task of the message in it, and whether that has a callback."""
        tag = _TAG.search(text)
        task, has_callback = "", False
        for body in _BODY.findall(text):
            message: Any = json.loads(base64.b64decode(body))
            sid = message[1].get("recording_sid")
            has_callback = bool(message[1].get("callback"))
            task = "deletion" if '"task": "delete_source"' in text else "archival"
            tag = re.search(r'"delivery_tag": "([^"]+)"', text)
            if sid and tag:
                self._sids_of_tags[tag[1]] = sid
            return (sid, task, has_callback) if sid else None
        sids = set(_SID.findall(text))
        if sids and ":rests:" in text:  # what a sweep asks about all that it has found
            return None, "rests", False
        if len(sids) == 1:
            what = re.search(r"(lease|absence):?(archive|delete)?", text)
            return sids.pop(), what[0].replace(":", " ") if what else "", False
        if tag and (known := self._sids_of_tags.get(tag[0])):
            return known, "acknowledged", False
        return None

    # Steps

    def _begin(self, side: str, sequence: int, who: str, what: str, sid: str | None) -> None:
        with self._lock:
            self._counts[sid, who, side, what] += 1
            number = 1 if sid is None else self._counts[sid, who, side, what]
            step = Step(who, side, what, number, sid is None)
            self._open[side, sequence] = (sid, step)
            if sid is None:
                self.shared.append(step)
            else:
                self.lives[sid].append(step)

    def _springs(self, side: str, sequence: int, point: str) -> bool:
        """Tell whether a trap has been sprung, and whoever has asked is dead."""
        with self._lock:
            sid, step = self._open.get((side, sequence), (None, None))
            if point == "sent":
                self._open.pop((side, sequence), None)
            sprung = next((trap for trap in self._traps if self._is_met(trap, sid, step, point)), None)
            if sprung is None:
                return False
            self._traps.remove(sprung)
        sprung.met.set()
        sprung.end()
        sprung.sprung.set()
        return True

    def _is_met(self, trap: Trap, sid: str | None, step: Step | None, point: str) -> bool:
        return (trap.step, trap.point) == (step, point) and (trap.step.is_shared or trap.recording_sid == sid)


def points_of(step: Step) -> Iterator[str]:
    """Yield the points of a step; what has a body to be cut in the middle is media."""
    for point in POINTS:
        if point == "during" and not (step.side == "twilio" and " media " in step.what):
            continue
        if point == "before" and step.what.startswith("BRPOP"):
            continue  # nobody knows yet what will come
        yield point
