"""The recordings of a run: which kinds come in which order, as a seed decides."""

from collections.abc import Mapping
from random import Random
from typing import Any

from deploy.local.twilio import SimRecording, Simulator

# How many of a thousand; the rest are two-party calls. Nobody announces what a trunk records.
_KINDS: tuple[tuple[int, Mapping[str, Any]], ...] = (
    (5, {"seconds": 300.0}),  # two parts
    (50, {"kind": "record_verb"}),  # one channel
    (50, {"kind": "conference"}),
    (50, {"kind": "trunk"}),
    # Shorter, one channel of it in place of two would be within the second by which Twilio rounds what it states.
    (50, {"encrypted": True, "seconds": 3.4}),
    (20, {"framing": "close"}),  # no length announced
    (10, {"framing": "chunked"}),
    (10, {"media_ready_after": 3.0}),
)
_SHORTEST_S, _LONGEST_S = 1.0, 4.0
_ABSENT = {"status": "absent", "error_code": 16101, "seconds": 0.0}
_ABSENT_SHARE = 0.02
_AGAIN = "#rc=5&rp=all"  # with which Twilio repeats what was not answered with success


def planned(recordings: int, rng: Random) -> list[dict[str, Any]]:
    """Return the options of so many recordings with audio and of some without, in a random order."""
    calls = [_call(rng) for _ in range(recordings)] + [dict(_ABSENT) for _ in range(int(recordings * _ABSENT_SHARE))]
    rng.shuffle(calls)
    return calls


def play(simulator: Simulator, callback_url: str, call: Mapping[str, Any], rng: Random) -> SimRecording:
    """Let a call happen; its callback is repeated by Twilio in half of all cases."""
    account_sid = next(iter(simulator.accounts))
    url = callback_url + (_AGAIN if rng.random() < 0.5 else "")
    return simulator.record(account_sid, **call, callback_url=url, callback_events=("completed", "absent"))


def _call(rng: Random) -> dict[str, Any]:
    number = rng.randrange(1000)
    options: dict[str, Any] = {"seconds": round(rng.uniform(_SHORTEST_S, _LONGEST_S), 3)}
    for share, kind in _KINDS:
        number -= share
        if number < 0:
            return options | kind
    return options
