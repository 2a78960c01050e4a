"""What a precision costs, measured on real images, and the limits that it is held to."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vssl.arrays import Float32s
from vssl.bundle.manifest import Change, Difference, Parity, Precision
from vssl.engine import Embeddings
from vssl.errors import VsslError
from vssl.measures.embeddings import knn_accuracy, knn_predict


@dataclass(frozen=True)
class Limits:
    """What a precision is held to.

    Attributes:
        largest: |Δ| from torch in float32, of embeddings (of unit length), log variances and uncertainties alike.
        cosine: least mean cosine to fp32's embeddings.
        drop: most that kNN accuracy or R@1 may lose against fp32.
    """

    largest: float
    cosine: float
    drop: float


CENTRED = 0.999
"""Mean cosine of centred embeddings under which a precision's users are told so."""

LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(1e-3, 0.999999, 0.0),
    "fp16": Limits(0.02, 0.9999, 0.005),
    "int8": Limits(0.5, 0.99, 0.02),
}


def compare(
    answer: Embeddings, expected: Embeddings, precision: Precision = "fp32", limit: float | None = None
) -> Parity:
    """Largest absolute differences between two answers for the same images.

    Raises:
        VsslError: one of them is over `limit`, by default the precision's.
    """

    def largest(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
        return float(np.abs(a - b).max())

    with np.errstate(divide="ignore", invalid="ignore"):  # a variance of 0 or below is over every limit
        differences = {
            "embedding": largest(answer.embedding, expected.embedding),
            "log_variance": largest(np.log(answer.variance), np.log(expected.variance)),
            "uncertainty": largest(answer.uncertainty, expected.uncertainty),
        }
    limit = limit or LIMITS[precision].largest
    for name, difference in differences.items():
        if not difference <= limit:  # this way round, so that nan is refused too
            raise VsslError(
                f"ONNX Runtime's {name} in {precision} differs from torch's by {difference:.2g} (limit {limit:g})"
            )
    return Parity(images=len(answer), limit=limit, **differences)


def difference(answer: Embeddings, fp32: Embeddings, labels: npt.NDArray[np.int64] | None = None) -> Difference:
    """What one answer differs in from float32's, for the same images; with labels, what that costs.

    Raises:
        VsslError: an answer holds what is no number.
    """
    for each in (answer, fp32):
        if not np.isfinite(each.embedding).all() or not np.isfinite(each.variance).all():
            raise VsslError("some embeddings or variances are not numbers")

    def change(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> Change:
        distance = np.abs(a - b)
        return Change(max=float(distance.max()), mean=float(distance.mean()))

    cosine, centre = cosines(answer.embedding, fp32.embedding), fp32.embedding.mean(axis=0)
    centred = cosines(answer.embedding - centre, fp32.embedding - centre) if len(answer) > 1 else None
    judged = {}
    if labels is not None:
        judged = {name: value - _judge(fp32, labels)[name] for name, value in _judge(answer, labels).items()}
    return Difference(
        images=len(answer),
        embedding=change(answer.embedding, fp32.embedding),
        variance=change(answer.variance, fp32.variance),
        cosine_min=float(cosine.min()),
        cosine_mean=float(cosine.mean()),
        centred_cosine=None if centred is None else float(centred.mean()),
        **judged,
    )


def cosines(a: Float32s, b: Float32s) -> Float32s:
    """Cosine [N] of each row of a matrix [N, D] to that of another; of a row that is 0: 1 if the other is too, or 0."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    equal: Float32s = (a == b).all(axis=1).astype(np.float32)
    np.divide((a * b).sum(axis=1), lengths, out=equal, where=lengths > 0)
    return equal


def worth_telling(precision: Precision, found: Difference) -> str | None:
    """What a user must know who takes a lower precision: that neighbours change, and by what measure. Else None."""
    if found.centred_cosine is None or found.centred_cosine >= CENTRED:
        return None
    return (
        f"{precision} changes neighbours: without what all images have in common, the mean cosine of its embeddings to "
        f"fp32's is {found.centred_cosine:.4f}, under {CENTRED}; don't mix the two, and judge it on labelled images"
    )


def over_limit(precision: Precision, found: Difference) -> str | None:
    """Which limit a difference from fp32 passes and by how much, or None.

    A lower accuracy is held against the precision where it is more than chance: by two standard errors of the number of
    answers that changed, which is at least the number lost.
    """
    limits = LIMITS[precision]
    if not found.cosine_mean >= limits.cosine:
        return f"the mean cosine of {precision} to fp32 is {found.cosine_mean:.5f}, under the limit of {limits.cosine}"
    for name, change in (("kNN accuracy", found.knn), ("R@1", found.recall_at_1)):
        if change is not None and -change - 2 * (abs(change) / found.images) ** 0.5 > limits.drop:
            return f"{name} in {precision} is {-change:.4f} lower than in fp32, over the limit of {limits.drop}"
    return None


def _judge(answer: Embeddings, labels: npt.NDArray[np.int64]) -> dict[str, float]:
    vectors = answer.embedding
    nearest = knn_predict(vectors, vectors, labels, k=1, exclude_self=True)
    return {
        "knn": knn_accuracy(vectors, labels, vectors, labels, exclude_self=True),
        "recall_at_1": float((nearest == labels).mean()),
    }
