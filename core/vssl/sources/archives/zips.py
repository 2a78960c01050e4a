"""A zip archive, read without unpacking it."""

import errno
import os
import posixpath
import re
import stat
import struct
import zipfile

from vssl.errors import UsageError
from vssl.sources.archives.archive import Archive, explained
from vssl.sources.archives.archive_file import ArchiveFile
from vssl.sources.archives.draft import Draft, clean
from vssl.sources.patience import exactly, patiently

ZIP = struct.Struct(">QQQIHH")
"""A zip's entry: offset of the local header, packed size, size, CRC-32, method, flags."""

LOCAL_HEADER = 30
"""Bytes of the fixed part of what precedes a zip's member."""

NAME_BYTES = 512
"""Bytes of the rest of it, about: the name and a few extra fields."""


class ZipFolder(Archive):
    """A folder inside a zip archive, read without unpacking."""

    def members(self) -> Draft:
        """Search for its members."""
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
            # zipfile raises whatever broken bytes and unknown methods lead to.
            raise explained(error) from error

    def _unpack(self, entry: bytes, most: int) -> bytes:
        offset, packed, size, crc, method, flags = ZIP.unpack(entry)
        if flags & 0x41:
            raise OSError("it is encrypted")
        member = zipfile.ZipInfo()
        member.compress_type, member.compress_size, member.file_size, member.CRC = method, packed, size, crc
        with self._file.open(offset, LOCAL_HEADER + NAME_BYTES + packed) as file:
            head = exactly(file, LOCAL_HEADER, LOCAL_HEADER)
            if not head.startswith(b"PK\x03\x04"):
                raise OSError("damaged: no file begins where its directory says")
            file.seek(int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"), os.SEEK_CUR)
            try:
                with zipfile.ZipExtFile(file, "r", member) as unpacked:
                    return exactly(unpacked, min(size, most), most)
            except EOFError as error:
                raise OSError(errno.EIO, "it ends too early") from error


def read_zip(archive: ArchiveFile) -> Draft:
    """The members of a zip; the last of each name.

    Raises:
        UsageError: the file is no zip, or damaged.
        OSError: it can't be read.
    """
    draft = Draft()
    try:
        with archive.open() as opened, zipfile.ZipFile(opened) as file:
            for member in file.infolist():
                name, dos = member.filename, member.create_system in (0, 10, 11, 14)  # FAT, NTFS, VFAT
                if dos and "/" not in name:
                    name = re.sub(r"^[A-Za-z]:", "", name.replace("\\", "/"))
                if name.endswith("/") and not member.file_size:
                    continue
                target = _link_of(file, member)
                if target is not None:
                    beside = posixpath.dirname(clean(name))
                    draft.link(clean(name), posixpath.normpath(posixpath.join(beside, target)).lstrip("/"))
                else:
                    draft.add(clean(name), _zip_entry(member))
    except OSError:
        raise
    except Exception as error:
        # zipfile raises whatever the broken bytes lead to: BadZipFile, UnicodeDecodeError, NotImplementedError, …
        raise UsageError(f"{archive}: neither a folder nor a readable zip or tar archive ({error})") from error
    return draft.finish()


def _zip_entry(member: zipfile.ZipInfo) -> bytes:
    return ZIP.pack(
        member.header_offset,
        member.compress_size,
        member.file_size,
        member.CRC,
        member.compress_type,
        member.flag_bits,
    )


def _link_of(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> str | None:
    """The target of a symbolic link; None for any other member."""
    if member.create_system != 3 or not stat.S_ISLNK(member.external_attr >> 16) or member.file_size > 4096:
        return None
    try:
        return file.read(member).decode("utf-8", "surrogateescape")
    except Exception:
        return None  # damaged: reading it as a file says so
