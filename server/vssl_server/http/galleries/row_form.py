"""Rows of a gallery as JSON: the flags in an object, the gallery's own fields in another, meta as the JSON it is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from vssl.uncertainty.calibrated import FLAGS
from vssl_gallery.store.columns import FIXED, UNFILTERED
from vssl_gallery.store.contract import Spec
from vssl_server.wire.errors import ApiError, clipped, invalid_option

VECTORS = ("embedding", "variance")
SHOWN = (*(name for name in FIXED if name != "id"), "meta")
"""What is answered where no columns are named, before the gallery's own fields."""

_SINGLES = frozenset(name for name, kind in FIXED.items() if kind == "single")


def columns_of(spec: Spec, named: str | Sequence[str] | None) -> list[str]:
    """The store's columns for those that a request names, without `id`; by default all that are short.

    Raises:
        ApiError: 422, there is no such column, or it is the thumbnail, which has a route of its own.
    """
    if named is None:
        return [*SHOWN, *spec.fields]
    names = named.split(",") if isinstance(named, str) else named
    known = {*FIXED, *UNFILTERED, *spec.fields, "flags"} - {"thumbnail"}
    found: list[str] = []
    for name in names:
        if name not in known:
            raise invalid_option(f"columns: no column {clipped(repr(name), 100)}; see the gallery's fields", "columns")
        found += FLAGS if name == "flags" else [name]
    return [name for name in dict.fromkeys(found) if name != "id"]


def rows_as_json(rows: pa.Table, spec: Spec) -> list[dict[str, Any]]:
    """Each row as an object of the columns that it has."""
    return [row_as_json(row, spec) for row in rows.to_pylist()]


def row_as_json(row: Mapping[str, Any], spec: Spec) -> dict[str, Any]:
    """One row, from column to value."""
    found: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for name, value in row.items():
        if name in spec.fields:
            fields[name] = value
        elif name == "meta":
            found[name] = _meta(value)
        elif name not in FLAGS:  # a float32 in its own digits, as it was first told
            found[name] = np.float32(value) if name in _SINGLES and value is not None else value
    flags = {name: row[name] for name in FLAGS if name in row}
    if flags:
        found["flags"] = None if all(value is None for value in flags.values()) else flags
    if fields:
        found["fields"] = fields
    return found


def _meta(text: str | None) -> Any:  # noqa: ANN401 — any JSON
    """The JSON that it is; the text itself where it is none, as rows that came embedded may have it."""
    try:
        return None if text is None else orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def no_row(name: str) -> ApiError:
    """404: there is no row of that id, or the key may not see it."""
    return ApiError(404, "unknown_row", f"no row {clipped(name, 200)!r} in this gallery", "id")
