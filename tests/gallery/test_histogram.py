"""The histogram beside numpy's, and where numpy has none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssl_gallery.histogram import histogram

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def test_it_is_numpys_for_ordinary_numbers() -> None:
    values = np.random.default_rng(0).normal(-6, 2, 1000)
    rows, edges = np.histogram(values, 40)
    own_edges, own = histogram(values, 40)
    np.testing.assert_allclose(own_edges, edges)
    assert np.abs(own - rows).sum() <= 2  # a value on an edge may fall to either side
    assert histogram(np.array([3.0, 3.0]), 2)[0].tolist() == [2.5, 3.0, 3.5]


@given(
    st.lists(NUMBERS | st.sampled_from([1.0, 1.0 + 4e-16, 1.7e308, -1.7e308, 5e-324]), max_size=30),
    st.integers(1, 1000),
)
def test_it_counts_all_numbers_once_between_edges_that_rise(values: list[float], bins: int) -> None:
    edges, rows = histogram(np.array(values), bins)
    assert rows.sum() == len(values)
    assert len(edges) == bins + 1
    assert np.isfinite(edges).all()
    assert (np.diff(edges) >= 0).all()


@pytest.mark.parametrize("values", [[], [np.nan, np.inf]])
def test_nothing_is_counted_where_there_are_no_numbers(values: list[float]) -> None:
    edges, rows = histogram(np.array(values), 4)
    assert (edges.tolist(), rows.tolist()) == ([0, 0.25, 0.5, 0.75, 1], [0] * 4)
