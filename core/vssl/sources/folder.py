"""A folder of images."""

from collections.abc import Iterator
from pathlib import Path

from vssl.images.names import decode_name
from vssl.sources.folder_walk import FolderWalk
from vssl.sources.listing_cache import cached_paths
from vssl.sources.passed_over import PassedOver
from vssl.sources.patience import patiently, read_file
from vssl.sources.source import Source, limited


class Folder(Source):
    """A folder of images, searched through all its subfolders and through links to folders, as `find -L` does."""

    def __init__(self, root: Path) -> None:
        super().__init__(root.resolve().name)
        self.root = root

    def paths(self) -> Iterator[str]:
        """Depth first, each folder's names sorted. `listing_cache` remembers the paths of a large folder."""
        root = self.root.resolve()
        passed = PassedOver()
        for path, kind in cached_paths(root) or FolderWalk(root, passed, self._enters):
            if not self._asks(path):
                continue
            if kind is None:
                yield path
            else:
                passed.add(kind)
        self.passed_over = passed

    def read(self, path: str, max_bytes: int) -> bytes:
        """The file's bytes."""
        return limited(read_file(self.root / decode_name(path), max_bytes + 1), max_bytes)

    def size(self, path: str) -> int:
        """The file's bytes."""
        return patiently((self.root / decode_name(path)).stat).st_size

    def _asks(self, path: str) -> bool:
        """Whether the source includes this file. A file that it excludes is not counted as passed over."""
        return True

    def _enters(self, folder: str) -> bool:
        """Whether such a file may lie in or under a folder; its name ends with a slash."""
        return True
