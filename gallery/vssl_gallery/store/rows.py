"""The Arrow schema of a gallery's rows, and what a table must hold to become rows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vssl.arrays import Float32s
from vssl_gallery.errors import InvalidRows
from vssl_gallery.store.columns import FIXED, MAX_META_BYTES, MAX_NAME_BYTES, FieldType, Kind
from vssl_gallery.store.contract import Spec

TYPES: Mapping[Kind, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "time": pa.timestamp("us", tz="UTC"),
    "single": pa.float32(),
}

REQUIRED = ("id", "path", "embedding", "added_at")
"""Columns without nulls. `path` is by default the id, `added_at` the time of the call."""

UNIT = 1e-3
"""How far an embedding's length may be from 1."""


def vector_type(dimension: int) -> pa.DataType:
    """Of embeddings and variances."""
    return pa.list_(pa.field("element", pa.float32()), dimension)


def schema(spec: Spec) -> pa.Schema:
    """The columns of every row of a gallery: those of `vssl embed` and more, then its own fields."""
    return _schema(spec.dimension, tuple(spec.fields.items()))


@lru_cache(64)  # every search asks for it
def _schema(dimension: int, fields: tuple[tuple[str, FieldType], ...]) -> pa.Schema:
    types = {
        **{name: TYPES[kind] for name, kind in FIXED.items()},
        "embedding": vector_type(dimension),
        "variance": vector_type(dimension),
        "meta": pa.string(),
        "thumbnail": pa.binary(),
        **{name: TYPES[kind] for name, kind in fields},
    }
    return pa.schema([pa.field(name, of, nullable=name not in REQUIRED) for name, of in types.items()])


def checked(rows: pa.Table, spec: Spec) -> pa.Table:
    """The rows as every driver stores them: all columns of the schema in its order, the last row of each id.

    −0 becomes 0, because databases differ about it.

    Raises:
        InvalidRows: a column is missing, unknown or of another type, or a value is out of bounds.
    """
    wanted = schema(spec)
    unknown = [name for name in rows.column_names if name not in wanted.names]
    if unknown:
        raise InvalidRows(f"column {unknown[0]!r} is none of this gallery's; put it into meta")
    if len(set(rows.column_names)) < rows.num_columns:
        raise InvalidRows("a column appears twice")
    if rows.num_rows * spec.dimension > rows.get_total_buffer_size():
        # A few bytes can claim any number of rows; every one of them must have its vector before memory is taken.
        raise InvalidRows(f"{rows.num_rows:,} rows, but not as many vectors of {spec.dimension} numbers")
    given = {name: rows[name] for name in rows.column_names}
    if "id" in given:
        given.setdefault("path", given["id"])
    given.setdefault("added_at", pa.repeat(pa.scalar(datetime.now(UTC), TYPES["time"]), rows.num_rows))
    table = pa.table([_column(given.get(field.name), field, rows.num_rows) for field in wanted], schema=wanted)
    for name in ("id", "path", "label"):
        _check_texts(table[name], name, MAX_NAME_BYTES)
    for name in ("sha256", "precision", "meta", *(name for name, kind in spec.fields.items() if kind == "text")):
        _check_texts(table[name], name, MAX_META_BYTES)
    if pc.any(pc.equal(table["id"], "")).as_py():
        raise InvalidRows("id: an empty text")
    check_vectors(vectors(_without_gaps(table, "embedding")), spec.dimension)
    if not np.isfinite(_without_gaps(table, "variance").drop_null().combine_chunks().flatten().to_numpy()).all():
        raise InvalidRows("column 'variance' holds a number that is not finite; leave it null")
    return last_of_each_id(table)


def types_of(columns: Sequence[str], spec: Spec) -> list[pa.DataType]:
    """The types of some columns that are read, `key` among them.

    Raises:
        InvalidRows: there is no such column.
    """
    known = schema(spec)
    for name in columns:
        if name not in known.names and name != "key":
            raise InvalidRows(f"no column {name[:80]!r}; there are {', '.join(known.names)}")
    return [pa.int64() if name == "key" else known.field(name).type for name in columns]


def found_schema(spec: Spec, columns: Sequence[str]) -> pa.Schema:
    """The columns of `contract.Found.rows`, with `columns` of each row."""
    types = {"query": pa.int32(), "similarity": pa.float32(), "id": pa.string()}
    return pa.schema({**types, **dict(zip(columns, types_of(columns, spec), strict=True))}.items())


def last_of_each_id(rows: pa.Table) -> pa.Table:
    """Without rows whose id comes again later."""
    places = {name: place for place, name in enumerate(rows["id"].to_pylist())}
    return rows if len(places) == rows.num_rows else rows.take(sorted(places.values()))


def vectors(column: pa.ChunkedArray | pa.Array) -> Float32s:
    """A column of vectors without nulls as [N, D]."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    flat: Float32s = whole.flatten().to_numpy()
    return flat.reshape(len(whole), whole.type.list_size)


def vector_column(values: Float32s) -> pa.FixedSizeListArray:
    """[N, D] as a column."""
    flat = pa.array(np.ascontiguousarray(values, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, type=vector_type(values.shape[1]))


def check_vectors(values: Float32s, dimension: int) -> None:
    """Refuse what is not [N, D] of finite vectors of unit length.

    Raises:
        InvalidRows: it is not.
    """
    if values.ndim != 2 or values.shape[1] != dimension:
        raise InvalidRows(f"vectors of shape {values.shape}: this gallery's have {dimension} numbers each")
    lengths = np.sqrt(np.einsum("nd,nd->n", values, values, dtype=np.float64))
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT))
    if len(wrong):
        raise InvalidRows(f"vector {wrong[0]} has length {lengths[wrong[0]]:.4g}, not 1; divide it by its length")


def _column(given: pa.ChunkedArray | pa.Array | None, field: pa.Field, rows: int) -> pa.Array:
    if given is None:
        if not field.nullable:
            raise InvalidRows(f"column {field.name!r} is missing")
        return pa.nulls(rows, field.type)
    try:
        column = given if given.type == field.type else given.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        raise InvalidRows(f"column {field.name!r} holds {given.type}, not {field.type}") from None
    if not field.nullable and column.null_count:
        raise InvalidRows(f"column {field.name!r} has rows without a value")
    if not pa.types.is_floating(field.type):
        return column
    if pc.any(pc.invert(pc.is_finite(column))).as_py():
        raise InvalidRows(f"column {field.name!r} holds a number that is not finite; leave it null")
    return pc.add(column, pa.scalar(0, field.type))


def _without_gaps(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column of vectors, each of which is missing or whole."""
    if pc.list_flatten(table[name]).null_count:
        raise InvalidRows(f"column {name!r} holds a vector without some of its numbers")
    return table[name]


def _check_texts(column: pa.ChunkedArray, name: str, most: int) -> None:
    longest = pc.max(pc.binary_length(column)).as_py()
    if longest is not None and longest > most:
        raise InvalidRows(f"column {name!r} holds a text of {longest:,} bytes; {most:,} are the most")
    if pc.any(pc.match_substring(column, "\0")).as_py():
        raise InvalidRows(f"column {name!r} holds a text with a NUL character")
