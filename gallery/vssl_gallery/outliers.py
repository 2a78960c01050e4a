"""The odd ones: rows that are far from everything else in their gallery."""

import numpy as np

from vssl.arrays import Float32s, Float64s
from vssl.search.nearest import nearest

NEIGHBOURS = 10


def distances(vectors: Float32s) -> Float64s:
    """1 − the mean cosine of each of [N, D] to its 10 nearest others, [N]; 0 where there are no others."""
    if len(vectors) < 2:
        return np.zeros(len(vectors))
    found = nearest(vectors, vectors, NEIGHBOURS, exclude_self=True)
    apart: Float64s = 1 - found.similarity.mean(axis=1, dtype=np.float64)
    return apart
