"""Measures of an uncertainty against scikit-learn, scipy, closed forms, and their definitions written out."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, roc_auc_score, roc_curve

from vssl.measures.uncertainty import (
    augrc,
    aurc,
    bootstrap,
    calibration_error,
    e_aurc,
    error_cut,
    fpr_at_acceptance,
    health,
    neighbour_is_wrong,
    r_auroc,
    rank_correlation,
    reliability,
    risk_coverage,
    within_class_r_auroc,
)
from vssl.search.nearest import normalised

Numbers = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def judged(count: int = 400, seed: int = 0) -> tuple[Numbers, Mask, npt.NDArray[np.int64]]:
    """Uncertainties that know something of what is wrong, and of the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    hard = rng.normal(size=count) + labels
    return hard + rng.normal(size=count), rng.random(count) < 1 / (1 + np.exp(1.5 - hard)), labels


def test_the_nearest_other_image_decides() -> None:
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(60, 5)), rng.integers(0, 3, 60)
    similarity = normalised(points) @ normalised(points).T
    wanted = [labels[max((j for j in range(60) if j != i), key=lambda j: similarity[i, j])] for i in range(60)]
    assert np.array_equal(neighbour_is_wrong(points, labels), np.array(wanted) != labels)


def test_r_auroc_is_scikit_learns() -> None:
    uncertainty, wrong, labels = judged()
    assert r_auroc(uncertainty, wrong) == pytest.approx(roc_auc_score(wrong, uncertainty))
    inside = [roc_auc_score(wrong[labels == c], uncertainty[labels == c]) for c in range(4)]
    assert within_class_r_auroc(uncertainty, wrong, labels) == pytest.approx(np.mean(inside))
    assert within_class_r_auroc(uncertainty, wrong, labels) < r_auroc(uncertainty, wrong)


def test_where_nothing_is_wrong_there_is_no_r_auroc() -> None:
    none = np.zeros(5, np.bool_)
    assert np.isnan(r_auroc(np.arange(5.0), none))
    assert np.isnan(r_auroc(np.arange(5.0), ~none))
    assert np.isnan(within_class_r_auroc(np.arange(5.0), none, np.zeros(5, np.int64)))
    one_class_has_both = np.array([True, False, True, True])
    assert within_class_r_auroc(np.array([3.0, 1.0, 2.0, 2.0]), one_class_has_both, np.array([0, 0, 1, 1])) == 1


def test_fpr_at_95_is_that_of_scikit_learns_curve() -> None:
    rng = np.random.default_rng(1)
    inside, outside = rng.normal(size=400), rng.normal(1, 1, 300)
    fpr, tpr, _ = roc_curve(np.repeat([1, 0], [400, 300]), -np.concatenate([inside, outside]), drop_intermediate=False)
    assert fpr_at_acceptance(inside, outside) == pytest.approx(fpr[np.argmax(tpr >= 0.95)])
    assert fpr_at_acceptance(np.arange(10.0), np.array([11.0, 12.0])) == 0


ties = st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0]), st.booleans()), min_size=1, max_size=6)


@given(ties)
def test_equally_certain_images_count_their_mean_over_all_orders(pairs: list[tuple[float, bool]]) -> None:
    uncertainty, wrong = np.array([u for u, _ in pairs]), np.array([w for _, w in pairs])
    orders = [p for p in itertools.permutations(range(len(pairs))) if (np.diff(uncertainty[list(p)]) >= 0).all()]
    counted = np.mean([np.cumsum(wrong[list(order)]) for order in orders], axis=0)
    np.testing.assert_allclose(risk_coverage(uncertainty, wrong), [0, *counted], atol=1e-12)
    places = np.arange(1, len(pairs) + 1)
    assert aurc(uncertainty, wrong) == pytest.approx((counted / places).mean())


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=40))
def test_augrc_follows_from_auroc_and_accuracy(pairs: list[tuple[int, bool]]) -> None:
    """Traub et al. 2024, eq. 8: AUGRC = (1 − AUROC) acc (1 − acc) + ½ (1 − acc)²."""
    uncertainty, wrong = np.array([float(u) for u, _ in pairs]), np.array([w for _, w in pairs])
    error = wrong.mean()
    known = 0.0 if wrong.all() or not wrong.any() else (1 - roc_auc_score(wrong, uncertainty)) * error * (1 - error)
    assert augrc(uncertainty, wrong) == pytest.approx(known + error**2 / 2)
    coverages = np.arange(len(wrong) + 1) / len(wrong)
    assert augrc(uncertainty, wrong) == pytest.approx(auc(coverages, risk_coverage(uncertainty, wrong) / len(wrong)))


