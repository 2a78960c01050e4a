"""What embedding images gives: arrays, one row an image, in the order of the images."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from vssl.arrays import Float32s, Int64s, Mask
from vssl_client.errors import ImageRejected
from vssl_client.results import saving, shown

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Flags = dict[str, Mask]
Selection = slice | Mask | npt.NDArray[np.integer[Any]] | Sequence[int] | Sequence[bool]


@dataclass(frozen=True, eq=False, repr=False)
class ImageEmbedding:
    """One row of an `EmbeddingResult`. Where the image has no embedding it is NaN, and `error` says why.

    Attributes:
        index: the image's place among the given images.
        name: its path if it came as one.
        embedding: float32 [D], of unit length.
        variance: float32 [D], on the same scale.
        uncertainty: higher is worse.
        percentile: None without a calibration.
        confidence: None without a calibration on labelled images.
        flags: `degraded`, `ood` and `unfamiliar`; None without a calibration.
        error: None where the image was embedded.
        familiarity: 0 … 1; None where the bundle keeps no reference vectors.
    """

    index: int
    name: str | None
    embedding: Float32s
    variance: Float32s
    uncertainty: float
    percentile: float | None
    confidence: float | None
    flags: dict[str, bool] | None
    error: ImageRejected | None
    familiarity: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the image was embedded."""
        return self.error is None

    def __repr__(self) -> str:
        return shown.of_image(self)


@dataclass(frozen=True, eq=False, repr=False)
class EmbeddingResult:
    """N embedded images. The row of a failed image is NaN (its flags false), and its item in `errors` says why.

    `result[0]` is one row, an `ImageEmbedding`, and iteration gives these; `result[:2]`, `result[mask]` and
    `result[[3, 1]]` are results of these rows.

    Attributes:
        embedding: float32 [N, D], each row of unit length.
        variance: float32 [N, D], on the same scale.
        uncertainty: float32 [N], higher is worse.
        percentile: float32 [N], the per cent of reference images that are at most as uncertain; None without a
            calibration.
        confidence: float32 [N], the estimated probability that the nearest neighbour has the same label; None without a
            calibration on labelled images.
        flags: `degraded`, `ood` and `unfamiliar`, bool [N] each; None without a calibration.
        errors: N items, None where the image was embedded.
        names: N items, the paths of images that came as paths, else None.
        index: int64 [N], each image's place among the given images; 0 … N − 1 unless some were skipped.
        model: name of the model that answered.
        version: its version.
        bundle_id: the id of its bundle; None where the server does not tell.
        familiarity: float32 [N] in 0 … 1, the share of the reference images that are less familiar; None where the
            bundle keeps no reference vectors.
    """

    embedding: Float32s
    variance: Float32s
    uncertainty: Float32s
    percentile: Float32s | None
    confidence: Float32s | None
    flags: Flags | None
    errors: list[ImageRejected | None]
    names: list[str | None]
    index: Int64s
    model: str
    version: str
    bundle_id: str | None = None
    familiarity: Float32s | None = None

    def __len__(self) -> int:
        return len(self.errors)

    def __iter__(self) -> Iterator[ImageEmbedding]:
        return map(self._row, range(len(self)))

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> ImageEmbedding: ...

    @overload
    def __getitem__(self, rows: Selection) -> "EmbeddingResult": ...

    def __getitem__(self, rows: int | np.integer[Any] | Selection) -> "ImageEmbedding | EmbeddingResult":
        chosen = np.arange(len(self))[rows]
        if chosen.ndim == 0:
            return self._row(int(chosen))

        def some(values: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
            return None if values is None else values[rows]

        return replace(
            self,
            embedding=self.embedding[rows],
            variance=self.variance[rows],
            uncertainty=self.uncertainty[rows],
            percentile=some(self.percentile),
            confidence=some(self.confidence),
            flags=None if self.flags is None else {name: values[rows] for name, values in self.flags.items()},
            errors=[self.errors[row] for row in chosen],
            names=[self.names[row] for row in chosen],
            index=self.index[rows],
            familiarity=some(self.familiarity),
        )

    def __repr__(self) -> str:
        return shown.of_result(self)

    def _repr_html_(self) -> str:
        return shown.as_html(self)

    @property
    def ok(self) -> Mask:
        """Which images were embedded: bool [N]."""
        return np.array([error is None for error in self.errors], np.bool_)

    def to_arrow(self) -> "pa.Table":
        """A table with the columns that `vssl embed` writes. An image without a path gets its place as one.

        Raises:
            UsageError: pyarrow is not installed.
        """
        return saving.to_arrow(self)

    def to_pandas(self) -> "pd.DataFrame":
        """A data frame with one row an image, by `index`; `embedding` and `variance` hold arrays [D].

        Raises:
            UsageError: pandas is not installed.
        """
        return saving.to_pandas(self)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write `file` whole or not at all, as .parquet, .npz or .jsonl by its name, with the same columns.

        Args:
            file: an existing one is replaced.

        Raises:
            UsageError: the name has another ending, or a package of the format is not installed.
            OSError: it can't be written.
        """
        saving.save(self, file)

    def _row(self, row: int) -> ImageEmbedding:
        def number(values: Float32s | None) -> float | None:
            return None if values is None else float(values[row])

        return ImageEmbedding(
            index=int(self.index[row]),
            name=self.names[row],
            embedding=self.embedding[row],
            variance=self.variance[row],
            uncertainty=float(self.uncertainty[row]),
            percentile=number(self.percentile),
            confidence=number(self.confidence),
            flags=None if self.flags is None else {name: bool(values[row]) for name, values in self.flags.items()},
            error=self.errors[row],
            familiarity=number(self.familiarity),
        )
