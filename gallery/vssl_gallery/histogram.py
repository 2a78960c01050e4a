"""How the numbers of a column lie."""

import numpy as np
import numpy.typing as npt

from vssl.arrays import Floats

LEAST_SHARE = 1e-9
"""Of a value: numbers that differ by less are shown as equal, as bins of less could not be told apart."""


def histogram(values: Floats, bins: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Edges [bins + 1] from the least to the greatest of the finite values, evenly spaced, and the values in each bin.

    Unlike `numpy.histogram`, it has an answer for values that are nearly equal, and for those farther apart than the
    largest number. Around equal ones the edges reach half a unit to both sides, at least.
    """
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    middle, half = low / 2 + high / 2, high / 2 - low / 2
    if half <= LEAST_SHARE * abs(middle):
        half = max(0.5, LEAST_SHARE * abs(middle))
    with np.errstate(over="ignore"):
        edges = middle + half * np.linspace(-1, 1, bins + 1)
    most = np.finfo(np.float64).max
    edges = np.clip(edges, -most, most)
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    return edges, np.histogram(known, edges)[0]
