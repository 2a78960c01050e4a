"""Familiarity: how near an image lies to reference images of the kind to come. Needs numpy alone.

A bundle keeps some embeddings of unlabelled images. An image is the more familiar, the more similar it is to the k of
them that are nearest to it, in the mean of their cosines (benchmarks/familiarity.py compares this with other signals).
Familiarity is then a share: of the reference images, each looked up among the others, so many are less familiar.
"""

from typing import TYPE_CHECKING

import numpy as np

from vssl.arrays import Float32s, Float64s, Floats, Integers
from vssl.errors import BundleError
from vssl.search.nearest import normalised

if TYPE_CHECKING:  # a client that only reads results needs no bundle
    from vssl.bundle.reading import Bundle

NEAREST = 10
"""Reference vectors that an image is compared with."""

LEAST, MOST, MOST_BYTES = 128, 1_000, 2**20
"""Reference vectors that a bundle keeps, and the size of their file."""

UNFAMILIAR = 0.01
"""Familiarity under which an image is flagged."""

SEED = 0


class Familiarity:
    """Reference vectors, and how familiar each of them is among the others.

    Args:
        references: embeddings [M, D] of reference images, M > k.
        k: neighbours of an image that count.
    """

    def __init__(self, references: Floats, k: int = NEAREST) -> None:
        self._references, self._k = normalised(references.astype(np.float32)), k
        similarity = self._references @ self._references.T
        np.fill_diagonal(similarity, -np.inf)
        self._known = np.sort(self._nearness(similarity))

    def __call__(self, embedding: Floats) -> Float32s:
        """The share of the reference images that are less familiar than each of `embedding` [N, D], [N] in 0 … 1."""
        nearness = self._nearness(embedding @ self._references.T)
        return (np.searchsorted(self._known, nearness) / len(self._known)).astype(np.float32)

    def _nearness(self, similarity: Floats) -> Floats:
        """Mean of the k largest of each row of cosines [N, M], [N]."""
        largest: Float64s = np.partition(similarity, -self._k, axis=1)[:, -self._k :]
        return largest.mean(axis=1)


def reference_rows(count: int, dimension: int) -> Integers:
    """Which of `count` images are kept as references of `dimension` numbers: random ones, or none where the limits of
    this module leave too few.
    """
    kept = min(count, MOST, MOST_BYTES // (2 * dimension))
    return np.sort(np.random.default_rng(SEED).permutation(count)[:kept]) if kept >= LEAST else np.arange(0)


def packed(references: Floats) -> bytes:
    """Reference vectors [M, D] as a bundle keeps them: float16, little-endian, row by row."""
    return references.astype("<f2").tobytes()


def familiarity_of(bundle: "Bundle") -> Familiarity | None:
    """What a bundle compares images with; None where it has no references.

    Raises:
        BundleError: the file does not hold what the manifest says.
    """
    calibration = bundle.manifest.calibration
    record = None if calibration is None else calibration.familiarity
    if record is None:
        return None
    numbers = np.frombuffer(bundle.read(record.file), "<f2")
    if numbers.size != record.images * bundle.manifest.outputs.dimension or not np.isfinite(numbers).all():
        raise BundleError(
            f"{bundle.location}: {record.file} does not hold {record.images} vectors of "
            f"{bundle.manifest.outputs.dimension} numbers; calibrate or export the bundle again"
        )
    return Familiarity(numbers.reshape(record.images, -1), record.k)
