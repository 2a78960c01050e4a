"""Which kind of degradation a picture resembles, by how its log variances differ from those of ordinary images.

Linear discriminant analysis (Fisher 1936; Rao 1948): pictures of a kind scatter about its shift, all kinds alike. That
scatter is large in a few directions, those in which a stronger degradation differs from a weaker one. Distances count
in units of it.
"""

from typing import TYPE_CHECKING

import numpy as np

from vssl.arrays import Float32s, Float64s, Floats, Integers

if TYPE_CHECKING:
    from vssl.bundle.calibration_record import Calibration

LEAST_ACCURACY = 0.7
"""A kind whose guesses are right less often is never told."""

LEAST_CHANCE = 0.7
"""A guess that is less likely, by the picture's distances to all kinds, is not made."""

SHRINKAGE = 1e-3
"""Part of the mean variance that is added in every direction: a head's log variances are no more than its few hidden
units, so that most directions have next to none.
"""


def fit_kinds(own: Floats, kinds: Integers) -> tuple[Float64s, Float64s]:
    """Shifts [K, D] of kinds 0 … K − 1, each of which occurs, and their discriminants [at most K − 1, D].

    Args:
        own: log variances of degraded pictures [N, D], less the mean of ordinary ones.
        kinds: number of the kind of each [N].
    """
    own = own.astype(np.float64)
    shifts = np.stack([own[kinds == number].mean(axis=0) for number in range(int(kinds.max()) + 1)])
    rest = own - shifts[kinds]
    scatter = rest.T @ rest / len(rest)
    scatter += max(SHRINKAGE * scatter.trace() / len(scatter), 1e-12) * np.eye(len(scatter))
    variances, axes = np.linalg.eigh(scatter)
    scaled = axes / np.sqrt(variances)
    apart = (shifts - shifts.mean(axis=0)) @ scaled
    _, lengths, directions = np.linalg.svd(apart, full_matrices=False)
    return shifts, directions[lengths > 1e-6 * lengths[0]] @ scaled.T


def nearest_kind(own: Floats, shifts: Floats, discriminants: Floats | None) -> tuple[Integers, Float64s]:
    """The nearest kind of each picture [N], and its chance [N] if each kind is as likely as another.

    Args:
        own: log variances less the mean of ordinary images [N, D].
        shifts: of the kinds [K, D].
        discriminants: [at most K − 1, D]; None for distances in all dimensions alike.
    """
    if discriminants is not None:
        own, shifts = own @ discriminants.T, shifts @ discriminants.T
    logits = own @ shifts.T - np.square(shifts).sum(axis=1) / 2
    nearest = logits.argmax(axis=1)
    chances: Float64s = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    return nearest, chances


def resembled(calibration: "Calibration", variance: Float32s) -> list[tuple[str, float] | None]:
    """The kind that each picture resembles, and how often such a guess is right, for variances [N, D].

    None where the bundle knows no kinds, the guess is too unlikely, or those of its kind are right too seldom.
    """
    kinds = calibration.kinds
    if not kinds:
        return [None] * len(variance)
    names = list(kinds)
    shifts = np.array([kinds[name].shift for name in names])
    known = calibration.discriminants
    own = np.log(variance.astype(np.float64)) - np.array(calibration.log_variance_mean)
    nearest, chances = nearest_kind(own, shifts, None if known is None else np.array(known))
    if known is None:  # of bundles before there were discriminants: their accuracies are those of every guess
        chances = np.ones(len(own))
    found = [(names[place], kinds[names[place]].accuracy) for place in nearest]
    sure = chances >= LEAST_CHANCE
    return [one if yes and one[1] >= LEAST_ACCURACY else None for one, yes in zip(found, sure, strict=True)]
