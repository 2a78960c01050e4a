"""Rows and specifications that tests of galleries share."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from vssl.arrays import Float32s
from vssl.search.nearest import normalised
from vssl_gallery.store.columns import FieldType
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.rows import TYPES, vector_column

DIMENSION = 16
FIELDS: Mapping[str, FieldType] = {
    "name": "text",
    "year": "integer",
    "price": "number",
    "sold": "boolean",
    "seen": "time",
}
SPEC = Spec("encoder-1", DIMENSION, FIELDS, model="tiny", model_version="1", bundle_id="bundle-1")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def unit_vectors(count: int, dimension: int = DIMENSION, seed: int = 0) -> Float32s:
    """Clustered directions, as embeddings are."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, dimension))
    near = centres[rng.integers(len(centres), size=count)] + 0.5 * rng.standard_normal((count, dimension))
    return normalised(near.astype(np.float32)).astype(np.float32)


def some_rows(count: int, first: int = 0, dimension: int = DIMENSION, seed: int = 0, **columns: Any) -> pa.Table:
    """Rows with the ids image-FIRST …, labels a, b, c in turn, and whatever columns are given.

    No two are alike, of whatever seed and place.
    """
    numbers = range(first, first + count)
    table = {
        "id": [f"image-{number}" for number in numbers],
        "embedding": vector_column(unit_vectors(count, dimension, 1000 * seed + first)),
        "label": [None if number % 7 == 0 else "abc"[number % 3] for number in numbers],
        "uncertainty": pa.array([number / 10 for number in numbers], pa.float32()),
        "added_at": pa.array([EPOCH + timedelta(seconds=number) for number in numbers], TYPES["time"]),
    }
    return pa.table({**table, **columns})


def as_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Each row from column to value, without its vectors."""
    plain = table.drop_columns([name for name in ("embedding", "variance") if name in table.column_names])
    return plain.to_pylist()  # type: ignore[no-any-return]
