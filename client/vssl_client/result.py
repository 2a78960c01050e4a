"""What embedding images gives: arrays, one row an image, in the order of the images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vssl.calibration import FLAGS
from vssl.preprocessing import Preprocessing
from vssl_client.errors import ImageRejected, ModelChanged

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]
Flags = dict[str, Mask]


@dataclass(frozen=True)
class ModelInfo:
    """Which model answers: `id` is its bundle's hash, `dimension` is D, `size` the side in pixels that it looks at.

    `preprocessing` is how an image becomes these pixels; None where the server does not tell.
    """

    name: str
    version: str
    id: str
    dimension: int
    size: int
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True)
class EmbeddingResult:
    """N images embedded; the row of a failed image is NaN (its flags false), and its item in `errors` says why.

    Attributes:
        embedding: float32 [N, D], each row of unit length.
        variance: float32 [N, D], on the same scale.
        uncertainty: float32 [N], higher is worse.
        percentile: float32 [N], per cent of the reference images that are at most as uncertain; None without a
            calibration.
        confidence: float32 [N], estimated probability that the nearest neighbour has the same label; None without a
            calibration on labelled images.
        flags: `degraded` and `ood`, bool [N] each; None without a calibration.
        errors: N items, None where the image was embedded.
        index: int64 [N], the image's place among those that were given; 0 … N − 1 unless some were skipped.
        model: name of the model that answered.
        version: its version.
    """

    embedding: Floats
    variance: Floats
    uncertainty: Floats
    percentile: Floats | None
    confidence: Floats | None
    flags: Flags | None
    errors: list[ImageRejected | None]
    index: Indices
    model: str
    version: str

    def __len__(self) -> int:
        return len(self.errors)

    def __getitem__(self, rows: Mask) -> "EmbeddingResult":
        """The rows for which a mask, bool [N], is true."""

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
            errors=[error for error, kept in zip(self.errors, rows, strict=True) if kept],
            index=self.index[rows],
        )

    @property
    def ok(self) -> Mask:
        """Which images were embedded: bool [N]."""
        return np.array([error is None for error in self.errors], np.bool_)


def filled(
    errors: list[ImageRejected | None],
    model: str,
    version: str,
    embedding: Floats,
    variance: Floats,
    uncertainty: Floats,
    percentile: Floats | None = None,
    confidence: Floats | None = None,
    flags: Flags | None = None,
) -> EmbeddingResult:
    """A result of N = `len(errors)` rows, from arrays that have rows only for the images without an error."""
    good = np.array([error is None for error in errors], np.bool_)

    def spread(values: npt.NDArray[Any], blank: float | bool) -> npt.NDArray[Any]:
        if len(values) == len(good):
            return values
        rows = np.full((len(good), *values.shape[1:]), blank, values.dtype)
        rows[good] = values
        return rows

    return EmbeddingResult(
        embedding=spread(embedding, np.nan),
        variance=spread(variance, np.nan),
        uncertainty=spread(uncertainty, np.nan),
        percentile=None if percentile is None else spread(percentile, np.nan),
        confidence=None if confidence is None else spread(confidence, np.nan),
        flags=None if flags is None else {name: spread(values, False) for name, values in flags.items()},
        errors=errors,
        index=np.arange(len(errors)),
        model=model,
        version=version,
    )


def all_failed(errors: list[ImageRejected | None], model: str, version: str, dimension: int = 0) -> EmbeddingResult:
    """A result without one embedded image; `dimension` 0 where it is not known, which `joined` puts right."""
    none = np.zeros((0, dimension), np.float32)
    return filled(errors, model, version, none, none, np.zeros(0, np.float32))


def joined(results: Sequence[EmbeddingResult]) -> EmbeddingResult:
    """One result from several, in order; at least one.

    Raises:
        ModelChanged: they come from different models.
    """
    if len(results) == 1:
        return results[0]
    first = results[0]
    dimensions = {result.embedding.shape[1] for result in results} - {0}
    for result in results:
        if (result.model, result.version) != (first.model, first.version) or len(dimensions) > 1:
            raise ModelChanged(
                f"the server changed from model {first.model} version {first.version} to {result.model} version "
                f"{result.version} in the middle; embed everything again with one model"
            )
    dimension = max(dimensions, default=0)

    def vectors(name: str) -> Floats:
        parts = [getattr(result, name) for result in results]
        return np.concatenate(
            [part if part.shape[1] else np.full((len(part), dimension), np.nan, np.float32) for part in parts]
        )

    def optional(parts: list[npt.NDArray[Any] | None], blank: float | bool) -> npt.NDArray[Any] | None:
        kind = next((part.dtype for part in parts if part is not None), None)
        if kind is None:
            return None
        pairs = zip(parts, results, strict=True)
        return np.concatenate([np.full(len(result), blank, kind) if part is None else part for part, result in pairs])

    flags = {name: optional([None if r.flags is None else r.flags[name] for r in results], False) for name in FLAGS}
    return EmbeddingResult(
        embedding=vectors("embedding"),
        variance=vectors("variance"),
        uncertainty=np.concatenate([result.uncertainty for result in results]),
        percentile=optional([result.percentile for result in results], np.nan),
        confidence=optional([result.confidence for result in results], np.nan),
        flags={name: values for name, values in flags.items() if values is not None} or None,
        errors=[error for result in results for error in result.errors],
        index=np.concatenate([result.index for result in results]),
        model=first.model,
        version=first.version,
    )
