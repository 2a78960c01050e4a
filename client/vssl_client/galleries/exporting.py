"""Rows of a gallery as a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from vssl.errors import UsageError
from vssl.files import atomic_write
from vssl_gallery.gallery import Gallery
from vssl_gallery.store.columns import UNFILTERED
from vssl_gallery.store.rows import schema


def export_rows(gallery: Gallery, out: Path, where: Mapping[str, Any] | None = None) -> int:
    """Write the rows that match, in no order; how many there were. CSV has no vectors and no thumbnails.

    Raises:
        UsageError: the file's name says neither CSV nor Parquet.
    """
    kind = out.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise UsageError(f"{out}: name a file that ends in .csv or .parquet")
    stored = schema(gallery.spec)
    left_out = set() if kind == ".parquet" else set(UNFILTERED) - {"meta"}
    columns = pa.schema([field for field in stored if field.name not in left_out])
    names = [name for name in columns.names if name != "id"]
    rows = 0
    with atomic_write(out) as file:
        opened = pq.ParquetWriter if kind == ".parquet" else pa_csv.CSVWriter
        with opened(file, columns) as writer:
            for batch in gallery.store.scan(gallery.parse(where), names):
                writer.write_table(pa.Table.from_batches([batch.select(columns.names)]).cast(columns))
                rows += batch.num_rows
    return rows
