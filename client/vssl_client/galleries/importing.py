"""A folder of embeddings into a gallery, without embedding again."""

from pathlib import Path

from vssl.errors import UsageError
from vssl_client.parts.finding import find_parts
from vssl_gallery import importing
from vssl_gallery.gallery import Gallery


def import_parts(out: Path, gallery: Gallery) -> tuple[int, int]:
    """Put the rows of a folder's Parquet parts; see `vssl_gallery.importing.import_parts`.

    Raises:
        UsageError: the folder has no Parquet parts.
    """
    format, parts = find_parts(out)
    if format.SUFFIX != ".parquet":
        raise UsageError(f"{out}: holds {format.SUFFIX} files; galleries are filled from Parquet")
    return importing.import_parts(parts, gallery)
