"""The rows of a folder when a job begins, and which of them are embedded again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from vssl.objects.path import AnyPath
from vssl.sources.source import Source
from vssl_client.folder.existing.each_part import each_part
from vssl_client.folder.existing.same_source import Comparison, Difference
from vssl_client.folder.reading import Reader
from vssl_client.formats.columns import Columns
from vssl_client.formats.contract import Format


@dataclass(frozen=True)
class Again:
    """Rows of one part to embed again."""

    part: AnyPath
    rows: list[int]


@dataclass
class Earlier:
    """The rows of all parts, read once. Memory grows only with the rows to embed again.

    Args:
        parts: those of one folder.
        format: their format.
        source: the images.
        reader: reads them.
        count: called with the paths of the rows that stay, and for each the reason why it failed, or None.
        failed: embed failed images again.
        changed: embed images with another content again; every file is read.
        limit: embed at most so many again.
    """

    parts: Sequence[AnyPath]
    format: Format
    source: Source
    reader: Reader
    count: Callable[[Sequence[str], Sequence[str | None]], None]
    failed: bool = False
    changed: bool = False
    limit: int | None = None
    again: list[Again] = field(default_factory=list)
    difference: Difference = field(default_factory=Difference)

    def paths(self) -> Iterator[str]:
        """Every path that has a row, part after part; then compare with the source, unless `changed` is set.

        Raises:
            UsageError: it is another source.
            VsslError: a part can't be read.
        """
        comparison = Comparison(self.source, self.format)
        columns = ["path", "error", "size", *(["sha256"] if self.changed else [])]
        read = each_part(lambda part: self.format.read_part(part, columns), self.parts)
        for part, found in zip(self.parts, read, strict=True):
            rows = self._chosen(found)
            sizes = found["size"].copy()
            sizes[rows] = -1  # they may differ
            comparison.add(part, found["path"], sizes)
            stay = sorted(set(range(len(found["path"]))).difference(rows)) if rows else range(len(found["path"]))
            self.count([found["path"][row] for row in stay], [found["error"][row] for row in stay])
            if rows:
                self.again.append(Again(part, rows))
            yield from found["path"]
        if not self.changed:
            self.difference = comparison.finish()

    def _chosen(self, found: Columns) -> list[int]:
        rows: set[int] = set()
        if self.failed:
            rows |= {row for row, error in enumerate(found["error"]) if error is not None}
        if self.changed:
            rows |= set(_changed(self.reader, found))
        left = sum(len(again.rows) for again in self.again)
        return sorted(rows)[: None if self.limit is None else self.limit - left]


def _changed(reader: Reader, found: Columns) -> Iterator[int]:
    rows = [row for row, sha256 in enumerate(found["sha256"]) if sha256 is not None]
    files = reader.read(found["path"][row] for row in rows)
    for row, file in zip(rows, files, strict=True):
        gone = file.problem is not None and file.problem.type == "unreadable"
        if not gone and file.sha256 != found["sha256"][row]:
            yield row
