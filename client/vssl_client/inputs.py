"""The forms in which a caller can hand an image over → one encoded image."""

import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vssl.preprocessing import DEFAULT_LIMITS, ImageError, Preprocessing, decode, rotate, to_rgb
from vssl.sources import within
from vssl_client.errors import ImageRejected

ImageInput = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
"""A path, an encoded image, a PIL image, or uint8 pixels [H, W, 3] in RGB."""


def check_list(images: Iterable[ImageInput]) -> None:
    """Refuse a single image where a list is wanted: a path would be taken letter by letter."""
    single = isinstance(images, (str, bytes, os.PathLike, Image.Image))
    if single or (isinstance(images, np.ndarray) and images.ndim != 4):
        raise TypeError("give a list of images (or another iterable of them), not a single one")


def snapshot(image: ImageInput, index: int) -> ImageInput:
    """The image as it is now: an iterator may reuse its array or its image object for the next one.

    Raises:
        TypeError: it is none of the accepted forms.
    """
    if isinstance(image, Image.Image):
        return image.copy()
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            shape = " × ".join(map(str, image.shape))
            raise TypeError(f"image {index} is an array of {image.dtype}, {shape}; it must be uint8 [H, W, 3] in RGB")
        return image.copy()
    if isinstance(image, (str, bytes, os.PathLike)):
        return image
    raise TypeError(f"image {index} is a {type(image).__name__}; give a path, bytes, a PIL image or a numpy array")


def weight(image: ImageInput) -> int:
    """Bytes that it takes up in memory now; a path takes none until it is read."""
    if isinstance(image, Image.Image):
        return image.width * image.height * len(image.getbands())
    if isinstance(image, np.ndarray):
        return image.nbytes
    return len(image) if isinstance(image, bytes) else 0


def name_of(image: ImageInput) -> str | None:
    """The path of an image that came as one."""
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else None


def encoded(image: ImageInput, max_bytes: int = DEFAULT_LIMITS.max_bytes) -> bytes:
    """The bytes of an image file; pixels become a PNG, without loss.

    Raises:
        ImageError: over the limit of bytes, or of a mode that is no picture.
        OSError: the file can't be read.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, (str, os.PathLike)):
        with Path(image).open("rb") as file:
            return within(file.read(max_bytes + 1), max_bytes)
    if isinstance(image, np.ndarray):
        picture = Image.fromarray(image)
    else:
        rotate(image)  # a PNG would lose the orientation
        picture = to_rgb(image)
    png = io.BytesIO()
    picture.save(png, "PNG", compress_level=1)
    return png.getvalue()


def decode_all(
    images: Sequence[bytes], preprocessing: Preprocessing, max_bytes: int = DEFAULT_LIMITS.max_bytes
) -> tuple[npt.NDArray[np.uint8], list[ImageRejected | None]]:
    """Pixels uint8 [M, S, S, 3] of the images that can be decoded, and for each image why it can't, or None."""
    pixels = np.empty((len(images), preprocessing.size, preprocessing.size, 3), np.uint8)
    errors: list[ImageRejected | None] = []
    good, limits = 0, replace(DEFAULT_LIMITS, max_bytes=max_bytes)
    for image in images:
        try:
            pixels[good] = decode(image, preprocessing, limits)
            errors.append(None)
            good += 1
        except ImageError as error:
            errors.append(ImageRejected(error.type, str(error)))
    return pixels[:good], errors
