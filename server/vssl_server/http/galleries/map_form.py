"""A map as the page reads it: a line of JSON, then arrays of little-endian numbers, which a browser takes as they are.

    {"rows": N, "method": "pca"|"tsne", "version": V, "stale": false, "missing": 0, "columns": […], "ids_bytes": B}
    x float32 [N]   y float32 [N]   for each column int32 [N] or float32 [N]   ids, a JSON list of B bytes

A column is `{"name", "kind": "category", "values": [TEXT…]}`, whose numbers are places in `values` and −1 for none, or
`{"name", "kind": "number"}`, with NaN for none. Places lie in [−1, 1]. Spaces fill up the first line, so that the
arrays begin at a multiple of 4 bytes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from vssl.arrays import Float32s

MOST_VALUES = 1000
"""Of a category; of more, the rarest count as none, and `left_out` says how many."""

Column = tuple[dict[str, Any], npt.NDArray[Any]]


def to_bytes(about: Mapping[str, Any], places: Float32s, ids: pa.ChunkedArray, columns: Mapping[str, Any]) -> bytes:
    """The whole map.

    Args:
        about: `method`, `version`, `stale`, `missing`.
        places: [N, 2].
        ids: N of them.
        columns: N values of each, by its name.
    """
    described = [column(name, values) for name, values in columns.items()]
    names = orjson.dumps(ids.to_pylist())
    head = {"rows": len(places), **about, "columns": [of for of, _ in described], "ids_bytes": len(names)}
    blocks = [*scaled(places).T, *(numbers for _, numbers in described)]
    line = orjson.dumps(head)
    line += b" " * (-(len(line) + 1) % 4) + b"\n"
    return b"".join([line, *(np.ascontiguousarray(one).tobytes() for one in blocks), names])


def scaled(places: Float32s) -> Float32s:
    """The places [N, 2] within [−1, 1], both axes by the same factor."""
    if not len(places):
        return places.astype("<f4")
    low, high = places.min(axis=0), places.max(axis=0)
    half = max(float((high - low).max()) / 2, 1e-12)
    inside: Float32s = np.clip((places - (low + high) / 2) / half, -1, 1).astype("<f4")
    return inside


def column(name: str, values: pa.ChunkedArray) -> Column:
    """What is said of a column, and its numbers."""
    if pa.types.is_string(values.type) or pa.types.is_boolean(values.type):
        return _category(name, values.cast(pa.string()))
    if pa.types.is_timestamp(values.type):
        values = pc.divide(values.cast(pa.int64()).cast(pa.float64()), 1e6)  # seconds since 1970
    return {"name": name, "kind": "number"}, values.cast(pa.float64()).to_numpy().astype("<f4")


def _category(name: str, values: pa.ChunkedArray) -> Column:
    known = pc.value_counts(values.drop_null())
    pairs = sorted(known.to_pylist(), key=lambda pair: (-pair["counts"], pair["values"]))
    texts = [pair["values"] for pair in pairs[:MOST_VALUES]]
    codes = pc.index_in(values, value_set=pa.array(texts, pa.string()))
    about: dict[str, Any] = {"name": name, "kind": "category", "values": texts}
    if len(pairs) > MOST_VALUES:
        about["left_out"] = len(pairs) - MOST_VALUES
    return about, codes.fill_null(-1).to_numpy().astype("<i4")
