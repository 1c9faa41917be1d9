"""Give a file its name only when it is whole: until then it is private and nameless, and on any failure it vanishes."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from workers.errors import ReleaseError


def check_free(destination: Path, *, overwrite: bool) -> None:
    """Raise `ReleaseError` when there is something under a name already that is not to be overwritten."""
    if not overwrite and os.path.lexists(destination):
        raise _exists()


@contextmanager
def released(destination: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Yield a file that becomes `destination`, durably and with mode 0600, if the block ends well.

    It grows beside `destination` and vanishes when the block does not end well (a killed process leaves its `.partial`
    file, unreadable to others). Raises `ReleaseError`: `destination_exists` (without `overwrite`) or `not_released`.
    """
    check_free(destination, overwrite=overwrite)
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".partial", dir=destination.parent)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        _name(temporary, destination, overwrite=overwrite)
    finally:
        temporary.unlink(missing_ok=True)


def _name(temporary: Path, destination: Path, *, overwrite: bool) -> None:
    try:
        if overwrite:
            temporary.replace(destination)
        else:
            destination.hardlink_to(temporary)  # a rename would overwrite what has come there meanwhile
    except FileExistsError:
        raise _exists() from None
    except OSError as error:
        mend = "" if overwrite else "; a file system without hard links needs overwrite"
        raise ReleaseError("not_released", f"{os.strerror(error.errno or 0)}{mend}") from None


def _exists() -> ReleaseError:
    return ReleaseError("destination_exists", "choose another file, or ask to overwrite it")
