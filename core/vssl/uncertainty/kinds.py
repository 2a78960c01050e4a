"""Which kind of degradation a picture resembles, by how its log variances differ from those of ordinary images."""

from typing import TYPE_CHECKING

import numpy as np

from vssl.arrays import Float32s

if TYPE_CHECKING:
    from vssl.bundle.calibration_record import Calibration

LEAST_ACCURACY = 0.7
"""A kind that is recognised less often is never told."""


def resembled(calibration: "Calibration", variance: Float32s) -> list[tuple[str, float] | None]:
    """The kind whose shift is nearest, and how often that is right, for variances [N, D].

    None where the bundle knows no kinds, or the nearest is recognised too seldom to be told.
    """
    kinds = calibration.kinds
    if not kinds:
        return [None] * len(variance)
    names = list(kinds)
    shifts = np.array([kinds[name].shift for name in names])
    own = np.log(variance.astype(np.float64)) - np.array(calibration.log_variance_mean)
    nearest = (np.square(shifts).sum(axis=1) - 2 * own @ shifts.T).argmin(axis=1)
    found = [(names[place], kinds[names[place]].accuracy) for place in nearest]
    return [one if one[1] >= LEAST_ACCURACY else None for one in found]
