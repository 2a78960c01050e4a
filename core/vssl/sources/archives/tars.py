"""An uncompressed tar archive, read in place."""

import posixpath
import struct
import tarfile
from typing import IO

from vssl.errors import UsageError
from vssl.sources.archives.archive import Archive, explained
from vssl.sources.archives.archive_file import ArchiveFile
from vssl.sources.archives.draft import Draft, clean

TAR = struct.Struct(">QQ")
"""A tar's entry: offset and size in bytes."""

BLOCK = 2**20


class TarFolder(Archive):
    """A folder inside an uncompressed tar archive."""

    def members(self) -> Draft:
        """Search for its members."""
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
            return self._file.read_at(offset, min(size, most))
        except OSError as error:
            raise explained(error) from error


def read_tar(archive: ArchiveFile) -> Draft:
    """The members of an uncompressed tar, or of several in a row in one file.

    Of files with one name the last counts, as when a tar is unpacked.

    Raises:
        UsageError: the file is no uncompressed tar, or is damaged before its end.
        OSError: it can't be read.
    """
    draft, begin = Draft(), 0
    with archive.open() as file:
        while True:
            file.seek(begin)
            try:
                end = _read_one_tar(file, draft)
            except OSError:
                raise
            except Exception as error:
                # tarfile raises whatever the broken bytes lead to.
                raise UsageError(f"{archive}: no tar archive, or a damaged one ({error})") from error
            following = _next_block(file, end)
            if following is None:
                break
            if end == begin:
                draft.damage = f"what follows byte {begin:,} is no tar archive"
                break
            if following == end:
                # tarfile takes a damaged header for the end and would silently lose what follows.
                files = len(draft.records)
                raise UsageError(f"{archive}: damaged at byte {end:,}, after {files:,} files; make it again")
            begin = following
    return draft.finish()


def _read_one_tar(file: IO[bytes], draft: Draft) -> int:
    """Add the members of the tar that begins here; return its end."""
    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        while (member := tar.next()) is not None:
            name = clean(member.name)
            if member.isreg():
                draft.add(name, b"" if member.issparse() else TAR.pack(member.offset_data, member.size))
            elif member.islnk() or member.issym():
                beside = posixpath.dirname(name) if member.issym() else ""
                draft.link(name, posixpath.normpath(posixpath.join(beside, member.linkname)).lstrip("/"))
            elif not member.isdir():
                draft.add(name, b"S")
            tar.members.clear()  # type: ignore[attr-defined]  # a million of them would take a gigabyte
        return tar.offset


def _next_block(file: IO[bytes], place: int) -> int | None:
    """Start of the next block of a tar that is not all zeros; None if there is none."""
    file.seek(place)
    while data := file.read(BLOCK):
        rest = data.lstrip(b"\0")
        if rest:
            at = place + len(data) - len(rest)
            return at - (at - place) % tarfile.BLOCKSIZE
        place += len(data)
    return None
