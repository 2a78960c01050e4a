"""Measures a model on reference images: the percentile table, thresholds, patterns and AUROCs that a bundle carries.

Needs numpy alone; with labels scikit-learn too.
"""

import hashlib
from collections.abc import Callable

import numpy as np

from vssl.arrays import Int64s, Pixels
from vssl.bundle.calibration_record import Acceptance, Calibration, Curve, Novelty, Reference
from vssl.engine import Embeddings
from vssl.images.degradations import CORRUPTIONS, degrade
from vssl.images.strengths import SEVERITIES
from vssl.measures.ranking import auroc, ranks
from vssl.measures.uncertainty import neighbour_is_wrong
from vssl.sources.in_memory import ImageSet
from vssl.uncertainty.familiarity import kept_references
from vssl.uncertainty.fitting import fit_confidence, fit_gallery, now
from vssl.uncertainty.novelty import fit_directions, novelty

Embed = Callable[[Pixels], Embeddings]

QUANTILE_LEVELS = np.concatenate([np.linspace(0, 1, 101), [0.001, 0.005, 0.995, 0.999]])
"""Of the quantile table: every per cent, and finer at the ends."""
MAX_DEGRADED = 500
"""Images that are degraded and embedded again, for each kind and severity."""
SEED = 0


def calibration_of(
    embed: Embed, images: ImageSet, labels: Int64s | None, max_degraded: int = MAX_DEGRADED
) -> tuple[Calibration, dict[str, bytes]]:
    """The calibration of a model on reference images, and the files that a bundle keeps with it.

    Args:
        embed: uint8 [N, S, S, 3] → what the model says of them.
        images: like those that the model will meet, and none that it was trained on.
        labels: their classes [N], if they are to be used.
        max_degraded: images that are degraded and embedded again, for each kind and severity.

    Raises:
        UsageError: the labels can't be calibrated on.
    """
    answer = embed(images.pixels)
    uncertainty, log_variance = answer.uncertainty.astype(np.float64), np.log(answer.variance.astype(np.float64))
    confidence = gallery = None
    if labels is not None:
        confidence = fit_confidence(uncertainty, neighbour_is_wrong(answer.embedding, labels))
        gallery = fit_gallery(answer.embedding, answer.uncertainty, labels, len(images.classes))
    levels = np.sort(QUANTILE_LEVELS)
    # Five digits are enough, and keep the manifest short.
    directions = np.vectorize(lambda x: float(f"{x:.5g}"), otypes=[np.float64])(fit_directions(log_variance))
    pattern = novelty(log_variance, log_variance.mean(axis=0), directions)
    # The level of both thresholds by which 1 % are over one of them.
    level = np.quantile(np.maximum(ranks(uncertainty), ranks(pattern)) - 1, 0.99) / (len(images) - 1)
    familiarity, files = kept_references(answer.embedding)
    calibration = Calibration(
        reference=Reference(
            images=len(images),
            sha256=hashlib.sha256(images.pixels.data).hexdigest(),
            classes=None if labels is None else len(images.classes),
        ),
        percentile=Curve(x=np.quantile(uncertainty, levels).tolist(), y=(100 * levels).tolist()),
        acceptance=Acceptance(
            degraded=float(np.quantile(uncertainty, 0.95)), ood=float(np.quantile(uncertainty, level))
        ),
        log_variance_mean=log_variance.mean(axis=0).tolist(),
        log_variance_std=np.maximum(log_variance.std(axis=0), 1e-6).tolist(),
        novelty=Novelty(directions=directions.tolist(), threshold=float(np.quantile(pattern, level)))
        if len(directions)
        else None,
        corruptions=corruptions(embed, images.pixels, answer, max_degraded),
        confidence=confidence,
        gallery=gallery,
        familiarity=familiarity,
        created=now(),
    )
    return calibration, files


def corruptions(
    embed: Embed, pixels: Pixels, clean: Embeddings, max_degraded: int = MAX_DEGRADED
) -> dict[str, list[float]]:
    """P(u(degraded) > u(clean)) over all pairs of some images, for each kind, at severities 1 to 5."""
    # Drawn at random: the images lie in the order of their classes, and classes differ in uncertainty.
    picked = np.random.default_rng(SEED).permutation(len(pixels))[:max_degraded]
    return {
        kind: [
            auroc(clean.uncertainty[picked], embed(degrade(pixels[picked], kind, severity, SEED)).uncertainty)
            for severity in SEVERITIES
        ]
        for kind in CORRUPTIONS
    }
