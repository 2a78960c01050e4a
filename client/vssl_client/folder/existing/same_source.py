"""Whether a folder of embeddings is of the images that a source holds now.

A source is known by its name, and two folders may have the same one. So what is done is compared with what is there:
the sizes of some files, of more where an archive lists them, and the content of a few.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vssl.errors import UsageError
from vssl.images.decoding import ImageError
from vssl.sources.source import Source
from vssl_client.embedding.pipeline import ordered
from vssl_client.folder.reading import READERS, read_file
from vssl_client.parts.formats import Format

SIZES = 10_000
HASHES = 64
"""Files that are compared by size, and those that are read and compared by SHA-256."""

LISTED = 100_000
"""Where an archive lists sizes, so many are compared, and of more a share that falls: to look ten million up would take
minutes."""

OTHER = 0.1
"""Where more of them differ, it is another source."""

SHOWN = 10
SEED = 0


@dataclass
class Difference:
    """So many files were looked at, so many of them are not those that were embedded; `paths` are the first few."""

    looked_at: int = 0
    count: int = 0
    paths: list[str] = field(default_factory=list)

    def add(self, looked_at: int, paths: Sequence[str]) -> None:
        """Count some more."""
        self.looked_at += looked_at
        self.count += len(paths)
        self.paths += paths[: SHOWN - len(self.paths)]


@dataclass(frozen=True)
class _Row:
    part: Path
    number: int
    path: str
    size: int


class Comparison:
    """Sees all finished rows part by part, keeps some, always the same ones, and compares them with the source.

    Files that are gone are not compared.
    """

    def __init__(self, source: Source, format: Format) -> None:
        self._source, self._format = source, format
        self._chance = np.random.default_rng(SEED)
        self._most = HASHES if source.lists_sizes else SIZES
        self._kept: list[tuple[float, _Row]] = []
        self._highest = 1.0
        self._sizes, self._seen = Difference(), 0

    def add(self, part: Path, paths: Sequence[str], sizes: npt.NDArray[np.int64]) -> None:
        """See the rows of a part: each path, and the bytes of its file, −1 where they are not known."""
        draws = self._chance.random(len(paths))
        rows = np.flatnonzero((sizes >= 0) & (draws < self._highest)).tolist()
        self._kept += [(draws[row], _Row(part, row, paths[row], int(sizes[row]))) for row in rows]
        if len(self._kept) > 2 * self._most:
            self._trim()
        if self._source.lists_sizes:
            self._seen += len(paths)
            looked = np.flatnonzero((sizes >= 0) & (draws <= LISTED / self._seen)).tolist()
            known = [(paths[row], int(sizes[row])) for row in looked]
            self._compare_sizes(known, map(self._size, (path for path, _ in known)))

    def finish(self) -> Difference:
        """What differs.

        Raises:
            UsageError: more than a tenth of what was looked at.
            VsslError: a part can't be read.
        """
        self._trim()
        rows = [row for _, row in self._kept]
        if not self._source.lists_sizes:
            with ordered(self._size, [row.path for row in rows], READERS) as found:
                self._compare_sizes([(row.path, row.size) for row in rows], found)
        self._check(self._sizes, rows)
        contents = self._compare_contents(rows[:HASHES])
        self._check(contents, rows)
        self._sizes.add(0, contents.paths)
        return self._sizes

    def _trim(self) -> None:
        self._kept.sort(key=lambda pair: pair[0])
        del self._kept[self._most :]
        if len(self._kept) == self._most:
            self._highest = self._kept[-1][0]

    def _compare_sizes(self, wanted: Sequence[tuple[str, int]], sizes: Iterable[int | None]) -> None:
        found = [(path, size, now) for (path, size), now in zip(wanted, sizes, strict=True) if now is not None]
        self._sizes.add(len(found), [path for path, size, now in found if size != now])

    def _compare_contents(self, rows: Sequence[_Row]) -> Difference:
        """By SHA-256, of files that have the size that they had."""
        hashes = {part: self._format.read_part(part, ["sha256"])["sha256"] for part in {row.part for row in rows}}
        difference = Difference()
        with ordered(lambda row: read_file(self._source, row.path, row.size), rows, READERS) as files:
            for row, file in zip(rows, files, strict=True):
                if file.sha256 is not None and file.size == row.size:
                    same = file.sha256 == hashes[row.part][row.number]
                    difference.add(1, [] if same else [row.path])
        return difference

    def _check(self, difference: Difference, rows: Sequence[_Row]) -> None:
        if difference.count > OTHER * difference.looked_at:
            raise UsageError(
                f"{rows[0].part.parent}: holds embeddings of other images than {self._source.name} does now: of "
                f"{difference.looked_at:,} files looked at {difference.count:,} differ, such as {difference.paths[0]}. "
                "If it is another source, name a new folder; if these images have changed, --changed embeds them "
                "again; --overwrite deletes all embeddings first"
            )

    def _size(self, path: str) -> int | None:
        with suppress(OSError, ImageError):
            return self._source.size(path)
        return None
