"""Scores between Gaussians against their definitions, and index tricks against the scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal

from vssl.search.gaussians import (
    Gaussians,
    cosine,
    csd,
    csd_gallery,
    csd_queries,
    fused,
    mutual_likelihood,
    mutual_likelihood_nearest,
    wasserstein,
    wasserstein_vectors,
)
from vssl.search.nearest import normalised


@st.composite
def gaussians(draw: st.DrawFn, dimension: int, most: int = 5) -> Gaussians:
    shape = (draw(st.integers(1, most)), dimension)
    mean = draw(arrays.arrays(np.float64, shape, elements=st.floats(-2, 2)))
    return Gaussians(mean, np.exp(draw(arrays.arrays(np.float64, shape, elements=st.floats(-6, 2)))))


pairs = st.integers(1, 6).flatmap(lambda d: st.tuples(gaussians(d), gaussians(d)))


@given(pairs)
def test_definitions(pair: tuple[Gaussians, Gaussians]) -> None:
    queries, gallery = pair
    for i, (m1, v1) in enumerate(zip(queries.mean, queries.variance, strict=True)):
        for j, (m2, v2) in enumerate(zip(gallery.mean, gallery.variance, strict=True)):
            off = ((m1 - m2) ** 2).sum()
            assert csd(queries, gallery)[i, j] == pytest.approx(off + v1.sum() + v2.sum())
            distance = off + ((np.sqrt(v1) - np.sqrt(v2)) ** 2).sum()
            assert wasserstein(queries, gallery)[i, j] == pytest.approx(distance, abs=1e-9)
            # The density of the one mean under the other, both blurred: a Gaussian with the variances added.
            density = multivariate_normal(m2, np.diag(v1 + v2)).logpdf(m1)
            wanted = density + len(m1) / 2 * np.log(2 * np.pi)
            assert mutual_likelihood(queries, gallery)[i, j] == pytest.approx(wanted)


@given(pairs)
def test_an_l2_index_orders_as_the_score_does(pair: tuple[Gaussians, Gaussians]) -> None:
    queries, gallery = pair
    by_index = cdist(csd_queries(queries), csd_gallery(gallery), "sqeuclidean")
    own = queries.variance.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(by_index + own, csd(queries, gallery), atol=1e-9)
    by_index = cdist(wasserstein_vectors(queries), wasserstein_vectors(gallery), "sqeuclidean")
    np.testing.assert_allclose(by_index, wasserstein(queries, gallery), atol=1e-9)


@given(pairs)
def test_distances_are_never_negative_and_zero_for_oneself(pair: tuple[Gaussians, Gaussians]) -> None:
    queries, gallery = pair
    assert (wasserstein(queries, gallery) >= 0).all()
    np.testing.assert_allclose(np.diag(wasserstein(queries, queries)), 0, atol=1e-9)
    np.testing.assert_allclose(np.diag(csd(queries, queries)), 2 * queries.variance.sum(axis=1))


def test_csd_is_what_samples_say() -> None:
    rng = np.random.default_rng(0)
    one, other = (Gaussians(rng.normal(size=(1, 4)), rng.uniform(0.1, 1, (1, 4))) for _ in range(2))
    draws = [g.mean + np.sqrt(g.variance) * rng.normal(size=(200_000, 4)) for g in (one, other)]
    sampled = np.square(draws[0] - draws[1]).sum(axis=1).mean()
    assert csd(one, other)[0, 0] == pytest.approx(sampled, rel=0.01)


def test_cosine_is_scipys() -> None:
    rng = np.random.default_rng(1)
    a, b = (Gaussians(rng.normal(size=(7, 5)), np.ones((7, 5))) for _ in range(2))
    np.testing.assert_allclose(cosine(a, b), 1 - cdist(a.mean, b.mean, "cosine"))


def test_reranking_finds_the_likeliest_among_the_most_similar() -> None:
    rng = np.random.default_rng(2)
    gallery = Gaussians(normalised(rng.normal(size=(300, 8))), rng.uniform(0.01, 0.5, (300, 8)))
    queries = Gaussians(normalised(rng.normal(size=(9, 8))), rng.uniform(0.01, 0.5, (9, 8)))
    all_scores = mutual_likelihood(queries, gallery)
    rows, scores = mutual_likelihood_nearest(queries, gallery, 5, candidates=300)
    np.testing.assert_array_equal(rows, np.argsort(-all_scores, axis=1)[:, :5])
    np.testing.assert_allclose(scores, -np.sort(-all_scores, axis=1)[:, :5])
    few, _ = mutual_likelihood_nearest(queries, gallery, 5, candidates=20)
    similar = np.argsort(-cosine(queries, gallery), axis=1)[:, :20]
    assert all(set(found) <= set(candidates) for found, candidates in zip(few, similar, strict=True))


@given(st.integers(1, 6).flatmap(lambda d: gaussians(d)))
def test_fusion_is_the_product_of_densities(images: Gaussians) -> None:
    together = fused(images)
    assert (together.variance <= images.variance.min(axis=0) + 1e-12).all()
    assert (images.mean.min(axis=0) - 1e-9 <= together.mean).all()
    assert (together.mean <= images.mean.max(axis=0) + 1e-9).all()
    points = np.linspace(-1, 1, 5)[:, None] + together.mean
    one_by_one = sum(
        -0.5 * np.square(points - m) / v for m, v in zip(images.mean, images.variance, strict=True)
    )  # log densities without constants
    off = np.asarray(one_by_one) + 0.5 * np.square(points - together.mean) / together.variance
    np.testing.assert_allclose(off - off[:1], 0, atol=1e-6)
