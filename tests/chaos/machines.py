"""Machines that something is wrong with: a full disk, too little memory. Both need root, and say so."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.local.processes import wait_until

_MEMORY = Path("/sys/fs/cgroup/memory")


class NotPossibleError(Exception):
    """This machine does not let us make such a machine; the message says why."""


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Yield `directory` as a small file system of its own."""
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        raise NotPossibleError(f"a file system can't be mounted: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Fill the file system at `directory`, and return the file that does it: who removes it makes room again."""
    filler = directory / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


@contextmanager
def little_memory(name: str, limit_bytes: int) -> Iterator[Path]:
    """Yield the control group of processes that may use so much memory together; a process joins by `cgroup.procs`."""
    group = _MEMORY / name
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
    except OSError as error:
        raise NotPossibleError(f"no control group can be made: {error}") from None
    try:
        yield group
    finally:
        with suppress(TimeoutError):
            wait_until(lambda: not (group / "cgroup.procs").read_text(), timeout_s=10, what="an empty group")
        os.rmdir(group)
