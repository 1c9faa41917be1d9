"""Run many histories and the whole matrix, on several cores, and sum up what came of it."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field

from tests.model.clock import virtual_time
from tests.model.history import Outcome, run
from tests.model.matrix import ROWS, run_row

_CHUNK = 50
_KEPT_FAILURES = 20


@dataclass(slots=True)
class Summary:
    """What has happened in all of them, and the histories in which an invariant did not hold, as text."""

    figures: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, outcomes: Iterable[Outcome], *, fail_fast: bool) -> Summary:
        """Count some more, with `fail_fast` until the first failure."""
        for outcome in outcomes:
            self.figures.update(outcome.figures)
            if outcome.violations:
                self.figures["failures"] += 1
                if len(self.failures) < _KEPT_FAILURES:
                    self.failures.append(str(outcome))
                if fail_fast:
                    break
        return self

    def merge(self, other: Summary) -> None:
        """Count what somebody else has counted."""
        self.figures.update(other.figures)
        self.failures = (self.failures + other.failures)[:_KEPT_FAILURES]


Job = tuple[Callable[..., Summary], tuple[object, ...]]


def histories(first: int, count: int) -> list[Job]:
    """Return the work of `count` histories from the seed `first` on."""
    return [(_histories, (at, min(_CHUNK, first + count - at))) for at in range(first, first + count, _CHUNK)]


def matrix() -> list[Job]:
    """Return the work of the single-fault matrix."""
    return [(_row, row) for row in ROWS]


def work_off(jobs: list[Job], processes: int, *, fail_fast: bool = False) -> Iterator[Summary]:
    """Do the work in some processes; yield the sum so far whenever there is more, with `fail_fast` up to a failure."""
    total = Summary()
    if processes == 1:
        for act, arguments in jobs:
            total.merge(act(*arguments, fail_fast=fail_fast))
            yield total
            if fail_fast and total.failures:
                return
        return
    # A fresh interpreter each: neither threads nor patched modules of this one come along.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        try:
            for done in as_completed([pool.submit(act, *arguments, fail_fast=fail_fast) for act, arguments in jobs]):
                total.merge(done.result())
                yield total
                if fail_fast and total.failures:
                    return
        finally:
            pool.shutdown(cancel_futures=True)


def _histories(first: int, count: int, *, fail_fast: bool) -> Summary:
    with virtual_time() as shown:
        return Summary().add((run(shown, seed) for seed in range(first, first + count)), fail_fast=fail_fast)


def _row(kind: str, variant: str, *, fail_fast: bool) -> Summary:
    with virtual_time() as shown:
        return Summary().add(run_row(shown, kind, variant), fail_fast=fail_fast)
