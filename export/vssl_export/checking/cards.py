"""Test cards: pictures made here, whose pixels and embeddings must be the same on every machine."""

import hashlib
import io

import numpy as np
from PIL import Image

from vssl.arrays import Pixels
from vssl.engine import OUTPUTS, Embeddings
from vssl.errors import VsslError
from vssl.images.decoding import Preprocessing, decode

REFERENCE = "reference.f32"
"""File of the bundle that holds what torch answered for the cards."""


def card(mode: str) -> bytes:
    """A PNG of 320 × 240 with edges and gradients, on its side by EXIF; pillow's `mode` is RGB, RGBA or L."""
    y, x = np.mgrid[0:240, 0:320]
    channels = [x * 255 // 319, y * 255 // 239, (x ^ y) & 255, 255 - (x + y) // 3]
    image = Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8), "RGBA").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    return file.getvalue()


def cards(preprocessing: Preprocessing) -> Pixels:
    """The pixels that the preprocessing makes of three cards, uint8 [3, S, S, 3]."""
    return np.stack([decode(card(mode), preprocessing) for mode in ("RGB", "RGBA", "L")])


def preprocessing_sha256(preprocessing: Preprocessing) -> str:
    """Hash of the cards' pixels here; the same wherever a bundle may be served."""
    return hashlib.sha256(cards(preprocessing).tobytes()).hexdigest()


def pack(answer: Embeddings) -> bytes:
    """An answer as `REFERENCE` holds it: float32, little-endian, all embeddings, then variances, then uncertainties."""
    return b"".join(getattr(answer, name).astype("<f4").tobytes() for name in OUTPUTS)


def unpack(data: bytes, dimension: int) -> Embeddings:
    """What `pack` made, for vectors of this dimension.

    Raises:
        VsslError: it is something else.
    """
    rows, rest = divmod(len(data), 4 * (2 * dimension + 1))
    if rest:
        raise VsslError(f"{REFERENCE} does not hold vectors of {dimension} numbers")
    numbers = np.frombuffer(data, "<f4").astype(np.float32)
    embedding, variance, uncertainty = np.split(numbers, [rows * dimension, 2 * rows * dimension])
    return Embeddings(embedding.reshape(rows, dimension), variance.reshape(rows, dimension), uncertainty)
