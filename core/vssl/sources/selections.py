"""Some files instead of a whole folder: those that match a pattern, or those of a list."""

import codecs
import hashlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vssl.errors import UsageError
from vssl.images.names import decode_name, encode_name
from vssl.sources.folder import Folder
from vssl.sources.passed_over import REPEATED, PassedOver
from vssl.sources.patience import patiently, read_file
from vssl.sources.source import Source, limited

MAGIC = re.compile(r"[*?\[]")
BLOCK = 2**20


class Matching(Folder):
    """The images in and under a folder whose paths match a pattern.

    `*`, `?` and `[…]` mean what they do in a shell, within one name. `**` stands for any number of folders, or none.

    Args:
        pattern: such as `photos/**/*.jpg`; the folder is the part before the first name with a wildcard.

    Raises:
        UsageError: there is no such folder.
    """

    def __init__(self, pattern: str) -> None:
        names = Path(pattern).parts
        first = next(number for number, name in enumerate(names) if MAGIC.search(name))
        root = Path(*names[:first])
        if not root.is_dir():
            raise UsageError(f"{pattern}: there is no folder {root}")
        super().__init__(root)
        self._pattern = names[first:]
        self.name = f"{self.name}/{'/'.join(self._pattern)}"

    def _asks(self, path: str) -> bool:
        return matches(decode_name(path).split("/"), self._pattern)

    def _enters(self, folder: str) -> bool:
        return bool(_reached(decode_name(folder).split("/")[:-1], self._pattern) - {len(self._pattern)})


def matches(names: list[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches a pattern, both name by name; at most names × pattern steps."""
    return len(pattern) in _reached(names, pattern)


def _reached(names: list[str], pattern: Sequence[str]) -> set[int]:
    """How many items of the pattern the names may use up: all possible counts.

    `**` at the end stands for all files; elsewhere for any number of folders. A name never uses it up.
    """
    last = len(pattern) - 1
    places = _beyond({0}, pattern)
    for name in names:
        stepped = set()
        for place in places - {len(pattern)}:
            if pattern[place] == "**":
                stepped |= {place, place + 1} if place == last else {place}
            elif fnmatchcase(name, pattern[place]):
                stepped.add(place + 1)
        places = _beyond(stepped, pattern)
    return places


def _beyond(places: set[int], pattern: Sequence[str]) -> set[int]:
    """`places`, and those after a `**` that stands for no folder."""
    found = set(places)
    for place in range(len(pattern) - 1):
        if place in found and pattern[place] == "**":
            found.add(place + 1)
    return found


class Listed(Source):
    """Files named one by one, each once, in the order of the list; their extension does not matter.

    The list is kept in a temporary file: it may hold millions.

    Args:
        names: paths, absolute or relative to the working directory, as bytes.
    """

    def __init__(self, names: Iterable[bytes]) -> None:
        super().__init__("list")
        self._file = tempfile.NamedTemporaryFile()  # noqa: SIM115 — `close` closes it

        def written() -> Iterator[bytes]:
            for name in names:
                self._file.write(name + b"\0")
                yield hashlib.blake2b(name, digest_size=15).digest() + b"."

        digests = np.fromiter(written(), "S16")
        self._file.flush()
        _, first = np.unique(digests, return_index=True)
        again = np.ones(len(digests), np.bool_)
        again[first] = False
        self._repeated = frozenset(np.flatnonzero(again).tolist())

    def paths(self) -> Iterator[str]:
        """In the order of the list."""
        with Path(self._file.name).open("rb") as file:
            for number, name in enumerate(split(file, b"\0")):
                if number not in self._repeated:
                    yield encode_name(os.fsdecode(name))
        self.passed_over = PassedOver(Counter({REPEATED: len(self._repeated)} if self._repeated else {}))

    def read(self, path: str, max_bytes: int) -> bytes:
        """The file's bytes."""
        return limited(read_file(Path(decode_name(path)), max_bytes + 1), max_bytes)

    def size(self, path: str) -> int:
        """The file's bytes."""
        return patiently(Path(decode_name(path)).stat).st_size

    def label(self, path: str) -> None:
        """None: the folders of listed files mean nothing."""

    def close(self) -> None:
        """Delete the copy of the list."""
        self._file.close()


def split(stream: BinaryIO, separator: bytes | None = None) -> Iterator[bytes]:
    """The names in a stream, empty ones left out: one a line, or ended by NUL if the first block holds one.

    Lines may end as on Windows, and begin with the byte order mark of its tools. NUL ends any name.
    """
    rest = b""
    ends = b""
    while block := stream.read(BLOCK):
        if separator is None:
            separator = b"\0" if b"\0" in block else b"\n"
            ends = b"\r" if separator == b"\n" else b""
            block = block.removeprefix(codecs.BOM_UTF8)
        *names, rest = (rest + block).split(separator)
        yield from filter(None, (name.removesuffix(ends) for name in names))
    if rest.removesuffix(ends):
        yield rest.removesuffix(ends)
