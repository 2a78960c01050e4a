"""A folder of embeddings into a gallery, without embedding again."""

from pathlib import Path

from vssl.errors import UsageError
from vssl_client.filling.contract import spec_of
from vssl_client.galleries.blocking import Gallery
from vssl_client.parts.finding import find_parts
from vssl_gallery.errors import InvalidRows
from vssl_gallery.importing import read_part

BATCH_ROWS = 4096
"""Rows in one write."""


def import_parts(out: Path, gallery: Gallery) -> tuple[int, int]:
    """Put the rows of a folder's Parquet parts: how many, and how many have no embedding. A row's id is its path.

    Raises:
        InvalidRows: a row is none that a gallery takes; what was written before it stays.
        UsageError: the folder has no Parquet parts, or one does not say of which encoder it is.
        EncoderMismatch: one is of another encoder.
    """
    format, parts = find_parts(out)
    if format.SUFFIX != ".parquet":
        raise UsageError(f"{out}: holds {format.SUFFIX} files; galleries are filled from Parquet")
    info = gallery.info()
    rows = failed = 0
    for part in parts:
        put, without = read_part(part, spec_of(info), info.name)
        failed += without
        try:
            for start in range(0, put.num_rows, BATCH_ROWS):
                rows += gallery.put(put.slice(start, BATCH_ROWS)).rows
        except InvalidRows as error:
            raise InvalidRows(f"{part}: {error}") from error
    return rows, failed
