"""Duplicates, odd ones, picks and maps of a real gallery, through every driver."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from tests.gallery.samples import DIMENSION, SPEC
from vssl.arrays import Float32s
from vssl.errors import UsageError
from vssl.search.nearest import normalised
from vssl_gallery.curating import find_duplicates, find_outliers, map_of, pick_next
from vssl_gallery.gallery import Gallery
from vssl_gallery.map import main_directions
from vssl_gallery.store.contract import Store
from vssl_gallery.store.rows import vector_column


def test_the_whole_of_a_gallery(create: Callable[..., Store]) -> None:
    gallery = Gallery(create(SPEC))
    empty = [find_duplicates(gallery), find_outliers(gallery), pick_next(gallery, 3), map_of(gallery).ids]
    assert not any(empty)
    near: Float32s = normalised(np.ones((20, DIMENSION)) + np.random.default_rng(0).normal(0, 0.3, (20, DIMENSION)))
    vectors = np.concatenate([near, near[:2], -near[:1]]).astype(np.float32)
    names = [f"{row:02}" for row in range(20)] + ["copy 0", "copy 1", "odd"]
    rows = {
        "id": names,
        "embedding": vector_column(vectors),
        "label": ["a"] * 20 + ["a", "a", None],
        "width": pa.array([10] * 20 + [20, 5, 10], pa.int64()),
        "height": pa.array([10] * 23, pa.int64()),
        "familiarity": pa.array([0.5] * 22 + [None], pa.float32()),
    }
    gallery.add(pa.table(rows))
    gallery.delete({"id": "07"})
    found = find_duplicates(gallery, 0.9999)
    assert [(group.kept, group.others) for group in found] == [("01", ["copy 1"]), ("copy 0", ["00"])]
    assert found[0].similarity == pytest.approx([1], abs=1e-6)
    first, *others = find_outliers(gallery)
    assert (first.id, first.familiarity, len(others)) == ("odd", None, 21)
    assert all(one.familiarity == 0.5 for one in others)
    assert pick_next(gallery, 5) == ["odd"]
    drawn = map_of(gallery, main_directions)
    assert sorted(names) == sorted([*drawn.ids, "07"])
    side = drawn.map.places[:, 0] > 0
    assert {drawn.ids[row] for row in np.flatnonzero(side != side[drawn.ids.index("00")])} == {"odd"}
    with pytest.raises(UsageError, match="threshold"):
        find_duplicates(gallery, 1.5)
