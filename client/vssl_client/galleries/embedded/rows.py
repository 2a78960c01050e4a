"""Embedded images as rows of a gallery."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from vssl.arrays import Floats
from vssl.images.decoding import ImageError, load, open_guarded, turn_of, turned
from vssl.uncertainty.calibrated import FLAGS
from vssl_client.galleries.asked import Item
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


@dataclass(frozen=True)
class Described:
    """What is known of an image beside its pixels: `id` is its path too, `meta` JSON, `fields` the gallery's own."""

    id: str
    sha256: str | None
    size: int | None
    label: str | None = None
    meta: str | None = None
    fields: Fields = field(default_factory=dict)

    def unfit(self) -> str | None:
        """Why a gallery can't hold the image so, or None."""
        limits = (("id", self.id, MAX_NAME_BYTES), ("label", self.label, MAX_NAME_BYTES))
        for name, text, most in (*limits, ("meta", self.meta, MAX_META_BYTES)):
            if (reason := too_long(text, most)) is not None:
                return f"{name}: {reason}"
        return None


def described(item: Item, id: str, data: bytes) -> Described:
    """An image that was given with what is known of it."""
    meta = None if item.meta is None else json.dumps(item.meta, ensure_ascii=False, default=str)
    return Described(id, hashlib.sha256(data).hexdigest(), len(data), item.label, meta, item.fields)


def gallery_rows(
    images: Sequence[Described], pictures: Sequence[Picture], result: EmbeddingResult, spec: Spec
) -> pa.Table:
    """The rows of N embedded images, none of which failed.

    Raises:
        InvalidRows: a field is none of the gallery's, or holds a value of another type than it declares.
    """
    count = len(images)
    columns: dict[str, Any] = {
        "id": [one.id for one in images],
        "sha256": pa.array([one.sha256 for one in images], pa.string()),
        "size": pa.array([one.size for one in images], pa.int64()),
        "embedding": vector_column(result.embedding.reshape(count, spec.dimension)),
        "variance": vector_column(result.variance.reshape(count, spec.dimension)),
        "uncertainty": _singles(result.uncertainty, count),
        "percentile": _singles(result.percentile, count),
        "confidence": _singles(result.confidence, count),
        "familiarity": _singles(result.familiarity, count),
        "label": pa.array([one.label for one in images], pa.string()),
        "width": pa.array([width for width, _, _ in pictures], pa.int64()),
        "height": pa.array([height for _, height, _ in pictures], pa.int64()),
        "thumbnail": pa.array([thumbnail for _, _, thumbnail in pictures], pa.binary()),
        "meta": pa.array([one.meta for one in images], pa.string()),
    }
    unknown = {name for one in images for name in one.fields} - set(spec.fields)
    if unknown:
        raise InvalidRows(f"field {min(unknown)!r} is none of this gallery's; put it into meta")
    for flag in FLAGS:
        columns[flag] = pa.nulls(count, pa.bool_()) if result.flags is None else pa.array(result.flags[flag])
    for name, kind in spec.fields.items():
        columns[name] = pa.array([typed(name, kind, one.fields.get(name)) for one in images], TYPES[kind])
    return pa.table(columns)


def too_long(text: str | None, most: int) -> str | None:
    """Why a text is none that a gallery holds, or None."""
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


def _singles(values: Floats | None, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, pa.float32())
    return pa.array(values, pa.float32(), mask=~np.isfinite(values))
