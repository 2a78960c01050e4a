"""The files in a tar or a zip, and where in it each lies.

A record of a file is its path as a key, two NULs, a number that grows with its place in the archive, and an entry: for
a tar where its bytes begin and how many they are, for a zip what unpacking needs. Keys sort as the folder that was
archived does.
"""

import posixpath
import re
import stat
import struct
import tarfile
import zipfile
from bisect import bisect_left
from pathlib import Path
from typing import IO

from vssl.errors import UsageError
from vssl.images.names import decode_name, encode_name
from vssl.sources.passed_over import FOLDER_LINK, LOOP, NOTHING, SPECIAL

TAR = struct.Struct(">QQ")
"""A tar's entry: offset and size in bytes."""

ZIP = struct.Struct(">QQQIHH")
"""A zip's entry: offset of the local header, packed size, size, CRC-32, method, flags."""

CODES = {b"": NOTHING, b"L": LOOP, b"S": SPECIAL, b"F": FOLDER_LINK}
"""Entries of what is no file; the first also stands for a file that can't be read in place."""

MOST_LINKS = 40
"""As many links in a row as Linux follows."""

BLOCK = 2**20


def key_of(path: str) -> bytes:
    """A path so that bytes sort as its names do: NUL and one for a slash. Names hold no NUL."""
    return path.encode().replace(b"/", b"\0\1")


def name_of(key: bytes) -> str:
    """The path of a key."""
    return key.replace(b"\0\1", b"/").decode()


def clean(name: str) -> str:
    """A member's name as a path in the folder that was archived: `./a//b`, `/a/b` and `../a/b` as `a/b`."""
    return re.sub(r"^(\.\.?(/|$))+", "", posixpath.normpath(name.replace("\0", "")).lstrip("/"))


class Draft:
    """Records in the making.

    Attributes:
        records: sorted when `finish` is through.
        damage: what of the archive could not be read, if anything.
    """

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.damage: str | None = None
        self._links: dict[str, tuple[str, int]] = {}
        self._count = 0
        self._slashes = self._backslashes = False

    def add(self, name: str, entry: bytes) -> None:
        """A file, by its clean name."""
        self._slashes |= "/" in name
        self._backslashes |= "\\" in name
        self._links.pop(name, None)
        self._count += 1
        self.records.append(_record(name, self._count, entry))

    def link(self, name: str, target: str) -> None:
        """A link, by its clean name, to another one."""
        self._count += 1
        self._links[name] = target, self._count

    def finish(self) -> "Draft":
        """Follow the links and sort."""
        if self._backslashes and not self._slashes:
            # Some programs on Windows write them between folders; a file's own name hardly ever holds one.
            self.records = [_with_slashes(record) for record in self.records]
        self.records.sort()
        ends = {name: self._end(name) for name in self._links}
        folders = {name: end for name, end in ends.items() if self._is_folder(end)}
        files = {name: end for name, end in ends.items() if name not in folders}
        found = [_record(name, self._links[name][1], self._entry(end)) for name, end in files.items()]
        self.records += found
        self.records.sort()
        for name, end in folders.items():
            self._follow_folder(name, end, folders)
        self.records.sort()
        return self

    def _end(self, name: str) -> str:
        for _ in range(MOST_LINKS):
            if name not in self._links:
                return name
            name = self._links[name][0]
        return name

    def _entry(self, name: str) -> bytes:
        key = _key(name)
        number = bisect_left(self.records, key + b"\0\1") - 1
        if number < 0 or not self.records[number].startswith(key + b"\0\0"):
            return b""
        return self.records[number][len(key) + 10 :]

    def _is_folder(self, name: str) -> bool:
        key = _key(name) + b"\0\1"
        number = bisect_left(self.records, key)
        return name in ("", ".") or (number < len(self.records) and self.records[number].startswith(key))

    def _follow_folder(self, name: str, end: str, folders: dict[str, str]) -> None:
        """Add the files of a folder that a link leads to; links to folders in it are counted, not followed."""
        order = self._links[name][1]
        if end in ("", ".") or f"{name}/".startswith(f"{end}/"):
            self.records.append(_record(name, order, b"L"))
            return
        key, link = _key(end), _key(name)
        begin, stop = (bisect_left(self.records, key + mark) for mark in (b"\0\1", b"\0\2"))
        self.records += [link + record[len(key) :] for record in self.records[begin:stop]]
        inside = [other for other in folders if other.startswith(f"{end}/")]
        self.records += [_record(name + other[len(end) :], order, b"F") for other in inside]
        self.records.sort()


def read_tar(archive: Path) -> Draft:
    """The members of an uncompressed tar, or of several that follow one another in a file.

    A name that is there twice means its last file, as it does when a tar is unpacked.

    Raises:
        UsageError: the file is no uncompressed tar, or damaged on the way to its end.
        OSError: it can't be read.
    """
    draft, begin = Draft(), 0
    with archive.open("rb") as file:
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
                # tarfile takes a damaged header for the end, and would lose whatever follows without a word.
                files = len(draft.records)
                raise UsageError(f"{archive}: damaged at byte {end:,}, after {files:,} files; make it again")
            begin = following
    return draft.finish()


def _read_one_tar(file: IO[bytes], draft: Draft) -> int:
    """Add the members of the tar that begins here; gives where it ends."""
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
    """Where the next block of a tar begins that is not all zeros; None if there is none."""
    file.seek(place)
    while data := file.read(BLOCK):
        rest = data.lstrip(b"\0")
        if rest:
            at = place + len(data) - len(rest)
            return at - (at - place) % tarfile.BLOCKSIZE
        place += len(data)
    return None


def read_zip(archive: Path) -> Draft:
    """The members of a zip; of a name that is there twice the last.

    Raises:
        UsageError: the file is no zip, or damaged.
        OSError: it can't be read.
    """
    draft = Draft()
    try:
        with zipfile.ZipFile(archive) as file:
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
    """What a symbolic link leads to; None for any other member."""
    if member.create_system != 3 or not stat.S_ISLNK(member.external_attr >> 16) or member.file_size > 4096:
        return None
    try:
        return file.read(member).decode("utf-8", "surrogateescape")
    except Exception:
        return None  # damaged: reading it as a file says so


def _record(name: str, number: int, entry: bytes) -> bytes:
    return b"%b\0\0%b%b" % (_key(name), number.to_bytes(8, "big"), entry)


def _key(name: str) -> bytes:
    return key_of(encode_name(name))


def _with_slashes(record: bytes) -> bytes:
    key, _, rest = record.partition(b"\0\0")
    name = re.sub(r"^[A-Za-z]:/", "", decode_name(name_of(key)).replace("\\", "/"))
    return b"%b\0\0%b" % (_key(clean(name)), rest)
