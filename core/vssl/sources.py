"""Images where they lie: a folder, a `.zip` of one read in place, or `archive.zip::folder/inside`."""

import os
import re
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vssl.errors import UsageError
from vssl.preprocessing import ImageError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"})


class Source(ABC):
    """A set of image files, named by paths relative to it with forward slashes, in a fixed order."""

    def __init__(self, name: str) -> None:
        self.name = name

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

    def close(self) -> None:
        """Release what the source holds open."""


class Folder(Source):
    """A folder of images, searched through all its subfolders; links to folders are not followed."""

    def __init__(self, root: Path) -> None:
        super().__init__(root.resolve().name)
        self.root = root

    def paths(self) -> Iterator[str]:
        yield from self._walk(self.root, "")

    def read(self, path: str, max_bytes: int) -> bytes:
        with (self.root / decode_name(path)).open("rb") as file:
            data = file.read(max_bytes + 1)
        return within(data, max_bytes)

    def _walk(self, folder: Path, prefix: str) -> Iterator[str]:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
        for entry in entries:
            name = prefix + encode_name(entry.name)
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path), f"{name}/")
            elif is_image(name) and entry.is_file():
                yield name


class ZipFolder(Source):
    """A folder inside a zip archive, read without unpacking."""

    def __init__(self, archive: Path, folder: str) -> None:
        inside = folder.strip("/")
        super().__init__(f"{archive.name}::{inside}" if inside else archive.name)
        try:
            self._archive = zipfile.ZipFile(archive)
        except (zipfile.BadZipFile, EOFError) as error:
            raise UsageError(f"{archive}: not a readable zip archive ({error})") from error
        self._prefix = f"{inside}/" if inside else ""
        start = len(self._prefix)
        names = (name for name in self._archive.namelist() if name.startswith(self._prefix) and is_image(name))
        self._paths = sorted(name[start:] for name in names if not hidden(name[start:]))
        if not self._paths and not any(name.startswith(self._prefix) for name in self._archive.namelist()):
            raise UsageError(f"{archive}: no folder {inside!r} inside; its top folders are {self._top_folders()}")

    def paths(self) -> Iterator[str]:
        yield from self._paths

    def read(self, path: str, max_bytes: int) -> bytes:
        try:
            with self._archive.open(self._prefix + path) as member:
                data = member.read(max_bytes + 1)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise OSError(f"can't be read from the archive: {error}") from error
        return within(data, max_bytes)

    def close(self) -> None:
        self._archive.close()

    def _top_folders(self) -> str:
        tops = sorted({name.split("/")[0] for name in self._archive.namelist() if "/" in name})
        return ", ".join(tops[:10]) or "none"


def open_source(location: str) -> Source:
    """Open a folder, a `.zip`, or `archive.zip::folder`.

    Raises:
        UsageError: nothing is there, or it is neither a folder nor a zip archive.
    """
    archive, _, inside = location.partition("::")
    path = Path(archive)
    if not path.exists():
        raise UsageError(f"{archive}: no such file or folder")
    if path.is_dir() and not inside:
        return Folder(path)
    if path.is_file() and zipfile.is_zipfile(path):
        return ZipFolder(path, inside)
    raise UsageError(f"{location}: neither a folder nor a zip archive")


def labels_of(paths: list[str]) -> tuple[list[int], list[str]] | None:
    """Class of each image, where every image lies in one of at least two top folders; else there are no labels.

    Returns indices and the sorted class names.
    """
    tops = [path.split("/")[0] if "/" in path else None for path in paths]
    names = sorted({top for top in tops if top is not None})
    if None in tops or len(names) < 2:
        return None
    index = {name: number for number, name in enumerate(names)}
    return [index[top] for top in tops if top is not None], names


def is_image(name: str) -> bool:
    """Whether the file's extension is one of an image."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def hidden(name: str) -> bool:
    """Files that systems leave behind: dot files, and macOS's `__MACOSX` folders in archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def within(data: bytes, max_bytes: int) -> bytes:
    """Pass `data` on unless it is longer than the limit."""
    if len(data) > max_bytes:
        raise ImageError("too_many_bytes", f"the file is over the limit of {max_bytes:,} bytes")
    return data


def encode_name(name: str) -> str:
    r"""A file name as valid text: bytes that are no UTF-8 become `\udcXX`, and a backslash becomes two."""
    return re.sub(r"\\|[\udc80-\udcff]", lambda found: "\\\\" if found[0] == "\\" else f"\\u{ord(found[0]):04x}", name)


def decode_name(text: str) -> str:
    """The inverse of `encode_name`."""
    return re.sub(r"\\\\|\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)) if found[1] else "\\", text)
