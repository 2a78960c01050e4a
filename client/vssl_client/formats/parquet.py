"""The Parquet table of embeddings: one schema in every part of every folder, its writer and its reader.

One row an image, in the order of the source:

- `path`: string, relative to the source, with forward slashes (`vssl.images.names.encode_name`)
- `sha256`: string, of the file's bytes, in hexadecimal; null if they can't be read
- `size`: int64, the file's bytes; null likewise
- `embedding`, `variance`: fixed_size_list<float32>[D]; null where the image could not be embedded, `variance` also
  if it is not wanted
- `uncertainty`: float32; null likewise
- `percentile`, `confidence`: float32; null also where the model has no calibration
- `flags`: struct<degraded: bool, ood: bool, unfamiliar: bool>; null likewise
- `error`: string, `type: message`; null where the image was embedded
- `label`: string, the image's class by its folder or its `.cls` file; null where there is none
- `familiarity`: float32; null also where the model keeps no reference vectors

The schema's metadata name the origin of the rows: `vssl.model`, `vssl.version`, `vssl.id`, `vssl.source`; and
`vssl.encoder_id`, where it is known.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vssl.arrays import Float32s, Mask
from vssl.files import atomic_write
from vssl.objects.path import AnyPath, ObjectPath
from vssl.objects.range_file import RangeFile
from vssl.uncertainty.calibrated import FLAGS, NUMBERS
from vssl_client.formats.columns import (
    ABOUT,
    LATER,
    TEXTS,
    Columns,
    Origin,
    checked,
    every_flag,
    failed_rows,
    missing_vectors,
    reading,
)

SUFFIX = ".parquet"


def schema(origin: Origin) -> pa.Schema:
    """The schema of every part, frozen but for D."""
    vector = pa.list_(pa.field("element", pa.float32()), origin.dimension)
    columns = {
        "path": pa.string(),
        "sha256": pa.string(),
        "size": pa.int64(),
        "embedding": vector,
        "variance": vector,
        "uncertainty": pa.float32(),
        "percentile": pa.float32(),
        "confidence": pa.float32(),
        "flags": pa.struct([(name, pa.bool_()) for name in FLAGS]),
        "error": pa.string(),
        "label": pa.string(),
        "familiarity": pa.float32(),
    }
    about = {f"vssl.{key}": getattr(origin, key) for key in (*ABOUT, "encoder_id")}
    return pa.schema(columns.items(), metadata={key: value for key, value in about.items() if value is not None})


def as_table(origin: Origin, columns: Columns) -> pa.Table:
    """N rows, all columns, as a table of the schema."""
    failed, size, variance = failed_rows(columns), columns["size"], columns["variance"]
    arrays = {
        "size": pa.array(size, mask=size < 0),
        "embedding": _vector_column(columns["embedding"], origin, failed),
        "variance": _vector_column(variance, origin, failed | missing_vectors(variance)),
        "uncertainty": pa.array(columns["uncertainty"], mask=failed),
        **{name: _optional_column(columns[name], len(failed)) for name in NUMBERS},
        "flags": _flags_column(columns["flags"], failed),
    }
    return pa.table({name: arrays.get(name, columns[name]) for name in schema(origin).names}, schema=schema(origin))


def write_part(file: AnyPath, origin: Origin, columns: Columns) -> None:
    """Write one part of N rows with all columns, whole or not at all.

    Raises:
        OSError: the disk is full, or can't be written to.
    """
    table = as_table(origin, columns)
    with _sink(file) as sink:
        # Learned vectors hardly repeat: no dictionary, and no statistics, which nobody could search by. Only the
        # exponents of their numbers repeat, once the bytes of all numbers lie side by side.
        pq.write_table(
            table,
            sink,
            compression="zstd",
            use_dictionary=["error", "label"],
            write_statistics=["path"],
            use_byte_stream_split=["embedding.list.element", "variance.list.element"],
        )


def read_origin(part: AnyPath) -> Origin:
    """The model and the source of a part.

    Raises:
        VsslError: it can't be read, or is not a part.
    """
    with _opened(part) as file:
        found = file.schema_arrow
        about = {key: found.metadata[f"vssl.{key}".encode()].decode() for key in ABOUT}
        encoder = found.metadata.get(b"vssl.encoder_id")
        dimension = found.field("embedding").type.list_size
        return Origin(**about, dimension=dimension, encoder_id=None if encoder is None else encoder.decode())


def read_part(part: AnyPath, columns: Collection[str]) -> Columns:
    """Some columns of all rows of a part; no others are read.

    Raises:
        VsslError: it can't be read, or is not a part.
    """
    with _opened(part) as file:
        dimension = file.schema_arrow.field("embedding").type.list_size
        there = [name for name in columns if name not in LATER or name in file.schema_arrow.names]
        table = _read(file, part, there)
        found: Columns = {name: _values(table[name], name, dimension) for name in there}
        lacking = {"label": [None] * file.metadata.num_rows, "familiarity": None}
        found |= {name: lacking[name] for name in columns if name not in found}
        return checked(found, columns, dimension)


def read_columns(part: AnyPath, columns: list[str] | None = None) -> pa.Table:
    """A table of some columns of a part, or of all.

    Raises:
        VsslError: it can't be read, or is not a part.
    """
    with _opened(part) as file:
        return _read(file, part, columns)


def _vector_column(values: Float32s, origin: Origin, failed: Mask) -> pa.Array:
    kind = schema(origin).field("embedding").type
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=kind, mask=pa.array(failed))


def _optional_column(values: Float32s | None, rows: int) -> pa.Array:
    return pa.nulls(rows, pa.float32()) if values is None else pa.array(values, mask=np.isnan(values))


def _flags_column(flags: dict[str, Mask] | None, failed: Mask) -> pa.Array:
    kind = pa.struct([(name, pa.bool_()) for name in FLAGS])
    if flags is None:
        return pa.nulls(len(failed), kind)
    values = [pa.array(flags[name]) for name in FLAGS]
    return pa.StructArray.from_arrays(values, fields=list(kind), mask=pa.array(failed))


def _values(column: pa.ChunkedArray, name: str, dimension: int) -> Any:  # noqa: ANN401 — see `Columns`
    if name in TEXTS:
        return column.to_pylist()
    if name in ("embedding", "variance"):
        return _vectors(column, dimension)
    if name == "flags":
        flags = column.combine_chunks()
        there = [flag for flag in FLAGS if flags.type.get_field_index(flag) >= 0]
        every = {flag: pc.fill_null(flags.field(flag), False).to_numpy(zero_copy_only=False) for flag in there}
        return None if flags.null_count == len(flags) else every_flag(every)
    if name == "size":
        return pc.fill_null(column, -1).to_numpy()
    missing = column.null_count == len(column) and name != "uncertainty"
    return None if missing else column.to_numpy(zero_copy_only=False)


def _vectors(column: pa.ChunkedArray, dimension: int) -> Float32s:
    flat: Float32s = column.combine_chunks().flatten().to_numpy()
    vectors = flat.reshape(-1, dimension)
    if len(vectors) == len(column):
        return vectors
    every = np.full((len(column), dimension), np.nan, np.float32)
    every[column.is_valid().to_numpy()] = vectors
    return every


@contextmanager
def _sink(file: AnyPath) -> Iterator[IO[bytes]]:
    if isinstance(file, ObjectPath):
        data = BytesIO()
        yield data
        file.write(data.getvalue())
    else:
        with atomic_write(file) as sink:
            yield sink


def _read(file: pq.ParquetFile, part: AnyPath, columns: Collection[str] | None) -> pa.Table:
    # pyarrow's threads would still hold a Python file while the process ends, and abort it.
    return file.read(columns, use_threads=not isinstance(part, ObjectPath))


@contextmanager
def _opened(part: AnyPath) -> Iterator[pq.ParquetFile]:
    if isinstance(part, ObjectPath):
        with reading(part), RangeFile.opened(part) as stored, pq.ParquetFile(stored) as file:
            yield file
        return
    # The path as bytes: pyarrow refuses text that is not valid UTF-8. Not a Python file: see `_read`.
    with reading(part), pa.OSFile(os.fsencode(part)) as handle, pq.ParquetFile(handle) as file:
        yield file
