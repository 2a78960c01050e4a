"""The file of an archive, on a disk or in an object store: opened, read in part, and known again."""

import io
import os
from dataclasses import dataclass
from errno import EIO
from pathlib import Path
from typing import IO, Protocol, cast

from vssl.objects.path import ObjectPath, ObjectStat
from vssl.objects.range_file import FIRST, RangeFile
from vssl.sources.patience import patiently, read_at


@dataclass(frozen=True)
class Stamp:
    """Changes whenever the archive does. An object has its etag in place of `ctime_ns`."""

    size: int
    mtime_ns: int
    ctime_ns: int


class ArchiveFile(Protocol):
    """An archive's file. Its text is its name for messages."""

    @property
    def key(self) -> bytes:
        """Where it lies, from anywhere."""

    def stamp(self) -> Stamp:
        """Its stamp now.

        Raises:
            OSError: it can't be found.
        """

    def open(self, at: int = 0, about: int = FIRST) -> IO[bytes]:
        """Open it at a place, where about so many bytes are read.

        Raises:
            OSError: it can't be opened.
        """

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on.

        Raises:
            OSError: it can't be read, or ends before that.
        """


def archive_file(path: Path | ObjectPath) -> ArchiveFile:
    """The file at a path or an address."""
    return _Stored(path) if isinstance(path, ObjectPath) else _Local(path)


@dataclass(frozen=True)
class _Local:
    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def key(self) -> bytes:
        return os.fsencode(self.path.absolute())

    def stamp(self) -> Stamp:
        found = self.path.stat()
        return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def open(self, at: int = 0, about: int = FIRST) -> IO[bytes]:
        file = self.path.open("rb")
        file.seek(at)
        return file

    def read_at(self, offset: int, size: int) -> bytes:
        return read_at(self.path, offset, size)


class _Stored:
    def __init__(self, path: ObjectPath) -> None:
        self._path = path
        self._found: ObjectStat | None = None

    def __str__(self) -> str:
        return str(self._path)

    @property
    def key(self) -> bytes:
        return str(self._path).encode(errors="surrogateescape")

    def stamp(self) -> Stamp:
        found = self._path.stat()
        self._found = self._found or found
        return Stamp(found.size, found.modified_ns, found.etag_number)

    def open(self, at: int = 0, about: int = FIRST) -> IO[bytes]:
        file = RangeFile(self._path, self._stat(), at, max(about, 1))
        return cast(IO[bytes], io.BufferedReader(file))

    def read_at(self, offset: int, size: int) -> bytes:
        def attempt() -> bytes:
            data = self._path.read_at(offset, size, self._stat().etag)
            if len(data) < size:
                raise OSError(EIO, f"it ends too early, after {len(data):,} of {size:,} bytes")
            return data

        return patiently(attempt)

    def _stat(self) -> ObjectStat:
        if self._found is None:
            self.stamp()
        return cast(ObjectStat, self._found)
