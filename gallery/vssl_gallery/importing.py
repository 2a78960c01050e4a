"""Parquet files that `vssl embed` wrote into a gallery, without embedding again."""

from collections.abc import Sequence
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from vssl.errors import UsageError
from vssl.objects.path import AnyPath, ObjectPath
from vssl_gallery.errors import InvalidRows
from vssl_gallery.gallery import Gallery
from vssl_gallery.store.contract import Progress, Spec, no_progress
from vssl_gallery.store.part_rows import rows_of_part


def import_parts(parts: Sequence[AnyPath], gallery: Gallery, progress: Progress = no_progress) -> tuple[int, int]:
    """Put the rows of these files: how many, and how many have no embedding. A row's id is its path.

    Raises:
        InvalidRows: a row is none that a gallery takes; the files before it are in.
        UsageError: a file is no Parquet, or does not say of which encoder it is.
        EncoderMismatch: it is of another one.
    """
    rows = failed = 0
    for number, part in enumerate(parts):
        progress(number / len(parts))
        put, without = read_part(part, gallery.spec, gallery.name)
        failed += without
        try:
            rows += gallery.add(put).rows
        except InvalidRows as error:
            raise InvalidRows(f"{part}: {error}") from error
    return rows, failed


def read_part(part: AnyPath, spec: Spec, name: str) -> tuple[pa.Table, int]:
    """A file's rows for the gallery of that name, and how many of them have no embedding.

    Raises:
        UsageError, EncoderMismatch: as `import_parts`.
    """
    try:
        table = pq.read_table(BytesIO(part.read()) if isinstance(part, ObjectPath) else part)
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"{part}: can't be read: {str(error).splitlines()[0]}") from error
    encoder = (table.schema.metadata or {}).get(b"vssl.encoder_id")
    if encoder is None:
        raise UsageError(f"{part}: does not say of which encoder it is; embed these images again")
    spec.check_encoder(encoder.decode(), name)
    put = rows_of_part(table, spec)
    return put, table.num_rows - put.num_rows
