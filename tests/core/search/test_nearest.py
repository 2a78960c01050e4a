"""The search by tiles against a whole matrix of similarities."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssl.errors import UsageError
from vssl.search import nearest
from vssl.search.nearest import NeighbourSearch, normalised


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
    with patch.multiple(nearest, _QUERIES=tiles[0], _TILE=tiles[1]):
        search = NeighbourSearch(queries, k, rows if own else None)
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


@given(
    seed=st.integers(0, 1000), k=st.integers(1, 12), size=st.integers(1, 6000), values=st.sampled_from([2, 50, 10**6])
)
def test_the_largest_of_many_columns(seed: int, k: int, size: int, values: int) -> None:
    rng = np.random.default_rng(seed)
    given, k = rng.integers(0, values, (3, size)).astype(np.float32), min(k, size)
    given[:, rng.random(size) < 0.3] = -np.inf
    found = nearest._largest(given, k)
    assert all(len(set(row)) == k for row in found.tolist())
    np.testing.assert_array_equal(
        np.sort(np.take_along_axis(given, found, axis=1)), np.sort(given, axis=1)[:, size - k :]
    )


def test_normalised_leaves_a_zero_row_alone() -> None:
    assert np.allclose(normalised(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]])
