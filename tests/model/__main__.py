"""Try the product against many histories that a seed decides, and say what came of it.

    python -m tests.model --histories 300000 --jobs 2     many, from seed 0 on
    python -m tests.model --histories 300000 --keep done  the same, and on from where an earlier run was ended
    python -m tests.model --seed 4711                     one, printed call by call
    python -m tests.model --matrix                        every single fault at every call of a recording's life
    python -m tests.model --machine 20000                 many that Hypothesis writes, the first bad one shrunk

Exits 0 when no invariant was violated, 1 otherwise.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.model.clock import virtual_time
from tests.model.history import run
from tests.model.runner import Job, Summary, histories, matrix, work_off

_SAY_EVERY_S = 60.0  # where nobody watches a bar


def main(arguments: list[str]) -> int:
    """Run what is asked for and return the exit code."""
    parser = argparse.ArgumentParser(
        "python -m tests.model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--histories", type=int, help="how many, from --seed on")
    parser.add_argument("--seed", type=int, default=0, help="the first one; without --histories the only one")
    parser.add_argument("--matrix", action="store_true", help="the single-fault matrix")
    parser.add_argument("--machine", type=int, help="how many Hypothesis is to write")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="note what is done, and go on from what is noted")
    parser.add_argument("--fail-fast", action="store_true", help="end with the first violation")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    asked = parser.parse_args(arguments)
    _refuse_nonsense(parser, asked)
    if asked.machine:
        return _written(asked.machine)
    if asked.histories is None and not asked.matrix:
        with virtual_time() as shown:
            outcome = run(shown, asked.seed)
        print(outcome)
        return 1 if outcome.violations else 0
    jobs = histories(asked.seed, asked.histories or 0) + (matrix() if asked.matrix else [])
    began = time.monotonic()
    try:
        summary = _worked_off(jobs, asked.jobs, fail_fast=asked.fail_fast, kept=asked.keep)
    except KeyboardInterrupt:
        print("ended" + (f"; the same command goes on from {asked.keep}" if asked.keep else ""), file=sys.stderr)
        return 130
    _report(summary, time.monotonic() - began)
    return 1 if summary.failures else 0


def _refuse_nonsense(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> None:
    """End with exit code 2 where nothing would be tried, or only after hours something would fail."""
    for name in ("histories", "machine", "jobs"):
        if (number := getattr(asked, name)) is not None and number < 1:
            parser.error(f"--{name} takes a number from 1 on")
    if asked.keep is not None and not (asked.histories or asked.matrix):
        parser.error("--keep goes with --histories or --matrix")
    if asked.keep is not None and not asked.keep.parent.is_dir():
        parser.error(f"--keep: there is no folder {asked.keep.parent}")


def _written(histories: int) -> int:
    from hypothesis.stateful import run_state_machine_as_test  # which nothing else here needs, and takes its time

    from tests.model.machine import Machine, settings_for

    try:
        run_state_machine_as_test(Machine, settings=settings_for(histories))
    except Exception as error:
        print(*getattr(error, "__notes__", ()), sep="\n")
        print(f"VIOLATION {error}")
        return 1
    print(f"no violation in {histories:,} histories that Hypothesis wrote")
    return 0


def _worked_off(jobs: list[Job], processes: int, *, fail_fast: bool, kept: Path | None) -> Summary:
    console = Console(stderr=True)
    summary = Summary()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("histories", total=len(jobs))
        said = time.monotonic()
        for number, summary in enumerate(work_off(jobs, processes, fail_fast=fail_fast, kept=kept), start=1):
            done = f"{summary.figures['failures']} failures"
            progress.update(task, advance=1, description=done)
            if not console.is_terminal and time.monotonic() - said > _SAY_EVERY_S:
                said = time.monotonic()
                print(f"{number:,} of {len(jobs):,} parts, {done}", file=sys.stderr, flush=True)
    return summary


def _report(summary: Summary, seconds: float) -> None:
    for failure in summary.failures:
        print(failure, end="\n\n")
    for name in ("histories", "lives", "recordings", "calls", "faults", "crashes", "deletes", "failures"):
        print(f"{name:12} {summary.figures[name]:>12,}")
    print(f"{'seconds':12} {seconds:>12,.0f}")
    if count := summary.figures["histories"]:
        if summary.figures["failures"]:
            print("at least one invariant was violated; python -m tests.model --seed N shows a history again")
        else:
            print(f"no violation in {count:,} histories: with 95 % confidence fewer than 1 in {count // 3:,} has one")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
