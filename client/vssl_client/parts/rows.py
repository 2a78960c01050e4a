"""What the parts of a job hold, in any format: rows, and their origin."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vssl.arrays import Float32s
from vssl.errors import VsslError
from vssl_client.errors import ImageRejected
from vssl_client.results.assembly import Numbers, Provenance, filled, joined
from vssl_client.results.result import EmbeddingResult

ABOUT = ("model", "version", "id", "source")

Columns = dict[str, Any]
"""Columns of the N rows of a part, the same for every format: `path`, texts; `sha256`, `label`, `error`, texts or None;
`size`, int64 [N], −1 where it is not known; `embedding` and `variance`, float32 [N, D], and `uncertainty`, float32 [N],
NaN where there is none; `percentile` and `confidence`, float32 [N], or None; `flags`, bool [N] each, or None."""

TEXTS = ("path", "sha256", "label", "error")
COLUMNS = (*TEXTS, "size", "embedding", "variance", "uncertainty", "percentile", "confidence", "flags")


@dataclass(frozen=True)
class Origin:
    """What all parts of a folder share: the model's name, version, bundle id and dimension D, and the source's name."""

    model: str
    version: str
    id: str
    source: str
    dimension: int


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
    good = np.array([error is None for error in errors], np.bool_)
    numbers = Numbers(
        columns["embedding"],
        np.zeros_like(columns["variance"]),
        columns["uncertainty"],
        columns["percentile"],
        columns["confidence"],
        columns["flags"],
    )
    result = filled(errors, Provenance(origin.model, origin.version, origin.id), numbers[good])
    result = replace(result, variance=columns["variance"])  # it may be missing without an error
    sizes = [None if size < 0 else size for size in columns["size"].tolist()]
    return Rows(columns["path"], columns["sha256"], sizes, result, columns["label"])


@contextmanager
def reading(part: Path) -> Iterator[None]:
    """Name the part in any error of reading it."""
    try:
        yield
    except VsslError:
        raise
    except Exception as error:  # broken bytes cause errors of any type
        raise unreadable(part, error) from error


def checked(columns: Columns, wanted: Collection[str], dimension: int | None = None) -> Columns:
    """The columns, if they fit together.

    Raises:
        ValueError: one is missing, of another length than the others, or of another type than it should be.
    """
    counts = {len(of) for name in wanted for of in _arrays(columns[name])}
    if len(counts) > 1:
        raise ValueError(f"its columns have {' and '.join(map(str, sorted(counts)))} rows")
    for name in wanted:
        values = columns[name]
        if name in TEXTS:
            wrong = not {type(text) for text in values} <= ({str} if name == "path" else {str, type(None)})
        elif name in ("embedding", "variance"):
            wrong = values.ndim != 2 or dimension not in (None, values.shape[1])
        else:
            wrong = any(of.ndim != 1 for of in _arrays(values))
        if wrong:
            raise ValueError(f"its column {name} holds something else")
    return columns


def unreadable(part: Path, error: Exception) -> VsslError:
    """The error for a damaged part, or a file that is not a part."""
    advice = "move it out of the folder, and `vssl embed` makes it again"
    reason = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
    return VsslError(f"{part}: not a part of embeddings that can be read ({reason}); {advice}")


def _arrays(values: Any) -> list[Any]:  # noqa: ANN401 — a list or an array
    if values is None:
        return []
    return list(values.values()) if isinstance(values, dict) else [values]


def _rejected(reason: str) -> ImageRejected:
    kind, _, message = reason.partition(": ")
    return ImageRejected(kind, message)


def missing_vectors(values: Float32s) -> Any:  # noqa: ANN401 — a mask, for numpy and for pyarrow
    """Which rows of [N, D] hold no vector: bool [N]."""
    return np.isnan(values).all(axis=1)
