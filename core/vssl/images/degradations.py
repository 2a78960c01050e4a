"""Degradations of a picture, with severities 1 to 5. Uncertainty is measured against them.

All work on uint8 images [S, S, 3] at the model's own resolution. A seed fixes the result.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from vssl.arrays import Floats, Pixels

SEVERITIES = (1, 2, 3, 4, 5)


def crop(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """A random square of area U(.1, .75) of the image, narrowed around each severity's share, scaled back up."""
    low, high = np.linspace(0.75, 0.1, 6)[[severity, severity - 1]]
    size = len(image)
    side = max(1, round(size * float(np.sqrt(rng.uniform(low, high)))))
    top, left = rng.integers(0, size - side + 1, 2)
    return _resized(image[top : top + side, left : left + side], size)


def blur(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Gaussian blur; σ in hundredths of the side: 1.5, 2.5, 4, 6, 8."""
    sigma = (1.5, 2.5, 4.0, 6.0, 8.0)[severity - 1] / 100 * len(image)
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def noise(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """White Gaussian noise; σ of the full range: .04, .08, .12, .18, .26."""
    sigma = (0.04, 0.08, 0.12, 0.18, 0.26)[severity - 1] * 255
    return _to_uint8(image + rng.normal(0, sigma, image.shape))


def occlusion(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """A grey square over a share of the image: 6, 12, 20, 30, 42 %."""
    size = len(image)
    side = round(size * float(np.sqrt((0.06, 0.12, 0.20, 0.30, 0.42)[severity - 1])))
    top, left = rng.integers(0, size - side + 1, 2)
    covered = image.copy()
    covered[top : top + side, left : left + side] = 128
    return covered


def darkness(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Brightness times .6, .4, .25, .15, .08, rounded to whole levels: detail is lost as in a short exposure."""
    return _to_uint8(image * (0.6, 0.4, 0.25, 0.15, 0.08)[severity - 1])


def jpeg(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """JPEG compression at quality 40, 25, 15, 8, 4."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=(40, 25, 15, 8, 4)[severity - 1])
    with Image.open(file) as decoded:
        return np.asarray(decoded.convert("RGB"))


def low_resolution(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Shrunk to .7, .5, .35, .25, .18 of the side and scaled back up."""
    size = len(image)
    return _resized(_resized(image, max(1, round(size * (0.7, 0.5, 0.35, 0.25, 0.18)[severity - 1]))), size)


DEGRADATIONS: dict[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    function.__name__: function for function in (crop, blur, noise, occlusion, darkness, jpeg, low_resolution)
}


def degrade(images: Pixels, kind: str, severity: int, seed: int) -> Pixels:
    """Apply one degradation to images [N, S, S, 3]; image i of a seed is always degraded in the same way."""
    function = DEGRADATIONS[kind]
    return np.stack([function(image, severity, np.random.default_rng([seed, i])) for i, image in enumerate(images)])


def _resized(image: Pixels, size: int) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def _to_uint8(values: Floats) -> Pixels:
    rounded: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
