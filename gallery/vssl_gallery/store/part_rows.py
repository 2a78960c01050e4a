"""Rows of a gallery as the Parquet that `vssl embed` writes, and back.

A part has the columns of `vssl embed`, then those that only galleries have. Its flags are one struct, and a gallery's
are a column each, because filters name them.
"""

import pyarrow as pa
import pyarrow.compute as pc

from vssl.uncertainty.calibrated import FLAGS
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.rows import schema

EMBEDDED = (
    "path",
    "sha256",
    "size",
    "embedding",
    "variance",
    "uncertainty",
    "percentile",
    "confidence",
    "flags",
    "error",
    "label",
)
"""The columns of `vssl embed`, in its order."""


def part_schema(spec: Spec) -> pa.Schema:
    """The columns of a snapshot's parts."""
    rows = schema(spec)
    types = {name: rows.field(name).type for name in rows.names}
    types |= {"flags": pa.struct([(name, pa.bool_()) for name in FLAGS]), "error": pa.string()}
    names = [*EMBEDDED, *(name for name in types if name not in EMBEDDED and name not in FLAGS)]
    about = {"model": spec.model, "version": spec.model_version, "id": spec.bundle_id, "source": "gallery"}
    metadata = {f"vssl.{key}": value for key, value in {**about, "encoder_id": spec.encoder_id}.items()}
    return pa.schema([(name, types[name]) for name in names], metadata=metadata)


def as_part(rows: pa.Table, spec: Spec) -> pa.Table:
    """Rows as a part has them."""
    flags = [rows[name].combine_chunks() for name in FLAGS]
    columns = {name: rows[name] for name in rows.column_names}
    none = pc.and_(pc.is_null(flags[0]), pc.is_null(flags[1]))
    for flag in flags[2:]:
        none = pc.and_(none, pc.is_null(flag))
    target = part_schema(spec)
    columns["flags"] = pa.StructArray.from_arrays(flags, fields=list(target.field("flags").type), mask=none)
    columns["error"] = pa.nulls(rows.num_rows, pa.string())
    return pa.table({name: columns[name] for name in target.names}, schema=target)


def rows_of_part(part: pa.Table, spec: Spec) -> pa.Table:
    """The embedded images of a part, as rows to put: of a snapshot, or of a folder that `vssl embed` wrote.

    Rows that failed are left out, and columns that the gallery does not have. An image's id is its path.
    """
    if "error" in part.column_names:
        part = part.filter(pc.is_null(part["error"]))
    columns = {name: part[name] for name in part.column_names if name in schema(spec).names}
    if "flags" in part.column_names:
        flags = part["flags"].combine_chunks()
        columns |= {name: flags.field(name) for name in FLAGS if flags.type.get_field_index(name) >= 0}
    columns.setdefault("id", columns["path"])
    return pa.table(columns)
