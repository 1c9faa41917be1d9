"""Run many histories and the whole matrix, on several cores, and sum up what came of it."""

from __future__ import annotations

import gc
import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.model.clock import virtual_time
from tests.model.history import Outcome, run
from tests.model.matrix import ROWS, run_row

_CHUNK = 50
_KEPT_FAILURES = 20
_MOST_FROZEN = 300_000  # objects, of which a third are modules and the like
_ROOT = Path(__file__).parents[2]
_TRIED = ("app", "workers", "tests/model")  # what decides how a history goes


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


def work_off(
    jobs: list[Job], processes: int, *, fail_fast: bool = False, kept: Path | None = None
) -> Iterator[Summary]:
    """Do the work in some processes; yield the sum so far whenever there is more, with `fail_fast` up to a failure.

    What is done is noted in the file `kept`, a line each, and not done again by a run that is given the same file, as
    long as the product and the model are the same: what an earlier product has lived through says nothing of this one.
    """
    total, left = Summary(), []
    source = _source()
    done = _kept(kept, source)
    for job in jobs:
        if (earlier := done.get(_name(job))) is None:
            left.append(job)
        else:
            total.merge(earlier)
            yield total
    for job, summary in _results(left, processes, fail_fast=fail_fast):
        total.merge(summary)
        if kept is not None and not (fail_fast and summary.failures):  # of which the rest is left
            noted = {"source": source, "work": _name(job), "figures": summary.figures, "failures": summary.failures}
            line = json.dumps(noted)
            with kept.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}")  # so that no line is joined to one that was cut
        yield total
        if fail_fast and total.failures:
            return


def _results(jobs: list[Job], processes: int, *, fail_fast: bool) -> Iterator[tuple[Job, Summary]]:
    if processes == 1:
        for act, arguments in jobs:
            yield (act, arguments), act(*arguments, fail_fast=fail_fast)
        return
    # A fresh interpreter each: neither threads nor patched modules of this one come along.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        try:
            working = {pool.submit(act, *arguments, fail_fast=fail_fast): (act, arguments) for act, arguments in jobs}
            for done in as_completed(working):
                yield working[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _name(job: Job) -> str:
    act, arguments = job
    return f"{act.__name__} {' '.join(map(str, arguments))}"


def _source() -> str:
    """Return a digest of the product and of the model."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in _TRIED for path in (_ROOT / folder).rglob("*.py")):
        digest.update(f"{path.relative_to(_ROOT)}\0{path.read_text(encoding='utf-8')}\0".encode())
    return digest.hexdigest()


def _kept(kept: Path | None, source: str) -> dict[str, Summary]:
    """Read what earlier runs have done with the same source; a line that was cut by their end does not count."""
    done: dict[str, Summary] = {}
    for line in kept.read_text(encoding="utf-8").splitlines() if kept is not None and kept.exists() else ():
        with suppress(ValueError):
            noted = json.loads(line)
            if noted.get("source") == source:
                done[noted["work"]] = Summary(Counter(noted["figures"]), noted["failures"])
    return done


@contextmanager
def _uncollected() -> Iterator[None]:
    """Leave garbage until the block is over, and seldom look at what is older: looking took a fifth of the time."""
    if gc.get_freeze_count() > _MOST_FROZEN:  # a little of each block is still in use when the next one begins
        gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _histories(first: int, count: int, *, fail_fast: bool) -> Summary:
    with _uncollected(), virtual_time() as shown:
        return Summary().add((run(shown, seed) for seed in range(first, first + count)), fail_fast=fail_fast)


def _row(kind: str, variant: str, *, fail_fast: bool) -> Summary:
    with _uncollected(), virtual_time() as shown:
        return Summary().add(run_row(shown, kind, variant), fail_fast=fail_fast)
