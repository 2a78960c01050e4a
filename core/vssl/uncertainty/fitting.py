"""Fits calibrations on labelled images. Fitting needs scikit-learn; applying the result does not.

The images are split at random. Every reported figure comes from images that nothing was fitted on.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from vssl.arrays import Float64s, Floats, Integers, Mask
from vssl.bundle.calibration_record import Confidence, Curve, GalleryCalibration, Quantile
from vssl.errors import UsageError
from vssl.measures.uncertainty import calibration_error, error_cut, r_auroc
from vssl.search.nearest import NeighbourSearch
from vssl.uncertainty.calibrated import interpolate
from vssl.uncertainty.conformal import coverage_and_size, prediction_sets, quantile
from vssl.uncertainty.matches import Matches, matches_of

ALPHAS = (0.05, 0.1, 0.2)
RISKS = (0.01, 0.02, 0.05, 0.1, 0.2)
MIN_IMAGES, MAX_IMAGES = 100, 20_000
FOLDS = 5
"""Of the images, for probabilities of images that the logistic regression has not seen."""
SEED = 0
NORMAL_95 = 1.96
"""Standard deviations of a normal distribution that hold 95 % of it."""


def fit_confidence(uncertainty: Floats, wrong: Mask) -> Confidence:
    """`uncertainty` [N] → P(the nearest neighbour is right), by isotonic regression on half of the images.

    Raises:
        UsageError: too few images, or (nearly) all neighbours are right, or all wrong.
    """
    fitted, judged = _parts(wrong, (0.5, 0.5))
    curve, _, _ = _isotonic(-uncertainty[fitted], ~wrong[fitted])
    curve = Curve(x=[-x for x in reversed(curve.x)], y=list(reversed(curve.y)))
    probability = interpolate(curve, uncertainty[judged])
    return Confidence(
        curve=curve,
        auroc=r_auroc(uncertainty[judged], wrong[judged]),
        ece=calibration_error(probability, ~wrong[judged]),
    )


def fit_gallery(embeddings: Floats, uncertainty: Floats, labels: Integers, classes: int) -> GalleryCalibration:
    """Calibrate matches on a labelled gallery [N, D] itself: each image is a query to all the others.

    In a gallery of more than 20,000 images, 20,000 drawn at random are queries.

    Raises:
        UsageError: too few images, or (nearly) all neighbours are right, or all wrong.
    """
    rows = calibration_rows(len(embeddings))
    search = NeighbourSearch(embeddings[rows], own=rows)
    search.add(embeddings)
    return fit_matches(matches_of(search.found(), uncertainty[rows], labels, classes), labels[rows], classes)


def calibration_rows(count: int) -> Integers:
    """Rows of the queries that calibrate a gallery of `count` images: all, or 20,000 at random, always the same.

    Raises:
        UsageError: too few images.
    """
    if count < MIN_IMAGES:
        raise UsageError(f"{count} labelled images are too few to calibrate on: at least {MIN_IMAGES}")
    if count <= MAX_IMAGES:
        return np.arange(count)
    return np.sort(np.random.default_rng(SEED).choice(count, MAX_IMAGES, replace=False))


def fit_matches(matches: Matches, labels: Integers, classes: int) -> GalleryCalibration:
    """Calibrate matches of images with known labels [N] in a gallery of other images with these labels.

    Three quarters of the images fit, the conformal quantiles by their votes. The isotonic regression and the thresholds
    are fitted on what five logistic regressions say, each of the fifth that it has not seen; the one that is kept has
    seen all of these images. The last quarter gives the figures.

    Raises:
        UsageError: (nearly) all neighbours are right, or all wrong.
    """
    right = matches.label == labels
    fitted, judged = _parts(~right, (0.75, 0.25))
    weights, bias, unseen = _logistic(matches.evidence[fitted], right[fitted])
    curve, low, high = _isotonic(unseen, right[fitted])
    p_correct = interpolate(curve, matches.evidence @ weights + bias)
    scores = 1 - matches.votes[np.arange(len(labels)), labels]
    quantiles = {f"{alpha:g}": quantile(scores[fitted], alpha) for alpha in ALPHAS}
    measured = _measured(matches, labels, p_correct, judged, quantiles["0.1"])
    told = interpolate(curve, unseen)
    return GalleryCalibration(
        images=len(labels),
        classes=classes,
        weights=tuple(map(float, weights)),
        bias=bias,
        p_correct=curve,
        low=low,
        high=high,
        conformal={alpha: Quantile(score=score, tie=tie) for alpha, (score, tie) in quantiles.items()},
        risk={f"{risk:g}": threshold(told, right[fitted], risk) for risk in RISKS},
        uncertainty=exceeded_by_few(matches.evidence[:, 0]),
        measured=measured,
        created=now(),
    )


def exceeded_by_few(values: Floats) -> float:
    """What one more value like these [N] exceeds with a chance of at most 1 %, or 1 / (N + 1) where that is more."""
    count = len(values)
    return float(np.sort(values)[min(count, math.ceil((count + 1) * 0.99)) - 1])


def threshold(p_correct: Floats, right: Mask, risk: float) -> float | None:
    """The least p_correct to accept if at most a part `risk` of the accepted may be wrong; None: accept nothing.

    One error is added to those counted, as in conformal risk control (Angelopoulos et al. 2022, arXiv 2208.02814).
    """
    order = np.argsort(-p_correct, kind="stable")
    bounds = (np.cumsum(~right[order]) + 1) / np.arange(2, len(order) + 2)
    # Accept equal probabilities together or not at all.
    last = np.append(np.diff(p_correct[order]) != 0, True)
    good = np.flatnonzero((bounds <= risk) & last)
    return float(p_correct[order][good[-1]]) if len(good) else None


def now() -> str:
    """The time, in the format of `created`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _measured(
    matches: Matches, labels: Integers, p_correct: Float64s, rows: Integers, quantile: tuple[float, float]
) -> dict[str, float]:
    right = (matches.label == labels)[rows]
    tie_break = np.random.default_rng(SEED).random(len(rows))
    coverage, size = coverage_and_size(prediction_sets(matches.votes[rows], *quantile, tie_break), labels[rows])
    return {
        "images": len(rows),
        "correct": float(right.mean()),
        "auroc": r_auroc(-p_correct[rows], ~right),
        "ece": calibration_error(p_correct[rows], right),
        "error_cut_at_80": error_cut(-p_correct[rows], ~right),
        "coverage_at_0.1": coverage,
        "set_size_at_0.1": size,
    }


