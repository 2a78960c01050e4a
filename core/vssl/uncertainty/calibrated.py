"""Applies a bundle's calibration: a model's numbers → words that a user can act on. Needs numpy alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vssl.arrays import Float32s, Float64s, Floats, Mask
from vssl.uncertainty.familiarity import UNFAMILIAR, References
from vssl.uncertainty.novelty import novelty

if TYPE_CHECKING:  # a client that only reads results needs neither
    from vssl.bundle.calibration_record import Calibration, Curve
    from vssl.engine import Embeddings

NUMBERS = ("percentile", "confidence", "familiarity")
FLAGS = ("degraded", "ood", "unfamiliar")


@dataclass(frozen=True)
class CalibratedUncertainty:
    """The calibrated uncertainty of N images, each by itself.

    Attributes:
        percentile: float32 [N], the per cent of the reference images that are at most as uncertain.
        flags: bool [N] each; `degraded`: more uncertain than 95 % of the reference images; `ood`: as uncertain
            as the top 1 % of them, or in as odd a pattern (bundles of an earlier version lack the pattern);
            `unfamiliar`: its familiarity is under .01, false where that is None.
        confidence: float32 [N], estimated probability that the nearest neighbour has the same label; None where the
            calibration had no labels.
        familiarity: float32 [N] in 0 … 1, the share of the reference images that are less familiar; None where the
            bundle keeps no reference vectors.
    """

    percentile: Float32s
    flags: dict[str, Mask]
    confidence: Float32s | None
    familiarity: Float32s | None = None


def apply_calibration(
    calibration: "Calibration", answer: "Embeddings", references: References | None = None
) -> CalibratedUncertainty:
    """Apply a bundle's calibration to its model's outputs; `references` are those of `references_of(bundle)`."""
    confidence = calibration.confidence
    familiarity = None if references is None else references.familiarity(answer.embedding)
    return CalibratedUncertainty(
        percentile=interpolate(calibration.percentile, answer.uncertainty).astype(np.float32),
        flags={
            "degraded": answer.uncertainty > calibration.acceptance.degraded,
            "ood": _out_of_distribution(calibration, answer),
            "unfamiliar": np.zeros(len(answer), np.bool_) if familiarity is None else familiarity < UNFAMILIAR,
        },
        confidence=None if confidence is None else interpolate(confidence.curve, answer.uncertainty).astype(np.float32),
        familiarity=familiarity,
    )


def _out_of_distribution(calibration: "Calibration", answer: "Embeddings") -> Mask:
    found = answer.uncertainty > calibration.acceptance.ood
    pattern = calibration.novelty
    if pattern is None:
        return found
    return found | (novelty(np.log(answer.variance), *calibration.pattern) > pattern.threshold)


def interpolate(curve: "Curve", values: Floats) -> Float64s:
    """The curve at values [N]."""
    found: Float64s = np.interp(values, *curve.knots)
    return found
