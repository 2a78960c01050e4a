"""Embedded images as rows of a gallery: what is known of each, its picture, and its numbers."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from PIL import Image

from vssl.arrays import Float32s, Floats, Mask
from vssl.images.decoding import ImageError, load, open_guarded, turn_of, turned
from vssl.uncertainty.calibrated import FLAGS
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
"""A gallery's own fields of an image."""


class Numbers(Protocol):
    """What a model and its calibration say of N images; what is None, they don't say."""

    @property
    def embedding(self) -> Float32s:
        """[N, D], of unit length."""

    @property
    def variance(self) -> Float32s:
        """[N, D]."""

    @property
    def uncertainty(self) -> Float32s:
        """[N]."""

    @property
    def percentile(self) -> Floats | None:
        """[N]."""

    @property
    def confidence(self) -> Floats | None:
        """[N]."""

    @property
    def familiarity(self) -> Floats | None:
        """[N]."""

    @property
    def flags(self) -> Mapping[str, Mask] | None:
        """Each [N]."""


@dataclass(frozen=True)
class Described:
    """What is known of an image beside its pixels: `id` is its path too, `meta` JSON, `fields` the gallery's own."""

    id: str
    sha256: str | None
    size: int | None
    label: str | None = None
    meta: str | None = None
    fields: Fields = field(default_factory=dict)

    @classmethod
    def of(cls, data: bytes, id: str, label: str | None, meta: object, fields: Fields) -> "Described":
        """An image file with what was said of it. Errors as `meta_text`."""
        return cls(id, hashlib.sha256(data).hexdigest(), len(data), label or None, meta_text(meta), fields)

    def unfit(self, spec: Spec) -> str | None:
        """Why a gallery can't hold the image so, or None."""
        limits = (("id", self.id, MAX_NAME_BYTES), ("label", self.label, MAX_NAME_BYTES))
        for name, text, most in (*limits, ("meta", self.meta, MAX_META_BYTES)):
            if (reason := too_long(text, most)) is not None:
                return f"{name}: {reason}"
        if unknown := self.fields.keys() - spec.fields.keys():
            return f"field {min(unknown)!r} is none of this gallery's; put it into meta"
        try:
            for name, kind in spec.fields.items():
                typed(name, kind, self.fields.get(name))
        except InvalidRows as error:
            return str(error)
        return None


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


def image_rows(
    images: Sequence[Described],
    pictures: Sequence[Picture],
    numbers: Numbers,
    spec: Spec,
    precision: str | None = None,
) -> pa.Table:
    """The rows of N embedded images, none of which failed or is unfit; `precision` of the model, where it is known.

    Raises:
        InvalidRows: a field holds a value of another type than the gallery declares.
    """
    count = len(images)
    columns: dict[str, Any] = {
        "id": [one.id for one in images],
        "sha256": pa.array([one.sha256 for one in images], pa.string()),
        "size": pa.array([one.size for one in images], pa.int64()),
        "embedding": vector_column(numbers.embedding.reshape(count, spec.dimension)),
        "variance": vector_column(numbers.variance.reshape(count, spec.dimension)),
        "uncertainty": _singles(numbers.uncertainty, count),
        "percentile": _singles(numbers.percentile, count),
        "confidence": _singles(numbers.confidence, count),
        "familiarity": _singles(numbers.familiarity, count),
        "label": pa.array([one.label for one in images], pa.string()),
        "width": pa.array([width for width, _, _ in pictures], pa.int64()),
        "height": pa.array([height for _, height, _ in pictures], pa.int64()),
        "thumbnail": pa.array([thumbnail for _, _, thumbnail in pictures], pa.binary()),
        "meta": pa.array([one.meta for one in images], pa.string()),
        "precision": pa.array([precision] * count, pa.string()),
    }
    for flag in FLAGS:
        columns[flag] = pa.nulls(count, pa.bool_()) if numbers.flags is None else pa.array(numbers.flags[flag])
    for name, kind in spec.fields.items():
        columns[name] = pa.array([typed(name, kind, one.fields.get(name)) for one in images], TYPES[kind])
    return pa.table(columns)


def meta_text(meta: object) -> str | None:
    """Any JSON as a row keeps it; None for None.

    Raises:
        InvalidRows: it is too deep.
    """
    try:
        return None if meta is None else json.dumps(meta, ensure_ascii=False, default=str)
    except RecursionError:
        raise InvalidRows("meta: is too deep") from None


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
