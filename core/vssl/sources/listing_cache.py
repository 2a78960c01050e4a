"""Caches the listings of large folders, so that a million files are searched for once.

A listing is valid while each of its folders keeps the times it had before it was listed: adding, removing or renaming
a file changes the times of its folder. Checking takes one `stat` a folder, none a file. Nothing depends on the cache: a
file of it that is missing, damaged, of another folder or that can't be written only costs a new search.
"""

import gzip
import hashlib
import json
import os
import re
import time
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from vssl.caches import cache_folder
from vssl.files import atomic_write
from vssl.images.names import EXTENSIONS

FORMAT = "vssl folder listing 2"

PLAIN = re.compile(rb'"(?!/)[ !#-\[\]-~]+"\n')
"""A relative path in characters that JSON leaves as they are."""

SMALL = 10_000
"""Folders of fewer files are listed about as fast as their listing would be read."""

SETTLED_NS = 2_000_000_000
"""Nanoseconds that a folder must have been left alone. Some file systems count whole seconds: there, a change right
after the listing would leave the folder's time as it is."""


class Listing:
    """A listing in the making. Lines of JSON, the folder's own name first, then `["sub/", mtime, ctime]`,
    `"sub/name.jpg"` and, for a file that is passed over, `{"sub/name.txt": ".txt"}`, in the order of the walk,
    compressed line by line. Gzip's checksum covers them all.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._count, self._settled = root, 0, True
        self._packed = BytesIO()
        self._packer = gzip.GzipFile(fileobj=self._packed, mode="wb", compresslevel=1, mtime=0)
        self._packer.write(_head(root))

    def folder(self, name: str) -> None:
        """Note the times of the folder `name` ("" or "sub/", as the file system has it), before it is listed."""
        times = _times(self._root, name)
        self._settled &= time.time_ns() - times[0] > SETTLED_NS
        self._add([name, *times])

    def file(self, path: str, kind: str | None) -> None:
        """Note the path of a file, and the kind it is passed over as; None for an image."""
        self._count += 1
        self._add(path if kind is None else {path: kind})

    def leave(self) -> None:
        """Give the listing up: something was not looked into, or may be there the next time."""
        self._settled = False

    def keep(self) -> None:
        """Store the complete listing, if it is worth it and there is a cache."""
        if self._count < SMALL or not self._settled:
            return
        try:
            place = _place(self._root)
            self._packer.close()
            with atomic_write(place) as file:
                file.write(self._packed.getbuffer())
        except (OSError, RuntimeError):
            return  # read-only, full, or there is no home: the next start searches again

    def _add(self, item: str | list[str | int] | dict[str, str]) -> None:
        self._packer.write(json.dumps(item).encode() + b"\n")


def cached_paths(root: Path) -> Iterator[tuple[str, str | None]] | None:
    """The files in the absolute folder `root` from a listing that is still valid; None: search the folder.

    Each is a path and the kind it is passed over as, or None for an image.
    """
    try:
        lines = gzip.GzipFile(
            fileobj=BytesIO(_place(root).read_bytes())
        )  # packed it is small, and it may be unpacked twice
        if lines.readline() != _head(root):
            return None
        begin = lines.tell()
        for line in lines:
            if line.startswith(b"["):
                name, *times = json.loads(line)
                if not _inside(name) or times != _times(root, name):
                    return None
            elif (b".." in line or not PLAIN.fullmatch(line)) and not _inside(_file(line)[0]):
                return None
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, zlib.error):
        return None
    lines.seek(begin)
    return (_file(line) for line in lines if not line.startswith(b"["))


def _file(line: bytes) -> tuple[str, str | None]:
    """Path and kind in a line.

    Raises:
        ValueError: it is no such line.
    """
    item = json.loads(line)
    if isinstance(item, str):
        return item, None
    if not isinstance(item, dict) or len(item) != 1:
        raise ValueError("neither a path nor one with its kind")
    return next((path, str(kind)) for path, kind in item.items())


def _inside(path: str) -> bool:
    """Whether a relative path stays in its folder."""
    return not path.startswith("/") and ".." not in path.split("/")


def _times(root: Path, folder: str) -> list[int]:
    """When the folder's names last changed, and when anything of it did; no tool can set back the second."""
    found = (root / folder).stat()
    return [found.st_mtime_ns, found.st_ctime_ns]


def _head(root: Path) -> bytes:
    return json.dumps([FORMAT, str(root), sorted(EXTENSIONS)]).encode() + b"\n"


def _place(root: Path) -> Path:
    """The listing's file in the user's cache.

    Raises:
        CacheUnavailableError: there is no cache.
    """
    return cache_folder() / f"folder-{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.z"
