"""The curve that makes a head's predictions right on the average for images that it was not trained on.

A head knows its training images better than others, so it foretells too small an error for these. Images that were held
back say how much too small, for images of much and of little foretold error.
"""

import numpy as np
import torch

from vssl.arrays import Float64s, Floats
from vssl_training.encoder.heads import KNOTS, StatisticsHead

LEAST_ROWS = 50
"""Pictures that the mean error of a knot is taken of, at least."""

LEAST_ERROR = 1e-4


def curve_of(log_variance: Floats, error: Floats) -> tuple[Float64s, Float64s]:
    """Knots [KNOTS] of log mean_d σ², and what has to be added there, for ℓ [N, D] and the real errors [N].

    The pictures are ordered by what was foretold, and parted into groups of one size: a knot for each group.
    """
    foretold = np.exp(log_variance.astype(np.float64)).mean(1)
    groups = np.array_split(np.argsort(foretold, kind="stable"), max(1, min(KNOTS, len(foretold) // LEAST_ROWS)))
    knots = np.log([foretold[rows].mean() for rows in groups])
    real = np.log([max(LEAST_ERROR, float(error[rows].mean())) for rows in groups])
    values = np.maximum.accumulate(real) - knots
    missing = KNOTS - len(groups)
    return np.append(knots, [knots[-1]] * missing), np.append(values, [values[-1]] * missing)


def correct(head: StatisticsHead, log_variance: Floats, error: Floats) -> None:
    """Set a head's curve by what it answered, before it was corrected, and by what really happened."""
    knots, values = (torch.from_numpy(each).float() for each in curve_of(log_variance, error))
    head.correct(knots, values)
