"""A folder of embeddings into a gallery, without embedding again."""

from pathlib import Path

from vssl.errors import UsageError
from vssl_client.parts.finding import find_parts
from vssl_gallery.errors import InvalidRows
from vssl_gallery.gallery import Gallery
from vssl_gallery.store.part_rows import rows_of_part


def import_parts(out: Path, gallery: Gallery) -> tuple[int, int]:
    """Put the rows of a folder's Parquet parts: how many, and how many have no embedding. A row's id is its path.

    Raises:
        InvalidRows: a row is none that a gallery takes; the parts before it are in.
        UsageError: the folder has no Parquet parts, or does not say of which encoder they are.
        EncoderMismatch: they are of another one.
    """
    import pyarrow.parquet as pq

    format, parts = find_parts(out)
    if format.SUFFIX != ".parquet":
        raise UsageError(f"{out}: holds {format.SUFFIX} files; galleries are filled from Parquet")
    rows = failed = 0
    for part in parts:
        table = pq.read_table(part)
        encoder = (table.schema.metadata or {}).get(b"vssl.encoder_id")
        if encoder is None:
            raise UsageError(f"{part}: does not say of which encoder it is; embed these images again")
        gallery.check_encoder(encoder.decode())
        put = rows_of_part(table, gallery.spec)
        failed += table.num_rows - put.num_rows
        try:
            rows += gallery.add(put).rows
        except InvalidRows as error:
            raise InvalidRows(f"{part}: {error}") from error
    return rows, failed
