"""The queries that an index is tried with lie beside the rows, where a new image's embedding would."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vssl.search.nearest import normalised
from vssl_gallery.store.perturbed import perturbed


@given(st.integers(100, 200), st.integers(32, 512), st.integers(0, 2**32 - 1))
def test_perturbed_rows_are_as_far_from_their_rows_as_was_measured(count: int, dimension: int, seed: int) -> None:
    """A noise of .7 that is nearly at right angles leaves a cosine of 1 / √1.49 = .82."""
    rows = normalised(np.random.default_rng((seed, 1)).standard_normal((count, dimension), np.float32))
    queries = perturbed(rows)
    assert queries.dtype == np.float32
    assert queries.shape == rows.shape
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    cosines = (queries * rows).sum(axis=1)
    assert abs(cosines.mean() - 0.82) < 0.5 / np.sqrt(dimension)
    assert np.array_equal(queries, perturbed(rows))
