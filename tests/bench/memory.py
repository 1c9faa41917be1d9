"""Measure the peak memory of a worker that archives recordings of growing size: `python -m tests.bench.memory`.

The simulator generates the audio, the S3 server holds it, and the kernel says how much the worker ever used (VmHWM).
Each size has a worker of its own. Needs as much free memory as the largest recording, for the S3 server.
"""

import argparse
import time
from pathlib import Path

from deploy.local.processes import wait_until
from deploy.local.stack import Stack

MIB = 1024 * 1024


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had resident, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure(size_bytes: int) -> tuple[int, int, float]:
    """Archive one recording and return the worker's peak before it and after it in bytes, and the seconds it took."""
    with Stack(("web", "worker")) as stack:
        # A small one first: what is loaded at the first use is no growth.
        archive(stack, MIB)
        before = peak_bytes(stack.worker.pid)
        started = time.monotonic()
        archive(stack, size_bytes)
        return before, peak_bytes(stack.worker.pid), time.monotonic() - started


def archive(stack: Stack, size_bytes: int) -> None:
    """Let one recording of a size happen and wait until it is deleted at the source."""
    account_sid = next(iter(stack.simulator.accounts))
    recording = stack.simulator.record(account_sid, size_bytes=size_bytes, callback_url=stack.callback_url)
    wait_until(lambda: recording.deleted_at is not None, timeout_s=900, what="deletion", interval_s=0.2)


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, nargs="+", default=[1, 100, 3000], help="sizes in MiB (default: 1 100 3000)")
    print(f"{'recording':>12} {'peak before':>12} {'peak after':>12} {'growth':>12} {'seconds':>8}")
    for mib in parser.parse_args().mib:
        before, after, seconds = measure(mib * MIB)
        columns = [f"{value / MIB:,.1f} MiB" for value in (mib * MIB, before, after, after - before)]
        print(" ".join(f"{column:>12}" for column in columns), f"{seconds:8.1f}", flush=True)


if __name__ == "__main__":
    main()
