"""Measure the peak memory of a worker that archives recordings of growing size: `python -m tests.bench.memory`.

The simulator generates the audio, the S3 server holds it, and the kernel says how much the worker ever used (VmHWM).
Each size has a worker of its own. Needs as much free memory as the largest recording, for the S3 server.
"""

import argparse
import time
from collections.abc import Iterator

from deploy.local.processes import wait_until
from deploy.local.stack import Stack
from tests.bench.costs import MIB, peak_bytes
from tests.bench.rows import Row

SIZES_MIB = (1, 100, 3000)
MAX_GROWTH_MIB = 32


def run(_rounds: int) -> Iterator[Row]:
    """Yield the peak for each size, and the growth from the smallest to the largest. Once: peaks hardly differ."""
    for mib in SIZES_MIB:
        before, after, _ = measure(mib * MIB)
        yield Row.of("memory", f"the worker's peak, {mib:,} MiB recording", "MiB", [after / MIB])
        grown = (after - before) / MIB
        yield Row.of(
            "memory",
            f"its growth, {mib:,} MiB recording",
            "MiB",
            [grown],
            bound=f"< {MAX_GROWTH_MIB} MiB",
            kept=grown < MAX_GROWTH_MIB,
        )


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
    parser.add_argument("--mib", type=int, nargs="+", default=SIZES_MIB, help="sizes in MiB (default: 1 100 3000)")
    print(f"{'recording':>12} {'peak before':>12} {'peak after':>12} {'growth':>12} {'seconds':>8}")
    for mib in parser.parse_args().mib:
        before, after, seconds = measure(mib * MIB)
        columns = [f"{value / MIB:,.1f} MiB" for value in (mib * MIB, before, after, after - before)]
        print(" ".join(f"{column:>12}" for column in columns), f"{seconds:8.1f}", flush=True)


if __name__ == "__main__":
    main()
