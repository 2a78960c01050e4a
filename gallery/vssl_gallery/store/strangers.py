"""Queries to try an index with: as far from the rows as images are that the gallery does not hold."""

import numpy as np

from vssl.arrays import Float32s
from vssl.search.nearest import normalised

_MOVED = 0.7
"""Of a row's length. An index finds the neighbours of its own rows more easily than those of other images. With so much
noise it found about as many as of CIFAR-10's test images, where it finds .98 and more (docs/gallery-stores.md).
"""


def strangers(rows: Float32s) -> Float32s:
    """Rows of length 1, each moved in a random direction, the same in every call: [rows, dimension], of length 1."""
    noise = np.random.default_rng(0).standard_normal(rows.shape, np.float32)
    return normalised(rows + _MOVED * normalised(noise))