def _logistic(evidence: Floats, right: Mask) -> tuple[Float64s, float, Float64s]:
    """Weights [F] and bias of a logistic regression on evidence [N, F]; and the logits [N] of others like it, each
    fitted without the fifth that it is asked about (cross-fitting, as Platt 1999 calibrates).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression())
    folds = min(FOLDS, int(right.sum()), int((~right).sum()))
    unseen = cross_val_predict(model, evidence, right, cv=folds, method="decision_function")
    scaler, logistic = (step for _, step in model.fit(evidence, right).steps)
    weights = logistic.coef_[0] / scaler.scale_
    return weights, float(logistic.intercept_[0] - scaler.mean_ @ weights), unseen


def _parts(wrong: Mask, shares: Sequence[float]) -> list[Integers]:
    """Rows of random parts of the images. Each part holds right and wrong ones, the first part two of each.

    Raises:
        UsageError: one of them lacks either.
    """
    order = np.random.default_rng(SEED).permutation(len(wrong))
    ends = np.rint(np.cumsum(shares)[:-1] * len(wrong)).astype(int)
    parts: list[Integers] = list(np.split(order, ends))
    for number, rows in enumerate(parts):
        count = int(wrong[rows].sum())
        if min(count, len(rows) - count) < (2 if number == 0 else 1):
            raise UsageError(
                f"of {len(wrong)} labelled images {int(wrong.sum())} have a nearest neighbour with another label: "
                "too few of one kind to calibrate on; use more images, or harder ones"
            )
    return parts


def _isotonic(scores: Floats, right: Mask) -> tuple[Curve, Curve, Curve]:
    """A rising curve of P(right) over scores [N], and the ends of Wilson's 95 % interval of each of its steps."""
    from sklearn.isotonic import IsotonicRegression

    count = len(scores)
    # Never quite 0 or 1: the rule of succession for all N images.
    model = IsotonicRegression(y_min=1 / (count + 2), y_max=1 - 1 / (count + 2), out_of_bounds="clip")
    fitted = model.fit_transform(scores, right.astype(np.float64))
    values, counts = np.unique(fitted, return_counts=True)
    centre = values + NORMAL_95**2 / (2 * counts)
    half = NORMAL_95 * np.sqrt(values * (1 - values) / counts + (NORMAL_95 / counts / 2) ** 2)
    scale = 1 + NORMAL_95**2 / counts
    x = model.X_thresholds_.tolist()
    steps = np.searchsorted(values, model.y_thresholds_ - 1e-12)
    low = np.maximum.accumulate((centre - half) / scale)
    high = np.minimum.accumulate(((centre + half) / scale)[::-1])[::-1]
    return (
        Curve(x=x, y=model.y_thresholds_.tolist()),
        Curve(x=x, y=low[steps].tolist()),
        Curve(x=x, y=high[steps].tolist()),
    )
