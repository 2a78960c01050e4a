"""Embedded images as rows of a gallery."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from vssl.arrays import Floats
from vssl.images.decoding import ImageError, load, open_guarded, turn_of, turned
from vssl.uncertainty.calibrated import FLAGS
from vssl_client.folder.reading import ImageFile
from vssl_client.results.result import EmbeddingResult
from vssl_gallery.errors import InvalidRows
from vssl_gallery.store.columns import MAX_META_BYTES, MAX_NAME_BYTES
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.filters import as_value
from vssl_gallery.store.rows import TYPES, vector_column

SIDE, QUALITY = 256, 80
"""Of a thumbnail: its longer side in pixels, and its JPEG quality."""

SIDEWAYS = frozenset(
    {
        Image.Transpose.TRANSPOSE,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
        Image.Transpose.ROTATE_270,
    }
)
"""Turns that swap width and height."""

Picture = tuple[int | None, int | None, bytes | None]
"""Width and height of an image as it is shown, and its thumbnail; None where it can't be drawn."""

Fields = Mapping[str, object]
"""What is known of an image beside its pixels: the gallery's fields, `label`, and anything else, which goes to meta."""


def picture(data: bytes, thumbnail: bool) -> Picture:
    """The size of an image, and a small JPEG that is drawn anew: nothing of the file itself, so no place or camera."""
    try:
        image = open_guarded(data)
        width, height = image.size
        if not thumbnail:
            return (width, height, None) if turn_of(image) not in SIDEWAYS else (height, width, None)
        # A JPEG's own decoder draws it smaller; twice the thumbnail's side is left to be averaged.
        rgb, turn = load(image, next((scale for scale in (8, 4, 2) if 2 * SIDE * scale <= max(image.size)), 1))
    except ImageError:
        return None, None, None
    drawn = turned(rgb, turn)
    drawn.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    drawn.save(file, "JPEG", quality=QUALITY)
    return (width, height, file.getvalue()) if turn not in SIDEWAYS else (height, width, file.getvalue())


def gallery_rows(
    files: Sequence[ImageFile],
    pictures: Sequence[Picture],
    result: EmbeddingResult,
    fields: Sequence[Fields],
    spec: Spec,
) -> pa.Table:
    """The rows of N embedded images, none of which failed; an image's id is its path.

    Raises:
        InvalidRows: a field holds a value of another type than the gallery declares.
    """
    count = len(files)
    columns: dict[str, Any] = {
        "id": [file.path for file in files],
        "sha256": [file.sha256 for file in files],
        "size": pa.array([file.size for file in files], pa.int64()),
        "embedding": vector_column(result.embedding.reshape(count, spec.dimension)),
        "variance": vector_column(result.variance.reshape(count, spec.dimension)),
        "uncertainty": _singles(result.uncertainty, count),
        "percentile": _singles(result.percentile, count),
        "confidence": _singles(result.confidence, count),
        "familiarity": _singles(result.familiarity, count),
        "label": pa.array([label_of(file, one) for file, one in zip(files, fields, strict=True)], pa.string()),
        "width": pa.array([width for width, _, _ in pictures], pa.int64()),
        "height": pa.array([height for _, height, _ in pictures], pa.int64()),
        "thumbnail": pa.array([thumbnail for _, _, thumbnail in pictures], pa.binary()),
        "meta": pa.array([meta_of(one, spec) for one in fields], pa.string()),
    }
    for flag in FLAGS:
        columns[flag] = pa.nulls(count, pa.bool_()) if result.flags is None else pa.array(result.flags[flag])
    for name, kind in spec.fields.items():
        columns[name] = pa.array([typed(name, kind, one.get(name)) for one in fields], TYPES[kind])
    return pa.table(columns)


def check_fields_of(known: Mapping[str, Fields], spec: Spec) -> None:
    """Refuse fields that the gallery can't take, before anything is embedded.

    Args:
        known: of each image by its path.
        spec: of the gallery.

    Raises:
        InvalidRows: a value of another type than declared, or a text that is too long; names the image and the field.
    """
    for path, fields in known.items():
        try:
            for name, kind in spec.fields.items():
                typed(name, kind, fields.get(name))
        except InvalidRows as error:
            raise InvalidRows(f"{path}: {error}") from None
        label, meta = label_of(ImageFile(path), fields), meta_of(fields, spec)
        for name, text, most in (("label", label, MAX_NAME_BYTES), ("meta", meta, MAX_META_BYTES)):
            if (reason := _too_long(text, most)) is not None:
                raise InvalidRows(f"{path}: {name}: {reason}")


def unfit(file: ImageFile, fields: Fields) -> str | None:
    """Why a gallery can't hold an image under its path or with its label, or None."""
    for name, text in (("path", file.path), ("label", label_of(file, fields))):
        if (reason := _too_long(text, MAX_NAME_BYTES)) is not None:
            return f"{name}: {reason}"
    return None


def _too_long(text: str | None, most: int) -> str | None:
    if text is None:
        return None
    if "\0" in text:
        return "holds a NUL character"
    size = len(text.encode(errors="replace"))
    return None if size <= most else f"{size:,} bytes; a gallery takes at most {most:,}"


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


def label_of(file: ImageFile, fields: Fields) -> str | None:
    """The label in the fields, else the one in the source; "" is none."""
    label = fields.get("label", file.label)
    return None if label in (None, "") else str(label)


def meta_of(fields: Fields, spec: Spec) -> str | None:
    """What no column holds, as JSON."""
    rest = {name: value for name, value in fields.items() if name not in spec.fields and name != "label"}
    return json.dumps(rest, ensure_ascii=False, default=str) if rest else None


def _singles(values: Floats | None, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, pa.float32())
    return pa.array(values, pa.float32(), mask=~np.isfinite(values))
