"""Conformal sets against MAPIE, their promise, and scipy's beta-binomial distribution."""

import numpy as np
import numpy.typing as npt
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.metrics.classification import classification_coverage_score, classification_mean_width_score
from scipy.stats import betabinom
from sklearn.base import BaseEstimator, ClassifierMixin

from vssl.uncertainty.conformal import coverage_and_size, coverage_interval, prediction_sets, quantile

Numbers = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
CLASSES = 6


def voted(count: int, seed: int, neighbours: int | None = None) -> tuple[Numbers, Labels]:
    """Shares of a vote and the labels that they guess at; of whole neighbours, with many ties, if given."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(CLASSES, 0.4), count)
    labels = np.array([rng.choice(CLASSES, p=row) for row in shares])
    if neighbours is not None:
        shares = np.array([rng.multinomial(neighbours, row) for row in shares]) / neighbours
    return shares, labels


class Known(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted classifier whose probabilities are its inputs."""

    classes_ = np.arange(CLASSES)

    def fit(self, x: Numbers, y: Labels) -> "Known":
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, x: Numbers) -> Numbers:
        return x

    def predict(self, x: Numbers) -> Labels:
        best: Labels = x.argmax(axis=1)
        return best


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.25])
def test_without_ties_the_sets_are_mapies(alpha: float) -> None:
    (fitted, labels), (queries, truth) = voted(500, 0), voted(400, 1)
    oracle = SplitConformalClassifier(Known(), confidence_level=1 - alpha, conformity_score="lac", prefit=True)
    oracle.conformalize(fitted, labels)
    _, wanted = oracle.predict_set(queries)
    score, tie = quantile(1 - fitted[np.arange(500), labels], alpha)
    sets = prediction_sets(queries, score, tie, np.random.default_rng(0).random(400))
    np.testing.assert_array_equal(sets, wanted[:, :, 0])
    coverage, size = coverage_and_size(sets, truth)
    assert coverage == pytest.approx(float(classification_coverage_score(truth, wanted)[0]))
    assert size == pytest.approx(float(classification_mean_width_score(wanted)[0]))


@pytest.mark.parametrize("neighbours", [1, 3, 20])
def test_with_ties_the_promise_is_kept_and_not_overdone(neighbours: int) -> None:
    (fitted, labels), (queries, truth) = voted(4000, 2, neighbours), voted(4000, 3, neighbours)
    score, tie = quantile(1 - fitted[np.arange(4000), labels], 0.1)
    sets = prediction_sets(queries, score, tie, np.random.default_rng(0).random(4000))
    low, high = coverage_interval(4000, 4000, 0.1)
    coverage, size = coverage_and_size(sets, truth)
    assert low <= coverage <= high
    everything, large = coverage_and_size(prediction_sets(queries, score, 1.0, np.zeros(4000)), truth)
    assert (everything, large) > (high, size)


def test_coverage_over_many_draws_is_the_promised_one() -> None:
    found = []
    for seed in range(200):
        shares, labels = voted(100, seed, 3)
        score, tie = quantile(1 - shares[np.arange(99), labels[:99]], 0.2)
        [[*inside]] = prediction_sets(shares[99:], score, tie, np.random.default_rng(seed).random(1))
        found.append(inside[labels[99]])
    assert np.mean(found) == pytest.approx(0.8, abs=0.085)  # three standard errors


def test_so_few_images_that_nothing_can_be_promised_but_every_label() -> None:
    score, tie = quantile(np.array([0.2, 0.4]), 0.01)
    assert prediction_sets(np.array([[0.0, 0.3, 0.7, 1.0]]), score, tie, np.array([0.999])).all()


@pytest.mark.parametrize(("calibrated", "judged", "alpha"), [(100, 50, 0.1), (999, 2000, 0.1), (37, 500, 0.25)])
def test_interval_is_scipys(calibrated: int, judged: int, alpha: float) -> None:
    wrong = alpha * (calibrated + 1)
    low, high = betabinom(judged, calibrated + 1 - wrong, wrong).ppf([0.025, 0.975]) / judged
    assert list(coverage_interval(calibrated, judged, alpha)) == pytest.approx([low, high])
