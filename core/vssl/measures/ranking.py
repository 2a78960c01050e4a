"""How well a number ranks: ranks, and the area under the ROC curve."""

import numpy as np

from vssl.arrays import Float64s, Floats


def ranks(values: Floats) -> Float64s:
    """1 for the smallest of [N] to N for the largest; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: Float64s = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return shared


def auroc(negatives: Floats, positives: Floats) -> float:
    """P(positive > negative) over all pairs, ties counting half (Mann & Whitney)."""
    positive_ranks = ranks(np.concatenate([negatives, positives]))[len(negatives) :].sum()
    return float((positive_ranks - len(positives) * (len(positives) + 1) / 2) / (len(positives) * len(negatives)))
