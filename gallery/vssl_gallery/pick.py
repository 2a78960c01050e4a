"""What to label next: rows that are far from all that is labelled, the uncertain ones first.

The greedy k-centre rule (Gonzalez 1985; as a choice of what to label: Sener & Savarese 2018, arXiv 1708.00489), with
each distance weighted by the row's place in the order of uncertainty.
"""

import numpy as np

from vssl.arrays import Float32s, Floats, Int64s, Mask


def pick(vectors: Float32s, uncertainty: Floats, labelled: Mask, count: int, seed: int = 0) -> Int64s:
    """The rows to label next, at most `count`, the most useful first.

    Args:
        vectors: [N, D], of unit length.
        uncertainty: [N]; NaN counts as the middle.
        labelled: which are labelled already, [N]: these are centres, and never picked.
        count: of rows.
        seed: of the first pick where nothing is labelled, and of ties.
    """
    known = np.nan_to_num(uncertainty, nan=float(np.nanmedian(uncertainty)) if np.isfinite(uncertainty).any() else 0.0)
    # From a half to one: an image that is only uncertain, and has labelled ones around it, is no better than a far one.
    weight = 0.5 + 0.5 * np.argsort(np.argsort(known, kind="stable")) / max(len(known) - 1, 1)
    apart = np.full(len(vectors), 2.0)
    centres = np.flatnonzero(labelled)
    for start in range(0, len(centres), 1024):
        apart = np.minimum(apart, 1 - (vectors @ vectors[centres[start : start + 1024]].T).max(axis=1))
    order = np.random.default_rng(seed).permutation(len(vectors))
    free = ~labelled
    picked: list[int] = []
    while len(picked) < count and free.any():
        gain = np.where(free, weight * np.maximum(apart, 0) + np.where(free, 1e-12, 0), -1)
        row = int(order[np.argmax(gain[order])])
        picked.append(row)
        free[row] = False
        apart = np.minimum(apart, 1 - vectors @ vectors[row])
    return np.array(picked, np.int64)
