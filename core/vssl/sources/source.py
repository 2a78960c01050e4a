"""Images where they lie: a folder, an archive read in place (room `archives`), or `archive.zip::folder`."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from vssl.errors import UsageError
from vssl.images.decoding import ImageError
from vssl.images.names import decode_name, encode_name
from vssl.sources.listing_cache import kept
from vssl.sources.passed_over import EXTENSIONS, PassedOver, hidden, is_image
from vssl.sources.patience import patiently, read_file
from vssl.sources.search import Search, is_folder

__all__ = [
    "EXTENSIONS",
    "Folder",
    "Source",
    "decode_name",
    "encode_name",
    "hidden",
    "is_image",
    "labels_of",
    "no_images",
    "numbered",
    "open_source",
    "splits_of",
    "within",
]

SPLITS = frozenset({"train", "val", "valid", "validation", "test"})


class Source(ABC):
    """A set of image files, named by paths relative to it with forward slashes, in a fixed order.

    A folder and a zip archive of it have the same paths in the same order; `encode_name` makes them valid text.
    Where it `lists_sizes`, `size` asks no disk.
    """

    lists_sizes = False

    def __init__(self, name: str) -> None:
        self.name = encode_name(name)
        self.passed_over = PassedOver()
        """What the last search that came to its end left out."""

    @abstractmethod
    def paths(self) -> Iterator[str]:
        """Every file that has an image's extension, hidden ones excepted, lazily and always in the same order."""

    @abstractmethod
    def read(self, path: str, max_bytes: int) -> bytes:
        """The file's bytes; safe to call from many threads.

        Raises:
            ImageError: the file is over `max_bytes`.
            OSError: the file can't be read.
        """

    def size(self, path: str) -> int:
        """How many bytes the file has; known without reading it where files or archives are.

        Raises:
            OSError: there is no such file.
        """
        return len(self.read(path, 2**31))

    def label(self, path: str) -> str | None:
        """Class of one image: its top folder; None where it lies in none."""
        top, slash, _ = path.partition("/")
        return top if slash else None

    def labels(self, paths: list[str]) -> tuple[list[int], list[str]] | None:
        """Class of each image, as indices, and the sorted names of the classes; None where there are no labels."""
        return numbered([self.label(path) for path in paths])

    def close(self) -> None:  # noqa: B027 — a folder holds nothing open
        """Release what the source holds open."""


class Folder(Source):
    """A folder of images, searched through all its subfolders and through links to folders, as `find -L` does."""

    def __init__(self, root: Path) -> None:
        super().__init__(root.resolve().name)
        self.root = root

    def paths(self) -> Iterator[str]:
        """Depth first, each folder's names sorted. `listing_cache` remembers those of a large folder."""
        root = self.root.resolve()
        passed = PassedOver()
        for path, kind in kept(root) or Search(root, passed, self._enters):
            if not self._asks(path):
                continue
            if kind is None:
                yield path
            else:
                passed.add(kind)
        self.passed_over = passed

    def read(self, path: str, max_bytes: int) -> bytes:
        """The file's bytes."""
        return within(read_file(self.root / decode_name(path), max_bytes + 1), max_bytes)

    def size(self, path: str) -> int:
        """The file's bytes."""
        return patiently((self.root / decode_name(path)).stat).st_size

    def _asks(self, path: str) -> bool:
        """Whether this file is one of the source; one that is not is neither read nor passed over."""
        return True

    def _enters(self, folder: str) -> bool:
        """Whether such a file may lie in or under a folder, whose name ends with a slash."""
        return True


def open_source(location: str) -> Source:
    """Open a folder, a `.zip` or `.tar`, `archive.zip::folder`, a folder of tar shards, `name-{0000..0099}.tar`, or a
    pattern such as `folder/**/*.jpg`.

    Raises:
        UsageError: nothing is there, or it is neither a folder nor such an archive.
        OSError: it can't be read.
    """
    # They are sources, and need this module.
    from vssl.sources.archives.archives import is_archive, open_archive
    from vssl.sources.archives.shards import Shards, shards_in, shards_of
    from vssl.sources.selections import MAGIC, Matching

    if Path(location).is_dir():
        shards, beside = shards_in(Path(location))
        return Shards(Path(location).resolve().name, shards, beside) if shards else Folder(Path(location))
    archive, _, inside = location.partition("::")
    path = Path(archive)
    if path.is_dir():
        raise UsageError(f"{location}: only an archive can be followed by `::folder`; {archive} is a folder")
    if path.is_file():
        return open_archive(path, inside)
    shards = shards_of(location)
    if shards:
        return Shards("/".join(Path(location).parts[-1 - next(iter(shards)).count("/") :]), shards)
    if MAGIC.search(archive) and not is_archive(path.name):
        return Matching(location)
    hint = "; a pattern names images, not archives" if MAGIC.search(archive) else ""
    raise UsageError(f"{archive}: no such file or folder{hint}")


def splits_of(location: str) -> dict[str, str]:
    """Location of each split by its name in lower case, where all images lie in top folders that are called `train`
    (or `Train`) and like other splits; else empty.
    """
    root = Path(location)
    if root.is_dir():
        with os.scandir(root) as found:
            tops = {
                entry.name for entry in found if not hidden(entry.name) and (is_folder(entry) or is_image(entry.name))
            }
        join = "/"
        if "train" not in map(str.lower, tops):
            return {}
    elif root.is_file() or "::" in location:
        with closing(open_source(location)) as source:
            tops = {path.split("/")[0] for path in source.paths()}
        join = "/" if "::" in location else "::"
    else:
        return {}
    splits = {top.lower(): f"{location}{join}{top}" for top in sorted(tops)}
    return splits if "train" in splits and splits.keys() <= SPLITS and len(splits) == len(tops) else {}


def labels_of(paths: list[str]) -> tuple[list[int], list[str]] | None:
    """Class of each image, where every image lies in one of at least two top folders; else there are no labels.

    Returns indices and the sorted class names.
    """
    return numbered([path.split("/")[0] if "/" in path else None for path in paths])


def numbered(labels: Sequence[str | None]) -> tuple[list[int], list[str]] | None:
    """Labels as indices, and the sorted names; None unless every image has one, of at least two."""
    names = sorted({label for label in labels if label is not None})
    if None in labels or len(names) < 2:
        return None
    index = {name: number for number, name in enumerate(names)}
    return [index[label] for label in labels if label is not None], names


def no_images(source: Source) -> UsageError:
    """What to say of a source whose search found none."""
    said = [source.passed_over.told(), source.passed_over.told_unreadable()]
    told = "".join(f"; {line}" for line in said if line is not None)
    return UsageError(
        f"{source.name}: no images in it (looked for .jpg, .png, .webp and others in all subfolders){told}"
    )


def within(data: bytes, max_bytes: int) -> bytes:
    """Pass `data` on unless it is longer than the limit."""
    if len(data) > max_bytes:
        raise ImageError("too_many_bytes", f"the file is over the limit of {max_bytes:,} bytes")
    return data
