"""Novelty: how far an image is out of distribution, by the pattern of its variances. Needs numpy alone.

The overall uncertainty says little about that: an out-of-distribution picture may be as sharp as any. The dimensions
in which it is uncertain say much. Novelty is the Mahalanobis distance of log σ² to that of the reference images, in the
directions in which those vary most. After Lee et al. 2018 (arXiv 1807.03888), on variances instead of features.
"""

import numpy as np

from vssl.arrays import Float64s, Floats

DIRECTIONS = 8
"""Number of directions: few, because a bundle holds them all."""

MIN_VARIANCE = 1e-9
"""A direction of less variance is ignored: reference images differ there by rounding alone."""


def fit_directions(log_variance: Floats) -> Float64s:
    """Directions [K, D] of largest variance of log σ² [N, D], scaled so that the images have variance 1 along each.

    K is at most `DIRECTIONS`. A head that gives all dimensions the same variance has one direction. A dead head has
    none, and neither has a single image.
    """
    if len(log_variance) < 2:
        return np.empty((0, log_variance.shape[1]))
    variances, directions = np.linalg.eigh(np.atleast_2d(np.cov(log_variance.astype(np.float64), rowvar=False)))
    largest = [i for i in range(len(variances))[: -DIRECTIONS - 1 : -1] if variances[i] > MIN_VARIANCE]
    scaled: Float64s = directions[:, largest].T / np.sqrt(variances[largest])[:, None]
    return scaled


def novelty(log_variance: Floats, mean: Floats, directions: Floats) -> Float64s:
    """Squared distance of log σ² [N, D] to the reference's mean [D] along its directions [K, D], [N]."""
    distances: Float64s = (((log_variance - mean) @ directions.T) ** 2).sum(axis=1)
    return distances
