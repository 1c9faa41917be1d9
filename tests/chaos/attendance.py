"""What a person would do with the command line while a stack is judged: look, resume deletions, let it audit."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from deploy.local.servers import ROOT
from deploy.local.stack import Stack
from tests.chaos.judge import PAUSED
from tests.output import OUTPUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

_LOOKS_EVERY_S = 5.0


def archiver(stack: Stack, *arguments: str) -> int:
    """Run `archiver` in the environment of a stack and return its exit code."""
    ran = subprocess.run(["archiver", *arguments], env=stack.environment, cwd=ROOT, capture_output=True, check=False)
    OUTPUT.keep("archiver", ran.stdout + ran.stderr)
    return ran.returncode


@contextmanager
def watchful(stack: Stack, client: "S3Client", resumed: "Callable[[int], object]") -> Iterator[None]:
    """Let somebody look whether deletions are paused, which a store that lies brings about, and resume them.

    `resumed` is told the exit code of each time.
    """
    gone = Event()

    def is_paused() -> bool:
        try:
            client.head_object(Bucket=stack.bucket, Key=PAUSED)
        except ClientError:
            return False
        return True

    def look() -> None:
        while not gone.wait(_LOOKS_EVERY_S):
            if is_paused():
                resumed(archiver(stack, "deletions", "resume"))

    operator = Thread(target=look, name="operator", daemon=True)
    operator.start()
    try:
        yield
    finally:
        gone.set()
        operator.join()
