"""Walks through a folder, its subfolders, and the folders that links lead to."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from vssl.images.names import decode_name, encode_name, hidden, is_image
from vssl.sources.listing_cache import Listing
from vssl.sources.passed_over import HIDDEN, HIDDEN_FOLDERS, LOOP, NOTHING, SPECIAL, PassedOver, kind_of
from vssl.sources.patience import patiently


class FolderWalk:
    """Every file in and under a folder: its path, and the kind it is passed over as, or None for an image.

    Depth first, each folder's names sorted. A folder that can't be read is noted, and the walk goes on. A link to a
    folder is followed unless it leads to a folder around itself. A complete walk stores its listing in the cache.

    Args:
        root: the folder, an absolute path.
        passed: takes note of folders that can't be read.
        enters: whether to look into a folder.
    """

    def __init__(self, root: Path, passed: PassedOver, enters: Callable[[str], bool] = lambda _: True) -> None:
        self._root, self._passed, self._enters = root, passed, enters
        self._listing = Listing(root)
        self._kinds: dict[str, str] = {}  # of entries whose name does not tell it
        self._linked: set[str] = set()  # folders that a link led to, and those in them

    def __iter__(self) -> Iterator[tuple[str, str | None]]:
        """The files.

        Raises:
            OSError: the folder itself can't be read.
        """
        waiting = patiently(lambda: self._entries(""))
        while waiting:
            name = waiting.pop()
            if name.endswith("/"):
                waiting += self._folder(name)
                self._linked.discard(name)
            else:
                kind = self._kinds.pop(name, None) or kind_of(name)
                self._listing.file(name, kind)
                yield name, kind
        self._listing.keep()

    def _folder(self, name: str) -> list[str]:
        try:
            return patiently(lambda: self._entries(name))
        except OSError as error:
            self._unreadable(name.rstrip("/"), error)
            return []

    def _entries(self, folder: str) -> list[str]:
        """Files and folders (with a slash at the end) in a folder, the last name first."""
        self._listing.folder(decode_name(folder))
        entries = []  # names alone: one folder may hold millions
        with os.scandir(self._root / decode_name(folder)) as found:
            for entry in found:
                name = folder + encode_name(entry.name)
                if not self._is_folder(entry, name, folder):
                    entries.append(name)
                elif self._enters(f"{name}/"):
                    entries.append(f"{name}/")
                else:
                    self._listing.leave()
        return sorted(entries, key=lambda name: name.removesuffix("/"), reverse=True)

    def _is_folder(self, entry: os.DirEntry[str], name: str, folder: str) -> bool:
        """Whether to look into an entry. Notes the kind of what is no plain file."""
        try:
            if hidden(entry.name):
                self._kinds[name] = HIDDEN_FOLDERS if entry.is_dir() else HIDDEN
            elif entry.is_dir():  # known without a stat, except for links
                return self._is_new(entry, name, folder)
            elif not entry.is_file() and stat.S_IFMT(entry.stat().st_mode):
                self._kinds[name] = SPECIAL
        except OSError as error:
            self._broken(name, error)
        return False

    def _is_new(self, entry: os.DirEntry[str], name: str, folder: str) -> bool:
        """Whether a folder is none of those around it. Only behind a link can it be one."""
        if not entry.is_symlink() and folder not in self._linked:
            return True
        target = (self._root / decode_name(name)).stat()
        around = self._root / decode_name(folder)
        for place in (around, *around.parents):
            if os.path.samestat(place.stat(), target):
                self._kinds[name] = LOOP
                return False
            if place == self._root:
                break
        self._linked.add(f"{name}/")
        return True

    def _broken(self, name: str, error: OSError) -> None:
        """Note an entry that can't be examined: most often a link, which may lead to something another time."""
        self._listing.leave()
        if is_image(name) or hidden(name):
            return  # reading it will say what is wrong
        if error.errno == errno.ELOOP:
            self._kinds[name] = LOOP
        elif error.errno == errno.ENOENT:
            self._kinds[name] = NOTHING
        else:
            self._unreadable(name, error)

    def _unreadable(self, name: str, error: OSError) -> None:
        self._listing.leave()
        self._passed.unreadable[name] = error.strerror or str(error)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one that can be followed."""
    try:
        return entry.is_dir()
    except OSError:
        return False
