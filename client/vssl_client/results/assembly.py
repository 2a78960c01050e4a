"""Results put together: from arrays of the good images, around images that failed here, and from several batches."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vssl.arrays import Float32s
from vssl.uncertainty.calibrated import FLAGS
from vssl_client.errors import ImageRejected, ModelChanged
from vssl_client.results.result import EmbeddingResult, Flags

NOT_FINITE = "the model's answer for this image holds numbers that are not finite"


def filled(
    errors: Sequence[ImageRejected | None],
    model: str,
    version: str,
    embedding: Float32s,
    variance: Float32s,
    uncertainty: Float32s,
    percentile: Float32s | None = None,
    confidence: Float32s | None = None,
    flags: Flags | None = None,
    bundle_id: str | None = None,
) -> EmbeddingResult:
    """A result of N = `len(errors)` rows, from arrays that have rows only for the images without an error.

    A row that holds numbers that are not finite has an error in their place.
    """
    finite = np.isfinite(embedding).all(1) & np.isfinite(variance).all(1) & np.isfinite(uncertainty)
    if not finite.all():
        percentile, confidence = (None if values is None else values[finite] for values in (percentile, confidence))
        kept = None if flags is None else {name: values[finite] for name, values in flags.items()}
        broken = [None if fine else ImageRejected("not_finite", NOT_FINITE) for fine in finite]
        numbers = (embedding[finite], variance[finite], uncertainty[finite])
        return spread(filled(broken, model, version, *numbers, percentile, confidence, kept, bundle_id), errors)
    good = len(embedding)
    without = EmbeddingResult(
        embedding,
        variance,
        uncertainty,
        percentile,
        confidence,
        flags,
        errors=[None] * good,
        names=[None] * good,
        index=np.arange(good),
        model=model,
        version=version,
        bundle_id=bundle_id,
    )
    return spread(without, errors)


def all_failed(
    errors: Sequence[ImageRejected | None], model: str, version: str, dimension: int = 0, bundle_id: str | None = None
) -> EmbeddingResult:
    """A result without one embedded image; `dimension` 0 where an answer does not tell it."""
    none = np.zeros((0, dimension), np.float32)
    return filled(errors, model, version, none, none, np.zeros(0, np.float32), bundle_id=bundle_id)


def spread(result: EmbeddingResult, errors: Sequence[ImageRejected | None]) -> EmbeddingResult:
    """The rows of the images without an error of ours in their places among all N = `len(errors)`, in new arrays.

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
    )


def joined(results: Sequence[EmbeddingResult]) -> EmbeddingResult:
    """One result from several, in order; at least one.

    Raises:
        ModelChanged: they come from different models.
    """
    if len(results) == 1:
        return results[0]
    first, told = results[0], {result.bundle_id for result in results}
    _check_same(results)

    def optional(parts: list[npt.NDArray[Any] | None], blank: float | bool) -> npt.NDArray[Any] | None:
        kind = next((part.dtype for part in parts if part is not None), None)
        if kind is None:
            return None
        pairs = zip(parts, results, strict=True)
        return np.concatenate([np.full(len(result), blank, kind) if part is None else part for part, result in pairs])

    flags = {name: optional([None if r.flags is None else r.flags[name] for r in results], False) for name in FLAGS}
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
        bundle_id=first.bundle_id if len(told) == 1 else None,
    )


def _check_same(results: Sequence[EmbeddingResult]) -> None:
    """Refuse a mixture. An answer without a bundle's id may be of any bundle of its name, version and dimension."""
    first = results[0]
    known = first
    for result in results:
        if (result.model, result.version, result.embedding.shape[1]) != (
            first.model,
            first.version,
            first.embedding.shape[1],
        ) or (result.bundle_id and known.bundle_id and result.bundle_id != known.bundle_id):
            raise ModelChanged(
                f"the server changed from {_told(known)} to {_told(result)} in the middle; embed everything again with "
                "one model, on every server the same"
            )
        known = result if result.bundle_id else known


def _told(result: EmbeddingResult) -> str:
    return f"model {result.model} version {result.version} ({(result.bundle_id or 'no id told')[:12]})"
