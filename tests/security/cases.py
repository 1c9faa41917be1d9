"""All kinds of generated requests, and how often each comes."""

from collections.abc import Callable, Mapping
from random import Random

from tests.security.cases_of_fields import foreign, forged, huge, malformed, moved, odd_json, raw_bytes, recut, repeated
from tests.security.cases_of_http import (
    chunked,
    content_type,
    cut_or_extended,
    flipped,
    garbage,
    odd_header,
    other_method,
    other_target,
    recast,
)
from tests.security.genuine import Case, genuine

WEIGHTED: Mapping[Callable[[Random], Case], int] = {
    genuine: 12,
    flipped: 14,
    cut_or_extended: 4,
    recut: 14,
    forged: 2,
    moved: 8,
    foreign: 6,
    repeated: 6,
    malformed: 8,
    raw_bytes: 6,
    huge: 2,
    odd_json: 8,
    chunked: 6,
    odd_header: 6,
    content_type: 4,
    other_method: 3,
    other_target: 6,
    recast: 4,
    garbage: 3,
}
KINDS, WEIGHTS = list(WEIGHTED), list(WEIGHTED.values())


def make_case(random: Random) -> tuple[str, Case]:
    """Return a case and the name of its kind."""
    make = random.choices(KINDS, WEIGHTS)[0]
    return make.__name__, make(random)
