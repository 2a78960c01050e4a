"""Rows of a gallery as a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vssl.errors import UsageError
from vssl.files import atomic_write
from vssl_gallery.exporting import FileKind, exported
from vssl_gallery.gallery import Gallery
from vssl_gallery.view import View

KINDS: Mapping[str, FileKind] = {".csv": "csv", ".parquet": "parquet"}


def export_rows(gallery: Gallery, out: Path, where: Mapping[str, Any] | None = None) -> int:
    """Write the rows that match, in no order; how many there were. CSV has no vectors and no thumbnails.

    Raises:
        UsageError: the file's name says neither CSV nor Parquet.
    """
    kind = KINDS.get(out.suffix.lower())
    if kind is None:
        raise UsageError(f"{out}: name a file that ends in .csv or .parquet")
    rows = 0
    with atomic_write(out) as file:
        for piece, number in exported(View(gallery), kind, where):
            file.write(piece)
            rows += number
    return rows
