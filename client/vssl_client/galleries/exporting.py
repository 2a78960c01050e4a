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
    """Write the rows that match, by id; how many there were. CSV has no vectors and no thumbnails.

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
    batches = [batch.select(columns.names) for batch in gallery.store.scan(gallery.parse(where), names)]
    rows = pa.Table.from_batches(batches).cast(columns) if batches else columns.empty_table()
    rows = rows.sort_by("id")
    with atomic_write(out) as file:
        pq.write_table(rows, file) if kind == ".parquet" else pa_csv.write_csv(rows, file)
    return int(rows.num_rows)
