"""Where each file of an archive lies: found once, kept in the user's cache, and held for the archives in use.

An index is valid while its archive keeps its size and times. Nothing depends on the cache: a file of it that is
missing, damaged or of another archive only costs a new index.
"""

import hashlib
import json
import mmap
import os
import sys
import threading
import time
import zlib
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import IO, overload

from vssl.caches import cache_folder
from vssl.files import atomic_write
from vssl.images.names import is_image
from vssl.sources.archives.archive_file import ArchiveFile, Stamp
from vssl.sources.archives.draft import CODES, Draft, key_of, name_of
from vssl.sources.passed_over import NOTHING, REPLACED, kind_of

FORMAT = "vssl archive index 1"

SMALL = 1_000
"""Archives of fewer files are indexed every time."""

SETTLED_NS = 2_000_000_000
"""Nanoseconds that an archive must have been left alone to keep its index: some file systems count whole seconds."""

HELD_BYTES = 2**28
"""Bytes of all indexes held: about four million files. Those in the cache are mapped: they deprive nobody of memory."""


class Index(Sequence[bytes]):
    """Records of an archive's files (see `draft`), sorted; found by bisection, without unpacking the others.

    Attributes:
        damage: the part of the archive that could not be read, if any.
    """

    def __init__(self, data: bytes | mmap.mmap, begin: int, records: int, damage: str | None) -> None:
        self._data, self.damage = data, damage
        self._begin = begin + (records + 1) * 8
        self._starts = memoryview(data)[begin : self._begin].cast("Q")

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return len(self._data)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, number: int) -> bytes: ...
    @overload
    def __getitem__(self, number: slice) -> list[bytes]: ...
    def __getitem__(self, number: int | slice) -> bytes | list[bytes]:
        """A record."""
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        begin = self._begin
        return self._data[begin + self._starts[number] : begin + self._starts[number + 1]]

    def find(self, path: str) -> bytes | None:
        """Entry of the last file of that name; None if there is none."""
        key = key_of(path)
        number = bisect_left(self, key + b"\0\1") - 1
        if number < 0 or not self[number].startswith(key + b"\0\0"):
            return None
        return self[number][len(key) + 10 :]

    def within(self, folder: str) -> range:
        """Numbers of the records in and under a folder; all for an empty name."""
        if not folder:
            return range(len(self))
        key = key_of(folder)
        return range(bisect_left(self, key + b"\0\1"), bisect_left(self, key + b"\0\2"))

    def files(self, folder: str) -> Iterator[tuple[str, str | None]]:
        """Files in and under a folder: path in it, and the kind it is passed over as, or None for an image."""
        skip = len(key_of(folder)) + 2 if folder else 0
        records = map(self.__getitem__, self.within(folder))
        record = next(records, b"")
        while record:
            key, _, rest = record.partition(b"\0\0")
            record = next(records, b"")
            path, entry = name_of(key[skip:]), rest[8:]
            if record.startswith(key + b"\0\0"):
                yield path, REPLACED
            elif entry in CODES:
                yield path, kind_of(path) if is_image(path) and CODES[entry] == NOTHING else CODES[entry]
            else:
                yield path, kind_of(path)

    def tops(self, most: int) -> list[str]:
        """The first top folders."""
        found: list[str] = []
        number = 0
        while number < len(self) and len(found) < most:
            key = self[number].partition(b"\0\0")[0]
            top, slash, _ = key.partition(b"\0\1")
            if slash:
                found.append(name_of(top))
            number = bisect_left(self, top + b"\0\2", lo=number + 1) if slash else number + 1
        return found


class Indexes:
    """The indexes that this process holds; the least recently used goes first. One thread indexes each archive."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[bytes, Stamp], Index] = OrderedDict()
        self.after_fork()

    def after_fork(self) -> None:
        """Make new locks: a forked process lacks the threads that held the old ones."""
        self._guard = threading.Lock()
        self._making: dict[tuple[bytes, Stamp], threading.Lock] = {}

    def get(self, archive: ArchiveFile, stamp: Stamp, read: Callable[[], Draft]) -> Index:
        """The index of an archive with this stamp; `read` makes it where none is known.

        Raises:
            UsageError, OSError: what `read` raises.
        """
        wanted = archive.key, stamp
        with self._guard:
            if wanted in self._held:
                self._held.move_to_end(wanted)
                return self._held[wanted]
            making = self._making.setdefault(wanted, threading.Lock())
        with making:
            with self._guard:
                if wanted in self._held:
                    return self._held[wanted]
            index = _kept(archive, stamp) or _new(archive, stamp, read)
            with self._guard:
                self._held[wanted] = index
                while len(self._held) > 1 and sum(one.nbytes for one in self._held.values()) > HELD_BYTES:
                    self._held.popitem(last=False)
                self._making.pop(wanted, None)
        return index


HELD = Indexes()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=HELD.after_fork)


def _new(archive: ArchiveFile, stamp: Stamp, read: Callable[[], Draft]) -> Index:
    if archive.stamp() != stamp:
        raise OSError(f"{archive} was changed while it was read")
    draft = read()
    if len(draft.records) >= SMALL and time.time_ns() - stamp.mtime_ns > SETTLED_NS:
        with suppress(OSError, RuntimeError):  # read-only, full, or there is no home: then it is held here
            with atomic_write(_place(archive)) as file:
                _write(file, archive, stamp, draft)
            if (index := _kept(archive, stamp)) is not None:
                return index
    file = BytesIO()
    head = _write(file, archive, stamp, draft)
    return Index(file.getvalue(), head, len(draft.records), draft.damage)


def _write(file: IO[bytes], archive: ArchiveFile, stamp: Stamp, draft: Draft) -> int:
    """Write a line of JSON, the start of each record, and the records; return the length of the line."""
    starts = array("Q", accumulate(map(len, draft.records), initial=0)).tobytes()
    checksum = zlib.crc32(starts)
    for record in draft.records:
        checksum = zlib.crc32(record, checksum)
    about = {"records": len(draft.records), "damage": draft.damage, "crc32": checksum}
    head = json.dumps([*_about(archive, stamp), about]).encode() + b"\n"
    file.write(head)
    file.write(starts)
    file.writelines(draft.records)
    return len(head)


def _kept(archive: ArchiveFile, stamp: Stamp) -> Index | None:
    """The cached index of an archive, mapped into memory; None unless one fits and is whole."""
    try:
        with _place(archive).open("rb") as file:
            head = file.readline(2**20)
            *of, about = json.loads(head)
            if of != _about(archive, stamp):
                return None
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with memoryview(data) as view, view[len(head) :] as body:
            if zlib.crc32(body) != about["crc32"]:
                return None
        return Index(data, len(head), about["records"], about["damage"])
    except (OSError, RuntimeError, ValueError, TypeError, KeyError):
        return None


def _about(archive: ArchiveFile, stamp: Stamp) -> list[str | int]:
    return [FORMAT, sys.byteorder, archive.key.hex(), stamp.size, stamp.mtime_ns, stamp.ctime_ns]


def _place(archive: ArchiveFile) -> Path:
    name = hashlib.sha256(archive.key).hexdigest()[:32]
    return cache_folder() / f"archive-{name}.index"
