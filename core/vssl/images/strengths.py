"""How strong a degradation is: parameters that grow with a strength of 0 … 1."""

import numpy as np

SEVERITIES = (1, 2, 3, 4, 5)
"""Figures are told by these; they are the strengths .2 to 1."""

KNOTS = np.arange(len(SEVERITIES) + 1) / len(SEVERITIES)
"""Strengths at which a degradation names its parameter: 0, then those of the severities."""


def at(strength: float, *values: float) -> float:
    """A parameter that has these values at `KNOTS`, and is linear between them."""
    return float(np.interp(strength, KNOTS, values))
