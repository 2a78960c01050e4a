"""Results put together: from a model's numbers, around images that failed here, and from several batches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vssl.arrays import Float32s, Mask
from vssl.uncertainty.calibrated import FLAGS
from vssl_client.errors import ImageRejected, ModelChanged
from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult, Flags

NOT_FINITE = "the model's answer for this image holds numbers that are not finite"


@dataclass(frozen=True)
class Provenance:
    """The name and version of the model that answered, and the id of its bundle, None where an answer lacks it."""

    model: str
    version: str
    bundle_id: str | None = None


@dataclass(frozen=True)
class Numbers:
    """What a model gives for M images.

    Attributes:
        embedding: float32 [M, D].
        variance: float32 [M, D].
        uncertainty: float32 [M].
        percentile: float32 [M], or None.
        confidence: float32 [M], or None.
        flags: bool [M] each, or None.
        familiarity: float32 [M], or None.
    """

    embedding: Float32s
    variance: Float32s
    uncertainty: Float32s
    percentile: Float32s | None = None
    confidence: Float32s | None = None
    flags: Flags | None = None
    familiarity: Float32s | None = None

    def __getitem__(self, rows: Mask) -> "Numbers":
        def some(values: Float32s | None) -> Float32s | None:
            return None if values is None else values[rows]

        return Numbers(
            self.embedding[rows],
            self.variance[rows],
            self.uncertainty[rows],
            some(self.percentile),
            some(self.confidence),
            None if self.flags is None else {name: of[rows] for name, of in self.flags.items()},
            some(self.familiarity),
        )


def filled(errors: Sequence[ImageRejected | None], by: Provenance, numbers: Numbers) -> EmbeddingResult:
    """A result of N = `len(errors)` rows; `numbers` has M rows, one for each image without an error.

    A row with numbers that are not finite gets an error in their place.
    """
    finite = (
        np.isfinite(numbers.embedding).all(1) & np.isfinite(numbers.variance).all(1) & np.isfinite(numbers.uncertainty)
    )
    if not finite.all():
        broken = [None if fine else ImageRejected("not_finite", NOT_FINITE) for fine in finite]
        return spread(filled(broken, by, numbers[finite]), errors)
    count = len(numbers.embedding)
    without_errors = EmbeddingResult(
        numbers.embedding,
        numbers.variance,
        numbers.uncertainty,
        numbers.percentile,
        numbers.confidence,
        numbers.flags,
        errors=[None] * count,
        names=[None] * count,
        index=np.arange(count),
        model=by.model,
        version=by.version,
        bundle_id=by.bundle_id,
        familiarity=numbers.familiarity,
    )
    return spread(without_errors, errors)


def all_failed(errors: Sequence[ImageRejected | None], by: Provenance, dimension: int = 0) -> EmbeddingResult:
    """A result without one embedded image; `dimension` is 0 where an answer lacks it."""
    none = np.zeros((0, dimension), np.float32)
    return filled(errors, by, Numbers(none, none, np.zeros(0, np.float32)))


def all_failed_by(errors: Sequence[ImageRejected | None], model: ModelInfo) -> EmbeddingResult:
    """The same for a model that is known."""
    return all_failed(errors, Provenance(model.name, model.version, model.id), model.dimension)


def spread(result: EmbeddingResult, errors: Sequence[ImageRejected | None]) -> EmbeddingResult:
    """N = `len(errors)` rows, in new arrays: those of `result` where `errors` has none, in order, the others NaN.

    A row that failed in `result` keeps its error.
    """
    good = np.array([error is None for error in errors], np.bool_)

    def placed(values: npt.NDArray[Any], blank: float | bool) -> npt.NDArray[Any]:
        rows = np.full((len(good), *values.shape[1:]), blank, values.dtype)
        rows[good] = values
        return rows

    theirs = iter(result.errors)
    return replace(
        result,
        embedding=placed(result.embedding, np.nan),
        variance=placed(result.variance, np.nan),
        uncertainty=placed(result.uncertainty, np.nan),
        percentile=None if result.percentile is None else placed(result.percentile, np.nan),
        confidence=None if result.confidence is None else placed(result.confidence, np.nan),
        flags=None if result.flags is None else {name: placed(of, False) for name, of in result.flags.items()},
        errors=[next(theirs) if ours is None else ours for ours in errors],
        names=[None] * len(good),
        index=np.arange(len(good)),
        familiarity=None if result.familiarity is None else placed(result.familiarity, np.nan),
    )


def joined(results: Sequence[EmbeddingResult]) -> EmbeddingResult:
    """One result from several, in order; at least one.

    Raises:
        ModelChanged: they come from different models.
    """
    if len(results) == 1:
        return results[0]
    first, bundle_ids = results[0], {result.bundle_id for result in results}
    _check_same(results)

    def optional(parts: list[npt.NDArray[Any] | None], blank: float | bool) -> npt.NDArray[Any] | None:
        kind = next((part.dtype for part in parts if part is not None), None)
        if kind is None:
            return None
        pairs = zip(parts, results, strict=True)
        return np.concatenate([np.full(len(result), blank, kind) if part is None else part for part, result in pairs])

    flags = {name: optional([(r.flags or {}).get(name) for r in results], False) for name in FLAGS}
    return EmbeddingResult(
        embedding=np.concatenate([result.embedding for result in results]),
        variance=np.concatenate([result.variance for result in results]),
        uncertainty=np.concatenate([result.uncertainty for result in results]),
        percentile=optional([result.percentile for result in results], np.nan),
        confidence=optional([result.confidence for result in results], np.nan),
        flags={name: values for name, values in flags.items() if values is not None} or None,
        errors=[error for result in results for error in result.errors],
        names=[name for result in results for name in result.names],
        index=np.concatenate([result.index for result in results]),
        model=first.model,
        version=first.version,
        bundle_id=first.bundle_id if len(bundle_ids) == 1 else None,
        familiarity=optional([result.familiarity for result in results], np.nan),
    )


def replaced(result: EmbeddingResult, rows: Sequence[int], by: EmbeddingResult) -> EmbeddingResult:
    """`result` with the rows of `by` at `rows`.

    Raises:
        ModelChanged: they come from different models.
    """
    order = np.arange(len(result))
    order[rows] = len(result) + np.arange(len(by))
    return replace(joined([result, by])[order], index=result.index)


def _check_same(results: Sequence[EmbeddingResult]) -> None:
    """Refuse a mixture. An answer without a bundle's id may come from any bundle of its name, version and dimension."""
    first = results[0]
    known = first
    for result in results:
        if (result.model, result.version, result.embedding.shape[1]) != (
            first.model,
            first.version,
            first.embedding.shape[1],
        ) or (result.bundle_id and known.bundle_id and result.bundle_id != known.bundle_id):
            raise ModelChanged(
                f"the server changed from {_model_of(known)} to {_model_of(result)} in the middle; embed everything "
                "again with one model, on every server the same"
            )
        known = result if result.bundle_id else known


def _model_of(result: EmbeddingResult) -> str:
    return f"model {result.model} version {result.version} ({(result.bundle_id or 'no id')[:12]})"
