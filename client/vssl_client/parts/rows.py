"""Rows of a job, on their way into a part."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vssl_client.errors import ImageRejected
from vssl_client.formats.columns import Columns, Origin, failed_rows
from vssl_client.results.assembly import Numbers, Provenance, filled, joined
from vssl_client.results.result import EmbeddingResult
from vssl_client.results.saving import columns_of


@dataclass(frozen=True)
class Rows:
    """Results of consecutive images, with the SHA-256, the size and the label of each, or None."""

    paths: list[str]
    hashes: list[str | None]
    sizes: list[int | None]
    result: EmbeddingResult
    labels: list[str | None] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice) -> "Rows":
        labels = None if self.labels is None else self.labels[rows]
        return Rows(self.paths[rows], self.hashes[rows], self.sizes[rows], self.result[rows], labels)

    @property
    def reasons(self) -> list[str | None]:
        """Why each image has no embedding, as in the column `error`, or None."""
        return [None if error is None else error.reason for error in self.result.errors]

    def as_columns(self, dimension: int) -> Columns:
        """All columns, with vectors of `dimension` numbers also where no image was embedded."""
        columns = columns_of(self.result) | {"path": self.paths, "sha256": self.hashes, "label": self.classes}
        columns["size"] = np.array([-1 if size is None else size for size in self.sizes], np.int64)
        if self.result.embedding.shape[1] == 0:
            blank = np.full((len(self), dimension), np.nan, np.float32)
            columns |= {"embedding": blank, "variance": blank}
        return columns

    @property
    def classes(self) -> list[str | None]:
        """Each image's label, or None."""
        return [None] * len(self) if self.labels is None else self.labels


def all_rows(parts: Sequence[Rows]) -> Rows:
    """Rows put together, in order; at least one.

    Raises:
        ModelChanged: they come from different models.
    """
    return Rows(
        [path for rows in parts for path in rows.paths],
        [sha256 for rows in parts for sha256 in rows.hashes],
        [size for rows in parts for size in rows.sizes],
        joined([rows.result for rows in parts]),
        [label for rows in parts for label in rows.classes],
    )


def replaced(columns: Columns, origin: Origin, places: Sequence[int], fresh: Rows) -> Rows:
    """All rows of a part, from all its columns, with fresh rows in some places.

    Raises:
        ModelChanged: they come from different models.
    """
    every = all_rows([_as_rows(columns, origin), fresh])
    order = list(range(len(columns["path"])))
    for number, place in enumerate(places):
        order[place] = len(order) + number
    return Rows(
        [every.paths[row] for row in order],
        [every.hashes[row] for row in order],
        [every.sizes[row] for row in order],
        every.result[order],
        [every.classes[row] for row in order],
    )


def _as_rows(columns: Columns, origin: Origin) -> Rows:
    errors = [None if text is None else _rejected(text) for text in columns["error"]]
    numbers = Numbers(
        columns["embedding"],
        np.zeros_like(columns["variance"]),
        columns["uncertainty"],
        columns["percentile"],
        columns["confidence"],
        columns["flags"],
        columns["familiarity"],
    )
    result = filled(errors, Provenance(origin.model, origin.version, origin.id), numbers[~failed_rows(columns)])
    result = replace(result, variance=columns["variance"])  # it may be missing without an error
    sizes = [None if size < 0 else size for size in columns["size"].tolist()]
    return Rows(columns["path"], columns["sha256"], sizes, result, columns["label"])


def _rejected(reason: str) -> ImageRejected:
    kind, _, message = reason.partition(": ")
    return ImageRejected(kind, message)
