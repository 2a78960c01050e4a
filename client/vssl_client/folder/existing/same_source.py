"""Whether a folder of embeddings belongs to the images that a source holds now.

A source is known by its name, but two folders may have the same name. So compare the rows with the files: the sizes of
some, of more if an archive lists them, and the content of a few.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vssl.errors import UsageError
from vssl.images.decoding import ImageError
from vssl.objects.path import AnyPath
from vssl.sources.source import Source
from vssl_client.embedding.pipeline import ordered
from vssl_client.folder.reading import READERS, read_file
from vssl_client.formats.contract import Format

SIZES = 10_000
HASHES = 64
"""Files to compare by size, and files to read and compare by SHA-256."""

LISTED_SIZES = 100_000
"""If an archive lists sizes, compare so many, and a falling share of more: ten million look-ups would take minutes."""

OTHER_SHARE = 0.1
"""If a larger share differs, it is another source."""

SHOWN = 10
SEED = 0


@dataclass
class Difference:
    """Number of files looked at, `count` of them other than those embedded; `paths` are the first few."""

    looked_at: int = 0
    count: int = 0
    paths: list[str] = field(default_factory=list)

    def add(self, looked_at: int, paths: Sequence[str]) -> None:
        """Count more files, and those of them that differ."""
        self.looked_at += looked_at
        self.count += len(paths)
        self.paths += paths[: SHOWN - len(self.paths)]


@dataclass(frozen=True)
class _Row:
    part: AnyPath
    number: int
    path: str
    size: int


class Comparison:
    """Sees all finished rows part by part, keeps a sample, always the same, and compares it with the source.

    Files that are gone are left out.
    """

    def __init__(self, source: Source, format: Format) -> None:
        self._source, self._format = source, format
        self._chance = np.random.default_rng(SEED)
        self._most = HASHES if source.lists_sizes else SIZES
        self._kept: list[tuple[float, _Row]] = []
        self._highest = 1.0
        self._sizes, self._seen = Difference(), 0

    def add(self, part: AnyPath, paths: Sequence[str], sizes: npt.NDArray[np.int64]) -> None:
        """See the rows of a part: the paths, and the sizes of their files in bytes [N], −1 where unknown."""
        draws = self._chance.random(len(paths))
        rows = np.flatnonzero((sizes >= 0) & (draws < self._highest)).tolist()
        self._kept += [(draws[row], _Row(part, row, paths[row], int(sizes[row]))) for row in rows]
        if len(self._kept) > 2 * self._most:
            self._trim()
        if self._source.lists_sizes:
            self._seen += len(paths)
            looked = np.flatnonzero((sizes >= 0) & (draws <= LISTED_SIZES / self._seen)).tolist()
            known = [(paths[row], int(sizes[row])) for row in looked]
            self._compare_sizes(known, map(self._size, (path for path, _ in known)))

    def finish(self) -> Difference:
        """The difference.

        Raises:
            UsageError: more than a tenth of the files looked at differ.
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
        """By SHA-256, for files whose size is the same."""
        hashes = {part: self._format.read_part(part, ["sha256"])["sha256"] for part in {row.part for row in rows}}
        difference = Difference()
        with ordered(lambda row: read_file(self._source, row.path, row.size), rows, READERS) as files:
            for row, file in zip(rows, files, strict=True):
                if file.sha256 is not None and file.size == row.size:
                    same = file.sha256 == hashes[row.part][row.number]
                    difference.add(1, [] if same else [row.path])
        return difference

    def _check(self, difference: Difference, rows: Sequence[_Row]) -> None:
        if difference.count > OTHER_SHARE * difference.looked_at:
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