def test_e_aurc_is_zero_for_the_best_order_and_large_for_the_worst() -> None:
    _, wrong, _ = judged()
    count, errors = len(wrong), int(wrong.sum())
    best = sum((k - (count - errors)) / k for k in range(count - errors + 1, count + 1)) / count
    assert e_aurc(wrong * 1.0, wrong) == 0
    assert aurc(wrong * 1.0, wrong) == pytest.approx(best)
    assert e_aurc(1.0 - wrong, wrong) > e_aurc(np.zeros(count), wrong) > 0


def test_error_cut() -> None:
    wrong = np.array([False] * 7 + [True] * 3)
    assert error_cut(np.arange(10.0), wrong) == pytest.approx(1 - (1 / 8) / 0.3)
    assert error_cut(np.zeros(10), wrong) == pytest.approx(0)
    assert np.isnan(error_cut(np.arange(10.0), np.zeros(10, np.bool_)))


def test_bins_are_scikit_learns_quantile_bins() -> None:
    rng = np.random.default_rng(2)
    probability = rng.random(1500)
    right = rng.random(1500) < probability**1.5
    rows = reliability(probability, right)
    true, predicted = calibration_curve(right, probability, n_bins=15, strategy="quantile")
    np.testing.assert_allclose(rows[:, 1], true)
    np.testing.assert_allclose(rows[:, 0], predicted)
    assert set(rows[:, 2]) == {100}
    assert calibration_error(probability, right) == pytest.approx(np.abs(true - predicted).mean())


def test_equal_probabilities_share_a_bin() -> None:
    right = np.arange(100) % 2 == 0
    assert calibration_error(np.full(100, 0.5), right) == pytest.approx(0)
    assert calibration_error(np.full(100, 0.9), right) == pytest.approx(0.4)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_rank_correlation_is_scipys(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, np.float64).T
    varies = a.std() > 0 and b.std() > 0
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic if varies else 0)


def test_health_of_a_dead_and_a_living_head() -> None:
    rng = np.random.default_rng(3)
    error = rng.gamma(2, size=500)
    living = health(np.log(error)[:, None] + rng.normal(0, 0.3, (500, 8)), error, (-6, 3))
    assert living.correlation > 0.9
    assert living.spread == pytest.approx(np.log(error).std(), rel=0.1)
    dead = health(np.full((500, 8), 2.999), error, (-6, 3))
    assert [dead.spread, dead.clamped, dead.correlation] == pytest.approx([0, 1, 0])


def test_bootstrap_of_a_mean_is_the_normal_interval() -> None:
    values = np.random.default_rng(4).normal(5, 2, 900)
    low, high = bootstrap(lambda x: float(x.mean()), values, samples=2000)
    half = 1.96 * values.std() / 30
    assert [low, high] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.02)


def test_a_paired_interval_is_narrower_than_two_apart() -> None:
    uncertainty, wrong, _ = judged()
    better = uncertainty + wrong * 0.3
    low, high = bootstrap(lambda a, b, w: r_auroc(a, w) - r_auroc(b, w), better, uncertainty, wrong)
    assert 0 < low < r_auroc(better, wrong) - r_auroc(uncertainty, wrong) < high
    alone = bootstrap(r_auroc, better, wrong)
    assert high - low < (alone[1] - alone[0]) / 2
