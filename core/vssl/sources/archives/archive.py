"""A folder inside an archive that is read in place.

Nothing is held open: an index (`indexes`) says where each file lies, so that any of them can be read at any time.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from vssl.errors import UsageError
from vssl.images.names import encode_name
from vssl.objects.path import ObjectPath
from vssl.sources.archives.archive_file import Stamp, archive_file
from vssl.sources.archives.draft import Draft, clean
from vssl.sources.archives.indexes import HELD, Index
from vssl.sources.passed_over import PassedOver
from vssl.sources.patience import patiently
from vssl.sources.source import Source, limited


class Archive(Source):
    """A folder inside an archive. The first use makes its index."""

    lists_sizes = True

    def __init__(self, archive: Path | ObjectPath, folder: str = "") -> None:
        inside = folder.strip("/")
        super().__init__(f"{archive.name}::{inside}" if inside else archive.name)
        self.remote = isinstance(archive, ObjectPath)
        self._file, self._folder = archive_file(archive), encode_name(clean(inside)) if inside else ""
        self._stamp: Stamp | None = None

    def index(self) -> Index:
        """Where each file of the whole archive lies.

        Raises:
            UsageError: it is no such archive, or a damaged one.
            OSError: it can't be read, or has changed since it was opened.
        """
        if self._stamp is None:
            self._stamp = patiently(self._file.stamp)
        stamp = self._stamp
        return patiently(lambda: HELD.get(self._file, stamp, self.members))

    def check(self) -> None:
        """Check that the folder exists.

        Raises:
            UsageError: there is no such folder, or the index can't be made.
        """
        index = self.index()
        if self._folder and not index.within(self._folder):
            tops = ", ".join(index.tops(10)) or "none"
            raise UsageError(f"{self._file}: no folder {self._folder!r} inside; its top folders are {tops}")

    def paths(self) -> Iterator[str]:
        """In the order of the folder that was archived."""
        index, passed = self.index(), PassedOver()
        for path, kind in index.files(self._folder):
            if kind is None:
                yield path
            else:
                passed.add(kind)
        if index.damage is not None:
            passed.unreadable[self.name] = index.damage
        self.passed_over = passed

    def read(self, path: str, max_bytes: int) -> bytes:
        """The member's bytes, unpacked no further than `max_bytes`."""
        return limited(self.unpack(self.entry(self.inside(path)), max_bytes + 1), max_bytes)

    def inside(self, path: str) -> str:
        """A path in the folder as one in the archive."""
        return f"{self._folder}/{path}" if self._folder else path

    def entry(self, name: str) -> bytes:
        """Where a file lies.

        Raises:
            OSError: there is none of that name, or the archive can't be read.
        """
        found = self.find(name)
        if found is None:
            raise FileNotFoundError(f"can't be read from the archive: no item named {name!r}")
        return found

    def find(self, name: str) -> bytes | None:
        """Where a file lies; None if there is none of that name.

        Raises:
            OSError: the archive can't be read.
        """
        try:
            return self.index().find(name)
        except UsageError as error:
            raise OSError(str(error)) from error  # fails one image of a set; the others go on

    @abstractmethod
    def members(self) -> Draft:
        """Search for its members.

        Raises:
            UsageError, OSError: see `index`.
        """

    @abstractmethod
    def unpack(self, entry: bytes, most: int) -> bytes:
        """At most `most` bytes of a file.

        Raises:
            OSError: it can't be read.
        """


def is_archive(name: str, kinds: Sequence[str] = (".zip", ".tar")) -> bool:
    """Whether a file name is that of an archive."""
    return PurePosixPath(name).suffix.lower() in kinds


def explained(error: Exception) -> OSError:
    """The error with its place, and with its number if it has one."""
    number, reason = (error.errno, error.strerror) if isinstance(error, OSError) else (None, None)
    message = f"can't be read from the archive: {reason or error}"
    return OSError(message) if number is None else OSError(number, message)
