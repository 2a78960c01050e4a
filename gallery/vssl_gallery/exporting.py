"""Rows of a gallery as a file, written piece by piece: one batch of them is in memory at a time."""

import io
from collections.abc import Iterator
from typing import Literal

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from vssl_gallery.store.columns import UNFILTERED
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.rows import schema
from vssl_gallery.view import View, Where

FileKind = Literal["csv", "parquet"]


def exported(view: View, kind: FileKind, where: Where = None) -> Iterator[tuple[bytes, int]]:
    """The bytes of the file, piece by piece, and how many rows each piece brings; the rows come in no order.

    CSV has no vectors and no thumbnails.
    """
    columns = _columns(view.gallery.spec, kind)
    names = [name for name in columns.names if name != "id"]
    sink = _Pieces()
    with (pq.ParquetWriter if kind == "parquet" else pa_csv.CSVWriter)(sink, columns) as writer:
        for batch in view.scan(where, names):
            writer.write_table(pa.Table.from_batches([batch.select(columns.names)]).cast(columns))
            yield sink.taken(), batch.num_rows
    yield sink.taken(), 0


def _columns(spec: Spec, kind: FileKind) -> pa.Schema:
    left_out = set() if kind == "parquet" else set(UNFILTERED) - {"meta"}
    return pa.schema([field for field in schema(spec) if field.name not in left_out])


class _Pieces(io.RawIOBase):
    """A file whose bytes are taken away as they come."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self._pieces.append(bytes(data))  # type: ignore[call-overload]
        return len(self._pieces[-1])

    def close(self) -> None:
        """A writer closes it before its last bytes are taken."""

    def taken(self) -> bytes:
        """What has been written since."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
