"""The index of an archive in the making: its files, and where each lies.

The record of a file is its path as a key, two NULs, a number that grows with its place in the archive, and an entry. In
a tar it is the start and number of the bytes, in a zip what unpacking needs. Keys sort as the archived folder does.
"""

import posixpath
import re
from bisect import bisect_left

from vssl.images.names import decode_name, encode_name
from vssl.sources.passed_over import FOLDER_LINK, LOOP, NOTHING, SPECIAL

CODES = {b"": NOTHING, b"L": LOOP, b"S": SPECIAL, b"F": FOLDER_LINK}
"""Entries that are no files. The first also stands for a file that can't be read in place."""

MAX_LINKS = 40
"""As many links in a row as Linux follows."""


def key_of(path: str) -> bytes:
    """A path as bytes that sort as its names do: a slash becomes NUL and one. Names hold no NUL."""
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
        records: sorted once `finish` has run.
        damage: the part of the archive that could not be read, if any.
    """

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.damage: str | None = None
        self._links: dict[str, tuple[str, int]] = {}
        self._count = 0
        self._slashes = self._backslashes = False

    def add(self, name: str, entry: bytes) -> None:
        """Add a file, by its clean name."""
        self._slashes |= "/" in name
        self._backslashes |= "\\" in name
        self._links.pop(name, None)
        self._count += 1
        self.records.append(_record(name, self._count, entry))

    def link(self, name: str, target: str) -> None:
        """Add a link from one clean name to another."""
        self._count += 1
        self._links[name] = target, self._count

    def finish(self) -> "Draft":
        """Follow the links and sort."""
        if self._backslashes and not self._slashes:
            # Some programs on Windows write them between folders. In a file's own name they are rare.
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
        for _ in range(MAX_LINKS):
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


def _record(name: str, number: int, entry: bytes) -> bytes:
    return b"%b\0\0%b%b" % (_key(name), number.to_bytes(8, "big"), entry)


def _key(name: str) -> bytes:
    return key_of(encode_name(name))


def _with_slashes(record: bytes) -> bytes:
    key, _, rest = record.partition(b"\0\0")
    name = re.sub(r"^[A-Za-z]:/", "", decode_name(name_of(key)).replace("\\", "/"))
    return b"%b\0\0%b" % (_key(clean(name)), rest)
