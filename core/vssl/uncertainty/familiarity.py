"""Familiarity: how near an image lies to reference images of the kind to come. Needs numpy alone.

A bundle keeps some embeddings of unlabelled images. An image is the more familiar, the more similar it is to the k of
them that are nearest to it, in the mean of their cosines (benchmarks/familiarity.py compares this with other signals).
Familiarity is then a share: of the reference images, each looked up among the others, so many are less familiar.
"""

from typing import TYPE_CHECKING

import numpy as np

from vssl.arrays import Float32s, Floats
from vssl.errors import BundleError
from vssl.search.nearest import normalised

if TYPE_CHECKING:  # a client that only reads results needs neither
    from vssl.bundle.calibration_record import Familiarity
    from vssl.bundle.reading import Bundle

FILE = "familiarity.f16"
"""The reference vectors [M, D] in a bundle: float16, little-endian, row by row."""

NEAREST = 10
"""Reference vectors that an image is compared with."""

LEAST, MOST, MOST_BYTES = 128, 1_000, 2**20
"""Reference vectors that a bundle keeps, and the size of their file."""

UNFAMILIAR = 0.01
"""Familiarity under which an image is flagged."""

SEED = 0


class References:
    """Reference vectors, and how familiar each of them is among the others.

    Args:
        vectors: embeddings [M, D] of reference images, M > k.
        k: neighbours of an image that count.
    """

    def __init__(self, vectors: Floats, k: int = NEAREST) -> None:
        self._vectors, self._k = normalised(vectors.astype(np.float32)), k
        similarity = self._vectors @ self._vectors.T
        np.fill_diagonal(similarity, -np.inf)
        self._known = np.sort(self._nearness(similarity))

    def familiarity(self, embedding: Floats) -> Float32s:
        """The share of the reference images that are less familiar than each of `embedding` [N, D], [N] in 0 … 1."""
        nearness = self._nearness(embedding @ self._vectors.T)
        return (np.searchsorted(self._known, nearness) / len(self._known)).astype(np.float32)

    def _nearness(self, similarity: Floats) -> Floats:
        """Mean of the k largest of each row of cosines [N, M], [N]."""
        nearness: Floats = np.partition(similarity, -self._k, axis=1)[:, -self._k :].mean(axis=1)
        return nearness


def references_of(bundle: "Bundle") -> References | None:
    """The references that a bundle keeps, or None.

    Raises:
        BundleError: the file does not hold what the manifest says.
    """
    calibration, dimension = bundle.manifest.calibration, bundle.manifest.outputs.dimension
    record = None if calibration is None else calibration.familiarity
    if record is None:
        return None
    numbers = np.frombuffer(bundle.read(record.file), "<f2")
    if numbers.size != record.images * dimension or record.images <= record.k or not np.isfinite(numbers).all():
        raise BundleError(
            f"{bundle.location}: {record.file} does not hold {record.images:,} vectors of {dimension} numbers to find "
            f"{record.k} neighbours among; calibrate or export the bundle again"
        )
    return References(numbers.reshape(record.images, dimension), record.k)


def kept_references(embedding: Floats) -> "tuple[Familiarity | None, dict[str, bytes]]":
    """The record and the file of references for a bundle: some of `embedding` [N, D], drawn at random.

    There are none where they would be too few: N is under 128, or D so large that 128 are over a megabyte.
    """
    from vssl.bundle.calibration_record import Familiarity

    count, dimension = embedding.shape
    kept = min(count, MOST, MOST_BYTES // (2 * dimension))
    if kept < LEAST:
        return None, {}
    rows = np.sort(np.random.default_rng(SEED).permutation(count)[:kept])
    return Familiarity(file=FILE, images=kept, k=NEAREST), {FILE: embedding[rows].astype("<f2").tobytes()}
