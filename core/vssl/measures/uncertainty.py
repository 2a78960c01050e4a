"""Measures of an uncertainty: does it know which images are degraded, out of distribution, or wrongly matched?

Small pure functions on numpy arrays. `uncertainty` [N] is higher for worse, `wrong` [N] is bool, `labels` [N] integers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vssl.arrays import Float64s, Floats, Integers, Mask
from vssl.measures.ranking import auroc, ranks
from vssl.search.nearest import nearest

BINS = 15


def neighbour_is_wrong(embeddings: Floats, labels: Integers) -> Mask:
    """Whether the nearest other image of [N, D], by cosine, has another label, [N]. R-AUROC judges by it."""
    wrong: Mask = labels[nearest(embeddings, embeddings, 1, exclude_self=True).rows[:, 0]] != labels
    return wrong


def r_auroc(uncertainty: Floats, wrong: Mask) -> float:
    """P(u of an image with a wrong neighbour > u of one with a right one); nan where all are right or all wrong.

    Recall AUROC of Kirchhof et al. 2023 (arXiv 2307.03810).
    """
    if wrong.all() or not wrong.any():
        return float("nan")
    return auroc(uncertainty[~wrong], uncertainty[wrong])


def within_class_r_auroc(uncertainty: Floats, wrong: Mask, labels: Integers) -> float:
    """R-AUROC inside each class, averaged over classes with both: merely knowing the hard ones earns nothing."""
    inside = [r_auroc(uncertainty[labels == label], wrong[labels == label]) for label in np.unique(labels)]
    return float(np.nanmean(inside)) if not np.isnan(inside).all() else float("nan")


def fpr_at_acceptance(inside: Floats, outside: Floats, acceptance: float = 0.95) -> float:
    """Part of the out-of-distribution images that pass a threshold which `acceptance` of the others pass (FPR@95)."""
    threshold = np.sort(inside)[int(np.ceil(acceptance * len(inside))) - 1]
    return float((outside <= threshold).mean())


def risk_coverage(uncertainty: Floats, wrong: Mask) -> Float64s:
    """Number of errors among the k most certain images, for k = 0 … N: [N + 1].

    Equally certain images count the mean of their errors each: the expectation over their order.
    """
    _, group, counts = np.unique(uncertainty, return_inverse=True, return_counts=True)
    mean = np.bincount(group, wrong) / counts
    return np.concatenate([[0.0], np.cumsum(np.repeat(mean, counts))])


def aurc(uncertainty: Floats, wrong: Mask) -> float:
    """Area under the risk–coverage curve: the error rate of the k most certain, averaged over k = 1 … N.

    Geifman & El-Yaniv 2017 (arXiv 1705.08500).
    """
    errors = risk_coverage(uncertainty, wrong)[1:]
    return float((errors / np.arange(1, len(errors) + 1)).mean())


def e_aurc(uncertainty: Floats, wrong: Mask) -> float:
    """AURC minus that of the best order, all right ones first. Geifman et al. 2019 (arXiv 1805.08206)."""
    return aurc(uncertainty, wrong) - aurc(wrong.astype(np.float64), wrong)


def augrc(uncertainty: Floats, wrong: Mask) -> float:
    """Area under P(accepted and wrong) over coverage, by trapezoids. Traub et al. 2024 (arXiv 2407.01032)."""
    joint = risk_coverage(uncertainty, wrong) / len(wrong)
    return float(((joint[1:] + joint[:-1]) / 2).mean())


def error_cut(uncertainty: Floats, wrong: Mask, coverage: float = 0.8) -> float:
    """Relative fall of the error rate when only the `coverage` most certain are kept; nan without an error."""
    kept = max(1, round(coverage * len(wrong)))
    return float(1 - risk_coverage(uncertainty, wrong)[kept] / kept / wrong.mean()) if wrong.any() else float("nan")


def calibration_error(probability: Floats, right: Mask, bins: int = BINS) -> float:
    """ECE of P(right) [N] over bins of equal mass; equal probabilities share a bin. Naeini et al. 2015."""
    rows = reliability(probability, right, bins)
    return float((rows[:, 2] * np.abs(rows[:, 0] - rows[:, 1])).sum() / rows[:, 2].sum())


def reliability(probability: Floats, right: Mask, bins: int = BINS) -> Float64s:
    """Mean probability, part that is right, and number of images of each bin, [B, 3]; empty bins are left out."""
    edges = np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1])
    place = np.searchsorted(edges, probability)
    counts = np.bincount(place, minlength=bins)
    sums = np.stack([np.bincount(place, values, minlength=bins) for values in (probability, right)], axis=1)
    some = counts > 0
    return np.column_stack([sums[some] / counts[some, None], counts[some]])


@dataclass(frozen=True)
class Health:
    """Signs of life of a variance head: std over images of mean log σ², part of the values within 1 % of the clamp's
    ends, and the rank correlation of the mean σ² with the real squared error; a head under .05 is dead.
    """

    spread: float
    clamped: float
    correlation: float


def health(log_variance: Floats, squared_error: Floats, clamp: tuple[float, float]) -> Health:
    """The health of log variances [N, D], not yet scaled, given the squared errors [N] of the same embeddings."""
    return Health(
        spread=float(log_variance.mean(axis=1).std()),
        clamped=clamped(log_variance, clamp),
        correlation=rank_correlation(np.exp(log_variance).mean(axis=1), squared_error),
    )


def clamped(log_variance: Floats, clamp: tuple[float, float]) -> float:
    """Part of log variances, before they are scaled, within 1 % of the clamp's ends."""
    low, high = clamp
    edge = 0.01 * (high - low)
    return float(((log_variance < low + edge) | (log_variance > high - edge)).mean())


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's ρ of [N] and [N]; 0 where one of them does not vary."""
    x, y = ranks(a), ranks(b)
    if x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def bootstrap(
    statistic: Callable[..., float], *columns: npt.NDArray[np.generic], samples: int = 500, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of `statistic(*columns)` under resampling of the images, the columns' rows together.

    To compare two uncertainties, pass the difference of their statistics: the interval is then a paired one.
    """
    rng = np.random.default_rng(seed)
    count = len(columns[0])
    draws = (rng.integers(0, count, count) for _ in range(samples))
    found = [statistic(*(column[rows] for column in columns)) for rows in draws]
    low, high = np.nanquantile(found, [0.025, 0.975]) if not np.isnan(found).all() else (np.nan, np.nan)
    return float(low), float(high)
