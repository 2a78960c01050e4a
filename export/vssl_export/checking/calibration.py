"""`vssl calibrate`: a bundle measured on reference images, and written again with what was found."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vssl.arrays import Pixels
from vssl.bundle.calibration_record import Acceptance, Calibration, Curve, Novelty, Reference
from vssl.bundle.manifest import Manifest
from vssl.bundle.reading import open_bundle
from vssl.bundle.writing import replaceable, write_bundle
from vssl.engine import Embeddings, Engine
from vssl.errors import UsageError
from vssl.images.degradations import CORRUPTIONS, SEVERITIES, degrade
from vssl.measures.ranking import auroc, ranks
from vssl.measures.uncertainty import neighbour_is_wrong
from vssl.sources.in_memory import ImageSet, load_images, warn_of_missing
from vssl.sources.opening import open_source
from vssl.uncertainty.fitting import MIN_IMAGES, fit_confidence, fit_gallery, now
from vssl.uncertainty.novelty import fit_directions, novelty

QUANTILE_LEVELS = np.concatenate([np.linspace(0, 1, 101), [0.001, 0.005, 0.995, 0.999]])
"""Of the quantile table: every per cent, and finer at the ends."""
MAX_DEGRADED = 500
"""Images that are degraded and embedded again, for each kind and severity."""
SEED = 0


def calibrate(location: Path, data: str, use_labels: bool) -> Manifest:
    """Write the bundle at `location` again, whole or not at all, with its calibration on the images of `data`.

    Raises:
        UsageError: no bundle, no images or too few; no class folders although labels are to be used.
        BundleError: the bundle can't be trusted.
    """
    replaceable(location)
    bundle = open_bundle(location)
    source = open_source(data)
    images = load_images(source, bundle.manifest.preprocessing)
    warn_of_missing(source, images)
    if len(images) < MIN_IMAGES:
        raise UsageError(f"{data}: {len(images)} images are too few to calibrate on: at least {MIN_IMAGES}")
    if images.all_equal:
        raise UsageError(f"{data}: all of its images are the same picture; name images as different as those to come")
    labels = images.labels if use_labels else None
    if use_labels and labels is None:
        raise UsageError(f"{data}: no labels; --labels wants every image in one of at least two class folders")
    calibration = calibration_of(Engine(bundle), images, labels)
    fields = bundle.manifest.model_dump(mode="json", exclude={"id", "files"})
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    return write_bundle(location, fields | {"calibration": calibration.model_dump(mode="json")}, files)


def calibration_of(engine: Engine, images: ImageSet, labels: npt.NDArray[np.int64] | None) -> Calibration:
    """The calibration of an engine on reference images; `labels` [N] of theirs if they are to be used.

    Raises:
        UsageError: the labels can't be calibrated on.
    """
    answer = engine(images.pixels)
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
    return Calibration(
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
        corruptions=corruptions(engine, images.pixels, answer),
        confidence=confidence,
        gallery=gallery,
        created=now(),
    )


def corruptions(engine: Engine, pixels: Pixels, clean: Embeddings) -> dict[str, list[float]]:
    """P(u(degraded) > u(clean)) over all pairs of some images, for each kind, at severities 1 to 5."""
    # Drawn at random: the images lie in the order of their classes, and classes differ in uncertainty.
    picked = np.random.default_rng(SEED).permutation(len(pixels))[:MAX_DEGRADED]
    return {
        kind: [
            auroc(clean.uncertainty[picked], engine(degrade(pixels[picked], kind, severity, SEED)).uncertainty)
            for severity in SEVERITIES
        ]
        for kind in CORRUPTIONS
    }
