"""An object as a file that is read by ranges."""

import io
import os
from typing import TYPE_CHECKING

from vssl.objects.path import ObjectPath, ObjectStat

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FIRST, MOST = 2**16, 2**24
"""Bytes of the first read, and of the largest: each read that goes on near the end of the last one takes twice as many.
"""

NEAR = 2**21
"""Bytes that take about as long as another request: so many are read rather than jumped over."""


class RangeFile(io.RawIOBase):
    """A file over an object, for readers that jump (the directory of a zip) and for those that go through (a tar).

    Args:
        path: the object.
        stat: its size and etag; a later version is an error.
        at: where to begin.
        first: bytes of the first read.
    """

    def __init__(self, path: ObjectPath, stat: ObjectStat, at: int = 0, first: int = FIRST) -> None:
        self.name = str(path)
        self._path, self._stat, self._place = path, stat, at
        self._window, self._begin, self._next = b"", 0, first

    @classmethod
    def opened(cls, path: ObjectPath) -> io.BufferedReader:
        """The version of an object that is there now, for readers that want all bytes that they ask for.

        Raises:
            OSError: it can't be found.
        """
        return io.BufferedReader(cls(path, path.stat()))

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._stat.size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill the buffer from the window, which moves on if the place is not in it.

        Raises:
            OSError: it can't be read, or has changed.
        """
        view = memoryview(buffer).cast("B")
        if self._place >= self._stat.size or not len(view):
            return 0
        if not self._begin <= self._place < self._begin + len(self._window):
            self._move(len(view))
        start = self._place - self._begin
        part = self._window[start : start + len(view)]
        view[: len(part)] = part
        self._place += len(part)
        return len(part)

    def _move(self, wanted: int) -> None:
        end = self._begin + len(self._window)
        goes_on = not self._window or end <= self._place < end + NEAR
        size = max(wanted, self._next if goes_on else FIRST)
        self._window = self._path.read_at(self._place, min(size, self._stat.size - self._place), self._stat.etag)
        self._begin, self._next = self._place, min(2 * size, MOST)
