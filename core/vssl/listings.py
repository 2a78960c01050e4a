"""Listings of large folders, kept in the user's cache so that a million files are searched for once.

A listing is good for as long as each of its folders has the times it had before it was listed: to add, remove or
rename a file changes its folder's. That is one `stat` a folder, none a file. Nothing depends on what is kept: a file
that is missing, damaged, of another folder or that can't be written costs a new search and nothing else.
"""

import gzip
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from vssl.caches import cache_folder
from vssl.files import atomic_write

FORMAT = "vssl folder listing 1"

SMALL = 10_000
"""Folders of fewer files are listed about as fast as their listing is read."""

SETTLED_NS = 2_000_000_000
"""How long a folder must have been left alone: some file systems count whole seconds, so that a change right after
the listing would not change the folder's time."""


class Listing:
    """A listing in the making. Lines of JSON, the folder's own name first, then `["sub/", mtime, ctime]` and
    `"sub/name.jpg"` in the order they are met, compressed as they come; gzip's checksum covers them all.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._count, self._settled = root, 0, True
        self._packed = BytesIO()
        self._packer = gzip.GzipFile(fileobj=self._packed, mode="wb", compresslevel=1)
        self._packer.write(_head(root))

    def folder(self, name: str) -> None:
        """Note the times of the folder `name` ("" or "sub/", as the file system has it), before it is listed."""
        times = _times(self._root, name)
        self._settled &= time.time_ns() - times[0] > SETTLED_NS
        self._add([name, *times])

    def file(self, path: str) -> None:
        """Note the path of an image."""
        self._count += 1
        self._add(path)

    def keep(self) -> None:
        """Store the listing, now that it is whole, where it is worth it and there is a place for it."""
        if self._count < SMALL or not self._settled:
            return
        try:
            place = _place(self._root)
            self._packer.close()
            with atomic_write(place) as file:
                file.write(self._packed.getbuffer())
        except (OSError, RuntimeError):
            return  # read-only, full, or there is no home: the next start searches again, as it would have anyway

    def _add(self, item: str | list[str | int]) -> None:
        self._packer.write(json.dumps(item).encode() + b"\n")


def kept(root: Path) -> Iterator[str] | None:
    """Paths of the images in the absolute folder `root` as they were listed before, or None: search it."""
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
                if times != _times(root, name):
                    return None
    except (OSError, EOFError, RuntimeError, ValueError, zlib.error):
        return None
    lines.seek(begin)
    return (json.loads(line) for line in lines if not line.startswith(b"["))


def _times(root: Path, folder: str) -> list[int]:
    """When its names changed last, and when anything of it did, which no tool that keeps times can set back."""
    found = (root / folder).stat()
    return [found.st_mtime_ns, found.st_ctime_ns]


def _head(root: Path) -> bytes:
    from vssl.sources import EXTENSIONS  # which list, and need this module

    return json.dumps([FORMAT, str(root), sorted(EXTENSIONS)]).encode() + b"\n"


def _place(root: Path) -> Path:
    """The listing's file in the user's cache.

    Raises:
        CacheUnavailableError: there is no cache.
    """
    return cache_folder() / f"folder-{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.z"
