"""Novelty against scikit-learn's Mahalanobis distance, and what it must not depend on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssl.uncertainty.novelty import DIRECTIONS, fit_directions, novelty


def patterns(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dimension)) @ rng.normal(size=(dimension, dimension)) - 3


def test_in_all_directions_it_is_the_mahalanobis_distance() -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    known, queries = patterns(200, DIRECTIONS), patterns(50, DIRECTIONS, seed=1)
    oracle = covariance.EmpiricalCovariance().fit(known).mahalanobis(queries)
    found = novelty(queries, known.mean(axis=0), fit_directions(known))
    np.testing.assert_allclose(found, oracle * 199 / 200, rtol=1e-8)


@given(st.integers(0, 1000))
def test_the_reference_has_variance_one_along_each_direction_and_no_correlation(seed: int) -> None:
    known = patterns(60, 20, seed)
    directions = fit_directions(known)
    assert directions.shape == (DIRECTIONS, 20)
    np.testing.assert_allclose(np.cov(known @ directions.T, rowvar=False), np.eye(DIRECTIONS), atol=1e-6)


def test_they_are_the_directions_of_largest_variance() -> None:
    known = np.random.default_rng(0).normal(size=(500, 12)) * np.arange(1, 13)
    strongest = np.abs(fit_directions(known)).argmax(axis=1)
    assert strongest.tolist() == list(range(11, 3, -1))


def test_another_pattern_of_the_same_mean_is_novel() -> None:
    rng = np.random.default_rng(0)
    known = rng.normal(size=(500, 16)) + rng.normal(size=(500, 1))
    unfamiliar = known[:50].copy()
    unfamiliar[:, ::2] += 6
    unfamiliar[:, 1::2] -= 6
    np.testing.assert_allclose(unfamiliar.mean(axis=1), known[:50].mean(axis=1))
    mean, directions = known[100:].mean(axis=0), fit_directions(known[100:])
    assert novelty(unfamiliar, mean, directions).min() > np.quantile(novelty(known[:100], mean, directions), 0.9)


def test_one_variance_for_all_dimensions_has_one_direction_and_a_constant_none() -> None:
    one = np.repeat(np.random.default_rng(0).normal(size=(100, 1)), 16, axis=1)
    assert fit_directions(one).shape == (1, 16)
    assert fit_directions(np.zeros((100, 16))).shape == fit_directions(one[:1]).shape == (0, 16)
    assert (novelty(one, np.zeros(16), np.empty((0, 16))) == 0).all()
