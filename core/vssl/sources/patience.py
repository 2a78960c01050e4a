"""Reading where a file system fails for a moment: a network share, a FUSE mount, a process with many files open."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")

PASSING = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.EAGAIN})
"""Errors that may pass in a moment. Others, such as a missing file, are raised at once."""

PAUSES = (0.1, 0.5, 2.0)
"""Seconds between the attempts."""


class Readable(Protocol):
    """An open binary file."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


def patiently(attempt: Callable[[], T]) -> T:
    """The result of `attempt`. If its error may pass, try again after each of `PAUSES`.

    Raises:
        OSError: the last attempt failed too, or the error does not pass.
    """
    for pause in PAUSES:
        try:
            return attempt()
        except OSError as error:
            if error.errno not in PASSING:
                raise
        time.sleep(pause)
    return attempt()


def read_file(path: Path, most: int) -> bytes:
    """At most `most` bytes of a file.

    Raises:
        OSError: it can't be read, or gives fewer bytes than it has.
    """

    def attempt() -> bytes:
        with path.open("rb") as file:
            return exactly(file, min(os.fstat(file.fileno()).st_size, most), most)

    return patiently(attempt)


def read_at(path: Path, offset: int, size: int) -> bytes:
    """`size` bytes of a file from `offset` on.

    Raises:
        OSError: it can't be read, or ends before that.
    """

    def attempt() -> bytes:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            return exactly(file, size, size)

    return patiently(attempt)


def exactly(file: Readable, least: int, most: int) -> bytes:
    """Read until there are `most` bytes or the file ends: one read may give fewer, as FUSE does.

    Raises:
        OSError: it ends before `least`. The error may pass: FUSE can end a file too early.
    """
    data = file.read(most)
    parts = [data]
    have = len(data)
    while data and have < most:
        data = file.read(most - have)
        parts.append(data)
        have += len(data)
    if have < least:
        raise OSError(errno.EIO, f"it ends too early, after {have:,} of {least:,} bytes")
    return parts[0] if len(parts) == 1 else b"".join(parts)
