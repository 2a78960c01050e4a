"""The Parquet table of embeddings: one schema in every part of every folder, its writer and its reader.

One row an image, in the order of the source:

- `path`: string, relative to the source, with forward slashes (`vssl.sources.encode_name`)
- `sha256`: string, of the file's bytes, in hexadecimal; null if they can't be read
- `size`: int64, the file's bytes; null likewise
- `embedding`, `variance`: fixed_size_list<float32>[D]; null where the image could not be embedded
- `uncertainty`: float32; null likewise
- `percentile`, `confidence`: float32; null also where the model has no calibration
- `flags`: struct<degraded: bool, ood: bool>; null likewise
- `error`: string, `type: message`; null where the image was embedded

The schema's metadata say where the rows come from: `vssl.model`, `vssl.version`, `vssl.id`, `vssl.source`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vssl.calibration import FLAGS
from vssl.errors import UsageError, VsslError
from vssl.files import atomic_write
from vssl_client.formats import parts_of
from vssl_client.result import Flags, Floats, Mask
from vssl_client.rows import ABOUT, Origin, Rows, unreadable

SUFFIX = ".parquet"


@dataclass(frozen=True)
class StoredEmbeddings:
    """The M embedded images of a folder of parts, in the order of their source.

    Attributes:
        paths: M paths relative to the source.
        embedding: float32 [M, D].
        variance: float32 [M, D].
        uncertainty: float32 [M].
        percentile: float32 [M], or None without a calibration.
        confidence: float32 [M], or None without a calibration.
        flags: `degraded` and `ood`, bool [M] each, or None without a calibration.
        failures: (path, reason) of every other image.
        origin: the model and the source.
    """

    paths: list[str]
    embedding: Floats
    variance: Floats
    uncertainty: Floats
    percentile: Floats | None
    confidence: Floats | None
    flags: Flags | None
    failures: list[tuple[str, str]]
    origin: Origin

    def __len__(self) -> int:
        return len(self.paths)


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
    }
    return pa.schema(columns.items(), metadata={f"vssl.{key}": getattr(origin, key) for key in ABOUT})


def as_table(origin: Origin, rows: Rows) -> pa.Table:
    """N rows as a table of the schema."""
    result = rows.result
    failed = ~result.ok
    columns = {
        "path": rows.paths,
        "sha256": rows.hashes,
        "size": rows.sizes,
        "embedding": _vector_column(result.embedding, origin, failed),
        "variance": _vector_column(result.variance, origin, failed),
        "uncertainty": pa.array(result.uncertainty, mask=failed),
        "percentile": _optional_column(result.percentile, len(result)),
        "confidence": _optional_column(result.confidence, len(result)),
        "flags": _flags_column(result.flags, failed),
        "error": rows.reasons,
    }
    return pa.table(columns, schema=schema(origin))


def write_part(file: Path, origin: Origin, rows: Rows) -> None:
    """Write one part of N rows, whole or not at all.

    Raises:
        OSError: the disk is full, or can't be written to.
    """
    table = as_table(origin, rows)
    with atomic_write(file) as sink:
        # Learned vectors hardly repeat: no dictionary, and no statistics, which nobody could search by.
        pq.write_table(table, sink, compression="zstd", use_dictionary=["error"], write_statistics=["path"])


def read_origin(part: Path) -> Origin:
    """Which model and which source a part comes from.

    Raises:
        VsslError: it is not a part that can be read.
    """
    with _opened(part) as file:
        found = file.schema_arrow
        about = {key: found.metadata[f"vssl.{key}".encode()].decode() for key in ABOUT}
        return Origin(**about, dimension=found.field("embedding").type.list_size)


def read_done(part: Path) -> tuple[list[str], list[str | None]]:
    """The paths in a part, and for each the reason why it has no embedding, or None.

    Raises:
        VsslError: it is not a part that can be read.
    """
    table = read_columns(part, ["path", "error"])
    return table["path"].to_pylist(), table["error"].to_pylist()


def read_columns(part: Path, columns: list[str] | None = None) -> pa.Table:
    """A table of some columns of a part, or of all.

    Raises:
        VsslError: it is not a part that can be read.
    """
    with _opened(part) as file:
        return file.read(columns)


def read_embeddings(folder: Path) -> StoredEmbeddings:
    """Read every part of a folder that `vssl embed` wrote.

    Raises:
        UsageError: there are none.
        VsslError: a part can't be read, or comes from another model than the first.
    """
    parts = parts_of(folder)
    if not parts:
        raise UsageError(f"{folder}: holds no embeddings; `vssl embed SOURCE -o {folder}` writes them")
    origin = read_origin(parts[0])
    tables = []
    failures: list[tuple[str, str]] = []
    for part in parts:
        if read_origin(part) != origin:
            raise VsslError(f"{part}: comes from another model or source than {parts[0].name}")
        table = read_columns(part)
        bad = table.filter(table["error"].is_valid())
        failures += zip(bad["path"].to_pylist(), bad["error"].to_pylist(), strict=True)
        tables.append(table.filter(table["error"].is_null()))
    table = pa.concat_tables(tables)
    flags = table["flags"].combine_chunks()
    return StoredEmbeddings(
        paths=table["path"].to_pylist(),
        embedding=_vectors(table["embedding"], origin.dimension),
        variance=_vectors(table["variance"], origin.dimension),
        uncertainty=table["uncertainty"].to_numpy(),
        percentile=_optional(table["percentile"]),
        confidence=_optional(table["confidence"]),
        flags=None if flags.null_count == len(flags) else {name: _optional(flags.field(name)) for name in FLAGS},
        failures=failures,
        origin=origin,
    )


def _vector_column(values: Floats, origin: Origin, failed: Mask) -> pa.Array:
    if values.shape[1] == 0:  # no image was embedded
        values = np.zeros((len(values), origin.dimension), np.float32)
    kind = schema(origin).field("embedding").type
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=kind, mask=pa.array(failed))


def _optional_column(values: Floats | None, rows: int) -> pa.Array:
    return pa.nulls(rows, pa.float32()) if values is None else pa.array(values, mask=np.isnan(values))


def _flags_column(flags: Flags | None, failed: Mask) -> pa.Array:
    kind = pa.struct([(name, pa.bool_()) for name in FLAGS])
    if flags is None:
        return pa.nulls(len(failed), kind)
    values = [pa.array(flags[name]) for name in FLAGS]
    return pa.StructArray.from_arrays(values, fields=list(kind), mask=pa.array(failed))


def _vectors(column: pa.ChunkedArray, dimension: int) -> Floats:
    flat: Floats = column.combine_chunks().flatten().to_numpy()
    return flat.reshape(-1, dimension)


def _optional(column: pa.ChunkedArray | pa.Array) -> Any:  # noqa: ANN401 — floats or booleans
    return None if column.null_count == len(column) else column.to_numpy(zero_copy_only=False)


@contextmanager
def _opened(part: Path) -> Iterator[pq.ParquetFile]:
    try:
        # The path as bytes: pyarrow takes no text that is not valid UTF-8. And not as a Python file: pyarrow's threads
        # would still hold it while the process ends, and abort it.
        with pa.OSFile(os.fsencode(part)) as handle, pq.ParquetFile(handle) as file:
            yield file
    except (pa.ArrowException, OSError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(part, error) from error
