"""Embedded images as rows of a gallery."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import ImageOps

from vssl.arrays import Floats
from vssl.images.decoding import ImageError, open_guarded
from vssl.uncertainty.calibrated import FLAGS
from vssl_client.folder.reading import ImageFile
from vssl_client.results.result import EmbeddingResult
from vssl_gallery.errors import InvalidRows
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.filters import as_value
from vssl_gallery.store.rows import TYPES, vector_column

SIDE, QUALITY = 256, 80
"""Of a thumbnail: its longer side in pixels, and its JPEG quality."""

Picture = tuple[int | None, int | None, bytes | None]
"""Width and height of an image as it is shown, and its thumbnail; None where it can't be drawn."""

Fields = Mapping[str, object]
"""What is known of an image beside its pixels: the gallery's fields, `label`, and anything else, which goes to meta."""


def picture(data: bytes, thumbnail: bool) -> Picture:
    """The size of an image, and a small JPEG that is drawn anew: nothing of the file itself, so no place or camera."""
    try:
        image = open_guarded(data)
        width, height = image.size
        if thumbnail:
            image.draft("RGB", (2 * SIDE, 2 * SIDE))
        turned = image.getexif().get(0x0112, 1) >= 5
        size = (height, width) if turned else (width, height)
        if not thumbnail:
            return *size, None
        drawn = ImageOps.exif_transpose(image).convert("RGB")
        drawn.thumbnail((SIDE, SIDE))
        file = io.BytesIO()
        drawn.save(file, "JPEG", quality=QUALITY)
        return *size, file.getvalue()
    except (ImageError, OSError, ValueError, SyntaxError):  # what pillow raises for an image that it can't draw
        return None, None, None


def gallery_rows(
    files: Sequence[ImageFile],
    pictures: Sequence[Picture],
    result: EmbeddingResult,
    fields: Sequence[Fields],
    spec: Spec,
    precision: str | None = None,
) -> pa.Table:
    """The rows of those images that were embedded; an image's id is its path.

    Raises:
        InvalidRows: a field holds a value of another type than the gallery declares.
    """
    rows = [row for row, error in enumerate(result.errors) if error is None]
    given = [fields[row] for row in rows]
    columns: dict[str, Any] = {
        "id": [files[row].path for row in rows],
        "sha256": [files[row].sha256 for row in rows],
        "size": pa.array([files[row].size for row in rows], pa.int64()),
        "embedding": vector_column(result.embedding[rows]),
        "variance": vector_column(result.variance[rows]),
        "uncertainty": _singles(result.uncertainty, rows),
        "percentile": _singles(result.percentile, rows),
        "confidence": _singles(result.confidence, rows),
        "familiarity": _singles(result.familiarity, rows),
        "precision": pa.array([precision] * len(rows), pa.string()),
        "label": pa.array([_label(files[row], fields[row]) for row in rows], pa.string()),
        "width": pa.array([pictures[row][0] for row in rows], pa.int64()),
        "height": pa.array([pictures[row][1] for row in rows], pa.int64()),
        "thumbnail": pa.array([pictures[row][2] for row in rows], pa.binary()),
        "meta": pa.array([_meta(one, spec) for one in given], pa.string()),
    }
    for flag in FLAGS:
        columns[flag] = pa.nulls(len(rows), pa.bool_()) if result.flags is None else pa.array(result.flags[flag][rows])
    for name, kind in spec.fields.items():
        columns[name] = pa.array([typed(name, kind, one.get(name)) for one in given], TYPES[kind])
    return pa.table(columns)


def typed(name: str, kind: Any, value: object) -> object:  # noqa: ANN401 — a kind of column
    """A value as its field takes it; numbers and truth may come as text, as CSV has them. "" is none.

    Raises:
        InvalidRows: it can't be taken so.
    """
    if value is None or (value == "" and kind != "text"):
        return None
    if isinstance(value, str) and kind in ("integer", "number", "boolean"):
        value = _read(value)
    try:
        return as_value(kind, value)
    except ValueError as error:
        raise InvalidRows(f"field {name!r}: {error}") from None


def _read(text: str) -> object:
    try:
        return json.loads(text.strip().lower())
    except ValueError:
        return text


def _label(file: ImageFile, fields: Fields) -> str | None:
    label = fields.get("label", file.label)
    return None if label in (None, "") else str(label)


def _meta(fields: Fields, spec: Spec) -> str | None:
    rest = {name: value for name, value in fields.items() if name not in spec.fields and name != "label"}
    return json.dumps(rest, ensure_ascii=False, default=str) if rest else None


def _singles(values: Floats | None, rows: Sequence[int]) -> pa.Array:
    if values is None:
        return pa.nulls(len(rows), pa.float32())
    chosen = values[np.array(rows, np.int64)]
    return pa.array(chosen, pa.float32(), mask=~np.isfinite(chosen))
