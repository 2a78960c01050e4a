"""Archives of images read in place: a zip, or an uncompressed tar.

Nothing is held open: an index (`indexes`) says where each file lies, so that any of them can be read at any time.
"""

import errno
import os
import posixpath
import zipfile
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from vssl.errors import UsageError
from vssl.images.names import encode_name
from vssl.sources.archives.indexes import HELD, Index, Stamp, stamp_of
from vssl.sources.archives.members import TAR, ZIP, Draft, clean, read_tar, read_zip
from vssl.sources.passed_over import PassedOver
from vssl.sources.patience import exactly, patiently, read_at, read_file
from vssl.sources.source import Source, within

COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
"""First bytes of a compressed file, and what unpacks it."""

LOCAL_HEADER = 30
"""Bytes of the fixed part of what precedes a zip's member."""


class Archive(Source):
    """A folder inside an archive. Its index is made when first asked for."""

    lists_sizes = True

    def __init__(self, archive: Path, folder: str = "") -> None:
        inside = folder.strip("/")
        super().__init__(f"{archive.name}::{inside}" if inside else archive.name)
        self._file, self._folder = archive, encode_name(clean(inside)) if inside else ""
        self._stamp: Stamp | None = None

    def index(self) -> Index:
        """Where each file of the whole archive lies.

        Raises:
            UsageError: it is no such archive, or a damaged one.
            OSError: it can't be read, or has changed since it was opened.
        """
        if self._stamp is None:
            self._stamp = patiently(lambda: stamp_of(self._file))
        stamp = self._stamp
        return patiently(lambda: HELD.get(self._file, stamp, self.members))

    def check(self) -> None:
        """Make sure of the folder.

        Raises:
            UsageError: there is none of that name, or `index`.
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
        return within(self.unpack(self.entry(self.inside(path)), max_bytes + 1), max_bytes)

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
            raise OSError(str(error)) from error  # one image of a set has it, and the others go on

    @abstractmethod
    def members(self) -> Draft:
        """Its members, searched for.

        Raises:
            UsageError, OSError: see `index`.
        """

    @abstractmethod
    def unpack(self, entry: bytes, most: int) -> bytes:
        """At most `most` bytes of a file.

        Raises:
            OSError: it can't be read.
        """


class ZipFolder(Archive):
    """A folder inside a zip archive, read without unpacking."""

    def members(self) -> Draft:
        """Its members, searched for."""
        return read_zip(self._file)

    def size(self, path: str) -> int:
        """The member's bytes, unpacked."""
        entry = self.entry(self.inside(path))
        return int(ZIP.unpack(entry)[2]) if len(entry) == ZIP.size else 0

    def unpack(self, entry: bytes, most: int) -> bytes:
        """At most `most` bytes of a file."""
        if len(entry) != ZIP.size:
            raise OSError("can't be read from the archive: a link to nothing")
        try:
            return patiently(lambda: self._unpack(entry, most))
        except Exception as error:
            # zipfile raises whatever broken bytes and foreign methods lead to.
            raise _explained(error) from error

    def _unpack(self, entry: bytes, most: int) -> bytes:
        offset, packed, size, crc, method, flags = ZIP.unpack(entry)
        if flags & 0x41:
            raise OSError("it is encrypted")
        member = zipfile.ZipInfo()
        member.compress_type, member.compress_size, member.file_size, member.CRC = method, packed, size, crc
        with self._file.open("rb") as file:
            file.seek(offset)
            head = exactly(file, LOCAL_HEADER, LOCAL_HEADER)
            if not head.startswith(b"PK\x03\x04"):
                raise OSError("damaged: no file begins where its directory says")
            file.seek(int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"), os.SEEK_CUR)
            try:
                with zipfile.ZipExtFile(file, "r", member) as unpacked:
                    return exactly(unpacked, min(size, most), most)
            except EOFError as error:
                raise OSError(errno.EIO, "it ends too early") from error


class TarFolder(Archive):
    """A folder inside an uncompressed tar archive."""

    def members(self) -> Draft:
        """Its members, searched for."""
        return read_tar(self._file)

    def size(self, path: str) -> int:
        """The member's bytes."""
        entry = self.entry(self.inside(path))
        return int(TAR.unpack(entry)[1]) if len(entry) == TAR.size else 0

    def label(self, path: str) -> str | None:
        """What `NAME.cls` beside `NAME.jpg` says, as WebDataset has it, else the top folder."""
        # WebDataset's key ends at the first dot of the file name.
        folder, name = posixpath.split(self.inside(path))
        entry = self.find(posixpath.join(folder, name.partition(".")[0] + ".cls"))
        if entry is not None and len(entry) == TAR.size:
            return self.unpack(entry, 100).decode(errors="replace").strip()
        return super().label(path)

    def unpack(self, entry: bytes, most: int) -> bytes:
        """At most `most` bytes of a file."""
        if len(entry) != TAR.size:
            raise OSError("can't be read from the archive: a link to nothing, or a sparse file")
        offset, size = TAR.unpack(entry)
        try:
            return read_at(self._file, offset, min(size, most))
        except OSError as error:
            raise _explained(error) from error


def open_archive(path: Path, folder: str) -> Source:
    """A zip or tar archive, by its content.

    Raises:
        UsageError: it is neither, it is compressed as a whole, or there is no such folder in it.
        OSError: it can't be read.
    """
    start = read_file(path, 512)
    for magic, tool in COMPRESSED.items():
        if start.startswith(magic):
            raise UsageError(f"{path}: compressed, so its images can't be found in place; {tool} it first")
    kind = TarFolder if start[257:262] == b"ustar" or path.suffix.lower() == ".tar" else ZipFolder
    source = kind(path, folder)
    source.check()
    return source


def is_archive(name: str, kinds: Sequence[str] = (".zip", ".tar")) -> bool:
    """Whether a file name is that of an archive."""
    return PurePosixPath(name).suffix.lower() in kinds


def _explained(error: Exception) -> OSError:
    """An error with where it happened, and with its number, if it has one."""
    number, reason = (error.errno, error.strerror) if isinstance(error, OSError) else (None, None)
    told = f"can't be read from the archive: {reason or error}"
    return OSError(told) if number is None else OSError(number, told)
