"""Wait until a running stack has come to rest, and stop it."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING

from deploy.local.stack import Stack
from tests.chaos.attendance import archiver

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TERMINATION_S = 30.0  # what Heroku leaves a process after SIGTERM
STALLED_AFTER_S = 180.0
_LOOK_EVERY_S = 1.0
_AUDIT_AFTER_S = 10.0

Say = Callable[[str], object]


@dataclass(frozen=True)
class Ended:
    """How many recordings there are, how many need nothing more at Twilio, how many ends are proven, and open uploads.

    Proofs and uploads are not looked at as long as there is work at Twilio.
    """

    recordings: int
    done: int
    proven: int = 0
    uploads: int = 0

    @property
    def is_all(self) -> bool:
        return self.proven == self.done == self.recordings and self.uploads == 0

    def __str__(self) -> str:
        return f"{self.done} of {self.recordings} are done, {self.proven} proven, {self.uploads} uploads open"


def ended(stack: Stack, client: "S3Client") -> Ended:
    """Look what has come to its end: a source that is gone and the proof of it, or an absence."""
    recordings = stack.simulator.recordings.values()
    done = sum(each.status != "completed" for each in recordings)
    if done < len(recordings):
        return Ended(len(recordings), done)
    proven = 0
    for collection in ("deletions/", "absences/"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=stack.bucket, Prefix=collection):
            proven += sum(not each["Key"].endswith(".requested.json") for each in page.get("Contents", ()))
    uploads = client.list_multipart_uploads(Bucket=stack.bucket).get("Uploads", ())
    return Ended(len(recordings), done, proven, len(uploads))


def rested(stack: Stack, client: "S3Client", say: Say) -> bool:
    """Wait until every recording has come to its end, and tell whether it has; no when nothing has moved for long.

    The proof of a deletion whose worker died right after it is made by the daily audit, or when its message comes back
    an hour later: here the audit is asked for as soon as nothing else moves.
    """
    pause, before = Event(), None
    moved = audited = monotonic()
    stack.simulator.wait_for_callbacks(60)
    while not (now := ended(stack, client)).is_all:
        if now != before:
            before, moved = now, monotonic()
            say(str(now))
        elif monotonic() - moved > STALLED_AFTER_S:
            say("nothing moves any more")
            return False
        if now.done == now.recordings and monotonic() - max(moved, audited) > _AUDIT_AFTER_S:
            say(f"audit: exit code {archiver(stack, 'audit', '--enqueue')}")
            audited = monotonic()
        pause.wait(_LOOK_EVERY_S)
    return True


def stopped(stack: Stack, directory: Path) -> Iterator[tuple[str, int | None]]:
    """Stop the product's processes, keep their logs, and yield the name and exit code of each."""
    for name, process in stack.processes.items():
        yield name, process.terminate(TERMINATION_S)
        shutil.copy(process.log, directory)
