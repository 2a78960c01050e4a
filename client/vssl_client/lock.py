"""One writer at a time for a folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vssl.errors import UsageError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder/_lock`. The kernel lets go of it when the process ends, however it ends; the empty file stays.

    Raises:
        UsageError: another process holds it.
    """
    with (folder / "_lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{folder}: another `vssl embed` is writing to it; wait for it or name another folder"
            ) from None
        yield
