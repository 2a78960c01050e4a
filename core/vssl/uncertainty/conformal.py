"""Split conformal prediction on neighbour votes: sets of labels that hold the right label as often as promised.

Vovk et al. 2005; Angelopoulos & Bates 2021 (arXiv 2107.07511). The score of a label is 1 − its share of the vote.
Shares are discrete (no neighbour has the label, or all have), so ties are drawn at random: otherwise the sets cover
too much.
"""

import math

import numpy as np

from vssl.arrays import Floats, Integers, Mask

_SAME = 1e-9
"""Shares that differ by less are ties, summed in another order."""


def quantile(scores: Floats, alpha: float) -> tuple[float, float]:
    """The score up to which labels are taken, and the chance to take a label of exactly that score.

    Args:
        scores: of the right labels of n images, [n]. Images to come must be exchangeable with them.
        alpha: how often the right label may be missing.
    """
    # The new image's p-value is (#{greater} + U (1 + #{equal})) / (n + 1) with U uniform: uniform itself, exactly.
    ordered = np.sort(scores)
    place = (1 - alpha) * (len(ordered) + 1)
    if place > len(ordered):
        return 1.0, 1.0  # too few images for this α: every label is in
    score = float(ordered[max(0, math.ceil(place) - 1)])
    under = int((ordered < score - _SAME).sum())
    equal = int((np.abs(ordered - score) <= _SAME).sum())
    return score, min(1.0, max(0.0, (place - under) / (equal + 1)))


def prediction_sets(votes: Floats, score: float, tie: float, tie_break: Floats) -> Mask:
    """Which labels are in each image's set [Q, C], for shares of the vote [Q, C] and a uniform number an image [Q]."""
    scores = 1 - votes
    equal = np.abs(scores - score) <= _SAME
    inside: Mask = (scores < score - _SAME) | (equal & (tie_break[:, None] < tie))
    return inside


def coverage_and_size(sets: Mask, labels: Integers) -> tuple[float, float]:
    """Part of the sets [Q, C] that hold the image's label [Q], and their mean size."""
    return float(sets[np.arange(len(labels)), labels].mean()), float(sets.sum(axis=1).mean())


def coverage_interval(calibrated: int, judged: int, alpha: float, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of measured coverage if all is right: quantiles of the beta-binomial distribution.

    Args:
        calibrated: images n that the quantile comes from.
        judged: images that the coverage was measured on.
        alpha: as in `quantile`.
        confidence: of the interval.
    """
    wrong = alpha * (calibrated + 1)
    right = calibrated + 1 - wrong
    counts = np.arange(judged + 1)
    log_gamma = np.vectorize(math.lgamma, otypes=[np.float64])
    log_choose = math.lgamma(judged + 1) - log_gamma(counts + 1) - log_gamma(judged - counts + 1)
    log_beta = log_gamma(counts + right) + log_gamma(judged - counts + wrong) - math.lgamma(judged + calibrated + 1)
    constant = math.lgamma(calibrated + 1) - math.lgamma(right) - math.lgamma(wrong)
    cumulative = np.cumsum(np.exp(log_choose + log_beta + constant))
    tail = (1 - confidence) / 2
    low, high = np.searchsorted(cumulative, [tail, 1 - tail])
    return float(low / judged), float(min(high, judged) / judged)
