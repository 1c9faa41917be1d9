"""The kinds of recordings that there are, each made from a number; what is not said is as usual."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.model.faults import DAMAGE
from tests.model.recordings import Recording
from tests.model.variants import MAIN

FOREVER = 10_000  # downloads
_NEVER = datetime(2100, 1, 1, tzinfo=UTC)

Kind = Callable[[Random, datetime], Mapping[str, Any]]


def _damaged(times: int) -> Kind:
    def make(random: Random, _ended: datetime) -> Mapping[str, Any]:
        return {"seconds": 2.4, "damage": [random.choice(list(DAMAGE)) for _ in range(times)]}

    return make


def _damaged_ciphertext(random: Random, _ended: datetime) -> Mapping[str, Any]:
    """Nothing but its length says what is wrong with it."""
    return {"seconds": 2.4, "encrypted": True, "damage": [random.choice(("too short", "twice"))]}


def _spoilt(random: Random, _ended: datetime) -> Mapping[str, Any]:
    return {"seconds": 2.4, "damage": [random.choice(list(DAMAGE))] * FOREVER, "spoilt": True}


def _with(**options: Any) -> Kind:
    return lambda _random, _ended: options


def _transcribed(random: Random, ended: datetime) -> Mapping[str, Any]:
    texts = [{"sid": f"TR{n:032x}", "status": "completed", "transcription_text": f"Text {n}"} for n in (1, 2)]
    return {
        "transcriptions": texts,
        "unfinished_until": ended + timedelta(seconds=random.choice((0, 30, 600, 2 * 24 * 3600))),
    }


KINDS: Mapping[str, Kind] = {
    "two channels": _with(seconds=2.0),
    "short": _with(seconds=0.9),
    "one channel": _with(seconds=1.7, channels=1),
    "conference": _with(seconds=2.0, conference=True),
    "one layout only": _with(seconds=0.9, channels=1, refuses=frozenset("12")),
    "encrypted": _with(seconds=2.0, encrypted=True),
    "encrypted, one channel": _with(seconds=1.7, channels=1, encrypted=True),
    "encrypted with another key": _with(seconds=1.7, encrypted=True, error_code=16107),
    "chunked": _with(seconds=2.0, framing="chunked"),
    "ended by the connection": _with(seconds=2.4, framing="close", streamed=True),
    "streamed": _with(seconds=2.4, streamed=True),
    "media later": lambda random, ended: {"ready": ended + timedelta(seconds=random.choice((2, 20, 400)))},
    "shown later": lambda random, ended: {"visible": ended + timedelta(seconds=random.choice((1, 10, 300)))},
    "still processed": lambda random, ended: {"completed": ended + timedelta(seconds=random.choice((5, 60, 1200)))},
    "transcribed": _transcribed,
    "too short": _with(absent=16101),
    "silent": _with(absent=16102),
    "failed": _with(absent=16104),
    "stored externally": _with(external=True),
    "wrong once": _damaged(1),
    "encrypted, wrong once": _damaged_ciphertext,
    "wrong some times": _damaged(4),
    "wrong for days": _damaged(7),
    "spoilt": _spoilt,
}


def recording_of(
    kind: str, number: int, ended: datetime, random: Random, account_sid: str = MAIN, **options: Any
) -> Recording:
    """Make a recording that ends at a time; `number` tells it from the others of its world."""
    made = {"seconds": 2.0, **KINDS[kind](random, ended), **options}
    conference = made.pop("conference", False)
    ended = ended.replace(microsecond=0)
    made = {"completed": ended, "visible": ended, "ready": ended} | made
    return Recording(
        number=number,
        sid=f"RE{random.getrandbits(128):032x}",
        account_sid=account_sid,
        call_sid=None if conference else f"CA{random.getrandbits(128):032x}",
        conference_sid=f"CF{random.getrandbits(128):032x}" if conference else None,
        created=ended - timedelta(seconds=round(made["seconds"])),
        **made,
    )
