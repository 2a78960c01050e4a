"""The manifest's `calibration`: what was measured on reference images. `vssl.uncertainty` fits and applies it."""

from functools import cached_property
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, StringConstraints, model_validator

from vssl.arrays import Float32s, Float64s
from vssl.bundle.record import Frozen, RelativePath, Sha256, Share, Word

Table = Annotated[list[float], Field(min_length=2)]


class Curve(Frozen):
    """A function of one number, linear between the knots `x` (ascending) and constant beyond them."""

    x: Table
    y: Table

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if len(self.x) != len(self.y) or sorted(self.x) != self.x:
            raise ValueError("a curve needs as many `y` as `x`, and `x` in ascending order")
        return self

    @cached_property
    def knots(self) -> tuple[Float64s, Float64s]:
        """`x` and `y` as arrays [K], converted once: every request needs them."""
        return np.array(self.x, np.float64), np.array(self.y, np.float64)


class Reference(Frozen):
    """The images that a calibration was fitted on: how many, the SHA-256 of their pixels, their `classes` if used."""

    images: int = Field(ge=2)
    sha256: Sha256
    classes: int | None = None


class Confidence(Frozen):
    """`uncertainty` → P(the nearest neighbour has the same label), by isotonic regression on labelled images.

    `auroc` and `ece` were measured on images that the curve was not fitted on.
    """

    curve: Curve
    auroc: Share
    ece: Share


class Quantile(Frozen):
    """Split conformal: a label is in the set if its score is under `score`; equal to it, with chance `tie`."""

    score: Share
    tie: Share


Level = Annotated[str, StringConstraints(pattern=r"^0\.[0-9]{1,6}$")]
"""A share as text, such as "0.05"."""


class GalleryCalibration(Frozen):
    """How likely a match in a labelled gallery is right: logistic on four numbers, then isotonic (docs/uncertainty.md).

    `weights` and `bias` make the logit of [uncertainty, similarity, margin, vote]; `p_correct`, `low` and `high` are
    curves over that logit, the latter two a 95 % interval. `conformal` maps α to its quantile. `risk` maps the
    part of errors among the accepted to the least `p_correct` to accept, null where no threshold keeps it. 1 % of the
    images are more uncertain than `uncertainty`; older calibrations do not know. `measured` holds figures from images
    that nothing here was fitted on.
    """

    images: int = Field(ge=1)
    classes: int = Field(ge=2)
    weights: tuple[float, float, float, float]
    bias: float
    p_correct: Curve
    low: Curve
    high: Curve
    conformal: dict[Level, Quantile]
    risk: dict[Level, Share | None]
    uncertainty: float | None = None
    measured: dict[str, float]
    created: str


class Acceptance(Frozen):
    """Uncertainties: 95 % of the reference images stay at or under `degraded`, 99 % at or under both `ood` and the
    threshold of the novelty.
    """

    degraded: float
    ood: float


class Novelty(Frozen):
    """The pattern of the reference images' log variances: `directions` [K, D] in which it varies, and the `threshold`
    (see `Acceptance`) of the distance along them (`vssl.uncertainty.novelty`).
    """

    directions: Annotated[list[list[float]], Field(min_length=1)]
    threshold: float


class Kind(Frozen):
    """A kind of degradation: by how much it moves the log variance of each dimension, `shift` [D], and `accuracy`: how
    often a picture that is told to be of this kind is, on images that it was not fitted on.
    """

    shift: list[float]
    accuracy: Share


class Familiarity(Frozen):
    """Embeddings of unlabelled reference images, float16 [images, D] in a `file` of the bundle, by which an image's
    mean similarity to its `k` nearest is judged.
    """

    file: RelativePath
    images: int = Field(ge=2)
    k: int = Field(ge=1)


class Calibration(Frozen):
    """The result of `vssl calibrate` on reference images; `vssl.uncertainty.calibrated` applies it.

    `percentile`: `uncertainty` → place among the reference images, 0 … 100. `log_variance_mean` and
    `log_variance_std` are per dimension [D]. `corruptions` has, for each kind, the AUROC of degraded against clean
    images at severities 1 to 5. `discriminants` [at most K − 1, D] are the directions in which distances to the shifts
    of `kinds` count, in units of the kinds' scatter (`vssl.uncertainty.kinds`).
    """

    definition: Literal["mean_log_variance"] = "mean_log_variance"
    definition_version: Literal[1] = 1
    reference: Reference
    percentile: Curve
    acceptance: Acceptance
    log_variance_mean: list[float]
    log_variance_std: list[Annotated[float, Field(gt=0)]]
    novelty: Novelty | None = None
    corruptions: dict[str, Annotated[list[Share], Field(min_length=5, max_length=5)]]
    confidence: Confidence | None = None
    gallery: GalleryCalibration | None = None
    kinds: dict[Word, Kind] | None = None
    discriminants: list[list[float]] | None = None
    familiarity: Familiarity | None = None
    created: str

    @cached_property
    def pattern(self) -> tuple[Float32s, Float32s]:
        """Mean [D] and directions [K, D] of the novelty as arrays, converted once: every request needs them."""
        assert self.novelty is not None
        return np.array(self.log_variance_mean, np.float32), np.array(self.novelty.directions, np.float32)
