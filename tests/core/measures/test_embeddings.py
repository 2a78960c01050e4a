"""Measures of embeddings against scikit-learn, closed forms, and the definition written out in loops."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from vssl.errors import UsageError
from vssl.measures.embeddings import effective_rank, knn_accuracy, knn_predict, rankme, sphere_std

Numbers = npt.NDArray[np.float64]


def clusters(count: int, dimension: int = 8, classes: int = 5, seed: int = 0) -> tuple[Numbers, npt.NDArray[np.int64]]:
    """Points of overlapping classes, so that the neighbours of many disagree."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    centres = np.random.default_rng(99).normal(size=(classes, dimension))
    return centres[labels] + rng.normal(size=(count, dimension)), labels


def sklearn_knn(bank: Numbers, labels: npt.NDArray[np.int64], k: int, temperature: float) -> KNeighborsClassifier:
    def weights(distances: Numbers) -> Numbers:
        return np.exp((1 - distances) / temperature)

    return KNeighborsClassifier(k, weights=weights, metric="cosine", algorithm="brute").fit(bank, labels)


@pytest.mark.parametrize(("k", "temperature"), [(20, 0.1), (1, 0.1), (7, 1.0), (200, 0.5)])
def test_knn_is_scikit_learns(k: int, temperature: float) -> None:
    bank, labels = clusters(200)
    queries, _ = clusters(600, seed=1)
    wanted = sklearn_knn(bank, labels, k, temperature).predict(queries)

    assert np.array_equal(knn_predict(queries, bank, labels, k, temperature), wanted)


def test_knn_leaves_an_image_out_of_its_own_vote() -> None:
    points, labels = clusters(300)
    others = np.arange(300)
    wanted = [
        sklearn_knn(points[others != i], labels[others != i], 20, 0.1).predict(points[[i]])[0] for i in range(300)
    ]

    assert np.array_equal(knn_predict(points, points, labels, exclude_self=True), wanted)
    assert knn_accuracy(points, labels, points, labels, exclude_self=True) == np.mean(np.array(wanted) == labels)


def test_knn_with_a_bank_smaller_than_k() -> None:
    bank, labels = np.eye(3), np.array([4, 0, 4])

    assert knn_predict(np.array([[1.0, 0.1, 0.0], [0.0, 1.0, 0.0]]), bank, labels).tolist() == [4, 0]
    assert knn_predict(bank[:2], bank[:2], np.array([1, 2]), exclude_self=True).tolist() == [2, 1]


@pytest.mark.parametrize(("size", "exclude_self"), [(0, False), (1, True)])
def test_knn_without_a_neighbour_is_refused(size: int, exclude_self: bool) -> None:
    with pytest.raises(UsageError, match=f"bank of {size} images"):
        knn_predict(np.ones((1, 2)), np.ones((size, 2)), np.zeros(size, np.int64), exclude_self=exclude_self)


def test_effective_rank_of_all_directions_alike() -> None:
    axes = np.concatenate([np.eye(16), -np.eye(16)])
    assert effective_rank(axes) == pytest.approx(16)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_effective_rank_of_one_direction_and_of_one_point(dtype: type) -> None:
    """A collapsed encoder differs by rounding alone, which must not count as directions."""
    direction = np.random.default_rng(0).normal(size=64)
    lengths = np.random.default_rng(1).uniform(0.5, 2, 100)[:, None]
    signs = np.where(np.arange(100) % 2, 1, -1)[:, None]

    assert effective_rank((lengths * signs * direction).astype(dtype)) == pytest.approx(1, abs=1e-6)
    assert effective_rank((lengths * direction).astype(dtype)) == 1


@given(st.lists(st.floats(0.05, 1), min_size=2, max_size=6))
@settings(deadline=None, max_examples=50)
def test_effective_rank_of_known_eigenvalues(shares: list[float]) -> None:
    """Pairs ±e_d: unit length, mean 0, and as many of each as its eigenvalue says."""
    counts = [max(1, round(20 * share)) for share in shares]
    points = np.concatenate([sign * np.eye(len(shares)).repeat(counts, axis=0) for sign in (1, -1)])
    part = np.array(counts) / sum(counts)

    assert effective_rank(points) == pytest.approx(np.exp(-(part * np.log(part)).sum()))


def test_rankme_of_known_singular_values() -> None:
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.normal(size=(40, 4)))
    right, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    values = np.array([4.0, 2.0, 1.0, 1.0])
    part = values / values.sum()

    assert rankme(left @ np.diag(values) @ right) == pytest.approx(np.exp(-(part * np.log(part)).sum()))
    assert rankme(np.zeros((3, 4))) == 1


def test_sphere_std() -> None:
    spread = np.random.default_rng(0).normal(size=(5000, 64))

    assert sphere_std(np.concatenate([np.eye(8), -np.eye(8)])) == pytest.approx(1)
    assert sphere_std(spread) == pytest.approx(1, abs=0.02)
    assert sphere_std(np.ones((10, 8))) == pytest.approx(0, abs=1e-12)
