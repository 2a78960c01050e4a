"""The measures against scikit-learn, closed forms, and the definition written out in loops."""

from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from vssl.errors import UsageError
from vssl.measures import ranking as measures
from vssl.measures.ranking import (
    Search,
    auroc,
    effective_rank,
    knn_accuracy,
    knn_predict,
    normalised,
    rankme,
    sphere_std,
)

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


@given(
    seed=st.integers(0, 1000),
    pieces=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    k=st.integers(1, 30),
    tiles=st.tuples(st.integers(1, 7), st.integers(1, 9)),
    own=st.booleans(),
)
def test_a_bank_in_pieces_is_one_bank(seed: int, pieces: list[int], k: int, tiles: tuple[int, int], own: bool) -> None:
    rng, count = np.random.default_rng(seed), sum(pieces)
    bank = rng.integers(-2, 3, (count, 3)).astype(np.float32)  # many are equal
    rows = rng.integers(0, max(count, 1), 5)
    queries = bank[rows] if own and count else rng.normal(size=(5, 3))
    with patch.multiple(measures, _QUERIES=tiles[0], _TILE=tiles[1]):
        search = Search(queries, k, rows if own else None)
        for start, size in zip(np.cumsum([0, *pieces]), pieces, strict=False):
            search.add(bank[start : start + size])
        if count <= own:
            with pytest.raises(UsageError, match="leaves no neighbour"):
                search.found()
            return
        found = search.found()
    similarity = normalised(queries).astype(np.float32) @ normalised(bank).T
    if own:
        similarity[np.arange(5), rows] = -np.inf
    wanted = -np.sort(-similarity, axis=1)[:, :k][:, : count - own]
    np.testing.assert_allclose(found.similarity, wanted, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(similarity, found.rows, axis=1), wanted, atol=1e-5)
    assert all(len(set(of_query)) == found.rows.shape[1] for of_query in found.rows.tolist())


def test_knn_with_a_bank_smaller_than_k() -> None:
    bank, labels = np.eye(3), np.array([4, 0, 4])

    assert knn_predict(np.array([[1.0, 0.1, 0.0], [0.0, 1.0, 0.0]]), bank, labels).tolist() == [4, 0]
    assert knn_predict(bank[:2], bank[:2], np.array([1, 2]), exclude_self=True).tolist() == [2, 1]


@pytest.mark.parametrize(("size", "exclude_self"), [(0, False), (1, True)])
def test_knn_without_a_neighbour_is_refused(size: int, exclude_self: bool) -> None:
    with pytest.raises(UsageError, match=f"bank of {size} images"):
        knn_predict(np.ones((1, 2)), np.ones((size, 2)), np.zeros(size, np.int64), exclude_self=exclude_self)


def test_normalised_leaves_a_zero_row_alone() -> None:
    assert np.allclose(normalised(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]])


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


few_values = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, 7.0]), min_size=1, max_size=30)
many_values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(st.one_of(few_values, many_values), st.one_of(few_values, many_values))
@settings(deadline=None)
def test_auroc_is_scikit_learns(negatives: list[float], positives: list[float]) -> None:
    truth = np.repeat([0, 1], [len(negatives), len(positives)])
    wanted = roc_auc_score(truth, np.array(negatives + positives))

    assert auroc(np.array(negatives), np.array(positives)) == pytest.approx(wanted)


def test_auroc_counts_pairs() -> None:
    assert auroc(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == (1 + 0.5 + 1 + 1) / 4
