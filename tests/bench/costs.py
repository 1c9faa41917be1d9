"""What processes cost, as the kernel counts it."""

import os
import resource
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

MIB: Final = 1024 * 1024
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """User and system time, wall time, both in seconds, and the most resident memory in bytes."""

    cpu_s: float
    wall_s: float
    peak_bytes: int


def cpu_s(group: int) -> float:
    """Return the CPU seconds of all processes of a group, and of their children that have ended."""
    total = 0
    for stat in _stats(group):
        total += sum(int(ticks) for ticks in stat[11:15])
    return total / _TICKS_PER_S


def pss_bytes(group: int) -> int:
    """Return the proportional set size of a group: what its processes take together, shared pages counted once."""
    total = 0
    for pid in _pids(group):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had resident."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def run(command: Sequence[str], environ: Mapping[str, str]) -> Cost:
    """Run a program to its end and return what it and its children cost. Raises `CalledProcessError`."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), monotonic()
    subprocess.run(command, env=dict(environ), check=True, stdout=subprocess.DEVNULL)
    wall_s, after = monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(used_s, wall_s, after.ru_maxrss * 1024)


def _pids(group: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if int((path / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                yield int(path.name)
        except OSError:  # it ended just now
            continue


def _stats(group: int) -> Iterator[list[str]]:
    """Yield the fields of /proc/PID/stat that follow the program's name, of each process of a group."""
    for pid in _pids(group):
        yield Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
