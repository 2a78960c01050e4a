"""Photographs of a wanted size, as a phone writes them, made from others."""

import io

import numpy as np
from PIL import ExifTags, Image

from vssl.images.decoding import DEFAULT_LIMITS, load_rgb
from vssl.sources.opening import open_source

TURN = 6
"""EXIF's orientation of a phone held upright."""


def originals(location: str, count: int) -> list[bytes]:
    """So many files of a source, spread over all."""
    source = open_source(location)
    paths = list(source.paths())
    chosen = [paths[place] for place in np.linspace(0, len(paths) - 1, count).astype(int)]
    return [source.read(path, DEFAULT_LIMITS.max_bytes) for path in chosen]


def resized(data: bytes, pixels: float, grain: float, rng: np.random.Generator, turned: bool = True) -> bytes:
    """A photograph as a JPEG of so many pixels (bicubic), quality 90, 4:2:0, with grain of so many levels of 255 in its
    brightness; perhaps turned by EXIF.
    """
    with Image.open(io.BytesIO(data)) as opened:
        image = load_rgb(opened)
    factor = (pixels / (image.width * image.height)) ** 0.5
    image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    exif, file = Image.Exif(), io.BytesIO()
    if turned:
        image = image.transpose(Image.Transpose.ROTATE_90)  # stored so; EXIF turns it back
        exif[ExifTags.Base.Orientation] = TURN
    noise = rng.normal(0, grain, (image.height, image.width, 1))
    spoilt = np.clip(np.rint(np.asarray(image, np.float32) + noise), 0, 255).astype(np.uint8)
    Image.fromarray(spoilt).save(file, "JPEG", quality=90, subsampling="4:2:0", exif=exif)
    return file.getvalue()
