"""Rows as Qdrant's points. A point is one state of a row, and its number the row's key.

The vectors are `embedding` and, not indexed, `variance`. The payload has the other columns that are not null, times as
microseconds, thumbnails in base64, integers and times in halves too, and what `versions` keeps.
"""

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from qdrant_client import models

from vssl_gallery.store.columns import FIXED
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.qdrant.conditions import halves
from vssl_gallery.store.rows import TYPES, types_of, vector_column

VECTORS = ("embedding", "variance")


def points_of(rows: pa.Table, keys: Iterable[int], version: int, spec: Spec) -> list[models.PointStruct]:
    """Rows, as `checked` gives them, with their keys and the version that they belong to."""
    ordered = [name for name, kind in {**FIXED, **spec.fields}.items() if kind in ("integer", "time")]
    columns = {name: _plain(rows[name]) for name in rows.column_names if name not in VECTORS}
    vectors = {name: rows[name].to_pylist() for name in VECTORS}
    points = []
    for place, key in enumerate(keys):
        payload = {name: values[place] for name, values in columns.items() if values[place] is not None}
        for name in ordered:
            if name in payload:
                payload |= halves(name, payload[name])
        vector = {name: values[place] for name, values in vectors.items() if values[place] is not None}
        points.append(models.PointStruct(id=key, vector=vector, payload={**payload, "_from": version}))
    return points


def wanted(columns: Sequence[str]) -> dict[str, Any]:
    """What to ask of a point to have these columns; its key it has anyway."""
    payload = [name for name in columns if name not in (*VECTORS, "key")]
    vectors = [name for name in columns if name in VECTORS]
    return {"with_payload": payload or False, "with_vectors": vectors or False}


def table_of(points: Sequence[Any], columns: Sequence[str], spec: Spec) -> pa.Table:
    """Columns of points that were read with `wanted`."""
    types = types_of(columns, spec)
    arrays = [_column(points, name, of) for name, of in zip(columns, types, strict=True)]
    return pa.table(arrays, schema=pa.schema(list(zip(columns, types, strict=True))))


def _column(points: Sequence[Any], name: str, of: pa.DataType) -> pa.Array:
    if name in VECTORS:
        vectors = [(point.vector or {}).get(name) for point in points]
        if vectors and all(vector is not None for vector in vectors):
            return vector_column(np.array(vectors, np.float32))
        return pa.array(vectors, of)
    if name == "key":
        return pa.array([point.id for point in points], of)
    values = [(point.payload or {}).get(name) for point in points]
    if of == TYPES["time"]:
        return pa.array(values, pa.int64()).cast(of)
    if pa.types.is_binary(of):
        return pa.array([None if value is None else base64.b64decode(value) for value in values], of)
    return pa.array(values, of)


def _plain(column: pa.ChunkedArray) -> list[Any]:
    if column.type == TYPES["time"]:
        column = column.cast(pa.int64())
    values: list[Any] = column.to_pylist()
    if pa.types.is_binary(column.type):
        return [None if value is None else base64.b64encode(value).decode() for value in values]
    return values
