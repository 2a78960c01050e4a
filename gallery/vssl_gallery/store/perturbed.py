"""Queries to try an index with: about as hard as images that the gallery does not hold."""

import numpy as np

from vssl.arrays import Float32s
from vssl.search.nearest import normalised

_NOISE = 0.7
"""Of a row's length. An index finds the neighbours of its own rows more easily than those of other images. With so much
noise it found about as many as of CIFAR-10's test images, where it finds .98 and more
(`benchmarks/gallery_queries.py`).
"""

ENOUGH = 0.995
"""The share of the true nearest rows that an index should find for such queries, so that it finds .99 for new images.
Of a hundred queries the share is off by .005 or so: with .99 for these, one index in PostgreSQL was searched so
narrowly that it found .95 for new images.
"""


def perturbed(rows: Float32s, noise: float = _NOISE) -> Float32s:
    """Rows with noise in a random direction, the same in every call.

    Args:
        rows: [N, D], of length 1.
        noise: its length.

    Returns:
        [N, D], of length 1.
    """
    directions = normalised(np.random.default_rng(0).standard_normal(rows.shape, np.float32))
    return normalised(rows + noise * directions)
