"""Rows between Arrow and the database's binary format."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from vssl_gallery.errors import InvalidRows
from vssl_gallery.store.columns import FIXED, Kind
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.postgres.tables import column_name
from vssl_gallery.store.rows import vector_column

_SENT = {
    "text": "text",
    "integer": "int8",
    "number": "float8",
    "boolean": "bool",
    "time": "timestamptz",
    "single": "float4",
}
_SENT_OTHERS = {"embedding": "vector", "variance": "vector", "meta": "text", "thumbnail": "bytea"}


def put(cursor: psycopg.Cursor[Any], table: sql.Composable, rows: pa.Table, spec: Spec) -> None:
    """Copy rows, as `checked` gives them, into a table.

    Raises:
        InvalidRows: a time that PostgreSQL's driver can't hold.
    """
    kinds: dict[str, Kind] = {**FIXED, **spec.fields}
    columns = [_values(rows[name]) for name in rows.column_names]
    names = sql.SQL(", ").join(column_name(name) for name in rows.column_names)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table, names)
    with cursor.copy(statement) as copy:
        copy.set_types([_SENT[kinds[n]] if n in kinds else _SENT_OTHERS[n] for n in rows.column_names])
        for row in zip(*columns, strict=True):
            copy.write_row(row)


def table_of(found: Sequence[tuple[Any, ...]], names: Sequence[str], types: Sequence[pa.DataType]) -> pa.Table:
    """Rows of the database as a table of these columns."""
    columns = zip(*found, strict=True) if found else ([] for _ in names)
    arrays = [_array(values, of) for values, of in zip(columns, types, strict=True)]
    return pa.table(arrays, schema=pa.schema(list(zip(names, types, strict=True))))


def row_bytes(columns: Sequence[str], spec: Spec) -> int:
    """About how many bytes a row has, to read a few MB at a time."""
    vectors = sum(name in ("embedding", "variance") for name in columns)
    return 4 * spec.dimension * vectors + (20_000 if "thumbnail" in columns else 0) + 100 * (len(columns) + 1)


def _values(column: pa.ChunkedArray) -> list[Any]:
    if not pa.types.is_fixed_size_list(column.type):
        try:
            values: list[Any] = column.to_pylist()
        except (OverflowError, ValueError) as error:
            raise InvalidRows(f"a time that Python can't hold: {error}") from None
        return values
    whole = column.combine_chunks()
    rows: list[Any] = [None] * len(whole)
    there = np.flatnonzero(whole.is_valid().to_numpy(zero_copy_only=False))
    for place, vector in zip(there, whole.flatten().to_numpy().reshape(-1, whole.type.list_size), strict=True):
        rows[place] = vector
    return rows


def _array(values: Sequence[Any], of: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(of):
        return pa.array(values, of)
    there = [vector.to_numpy() for vector in values if vector is not None]
    if len(there) == len(values) and there:
        return vector_column(np.stack(there))
    found = iter(there)
    return pa.array([None if vector is None else next(found) for vector in values], of)
