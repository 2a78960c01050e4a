"""Degradations of a picture: name and strength → picture. Variance heads learn from them and are measured by them.

All work on uint8 images [S, S, 3] at the model's own resolution. A strength of 0 does no harm (or next to none), and 1
is the worst; all between are defined, so that training can draw them. A generator of random numbers fixes the result.
Severities 1 to 5, by which figures are told, are the strengths .2 to 1.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from vssl.arrays import Floats, Pixels
from vssl.images.masks import INKS, shape
from vssl.images.strengths import KNOTS, at

Degradation = Callable[[Pixels, float, np.random.Generator], Pixels]


def crop(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """A random square, scaled back up; its area is U(.62, .75) of the image at .2, U(.1, .23) at 1."""
    ends = np.linspace(0.75, 0.1, len(KNOTS))
    low, high = at(strength, 1, *ends[1:]), at(strength, 1, *ends[:-1])
    size = len(image)
    side = max(1, round(size * float(np.sqrt(rng.uniform(low, high)))))
    top, left = rng.integers(0, size - side + 1, 2)
    return _resized(image[top : top + side, left : left + side], size)


def blur(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Out of focus: Gaussian blur of a σ of 1.5, 2.5, 4, 6, 8 hundredths of the side."""
    sigma = at(strength, 0, 1.5, 2.5, 4.0, 6.0, 8.0) / 100 * len(image)
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def noise(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """White Gaussian noise; σ of the full range: .04, .08, .12, .18, .26."""
    sigma = at(strength, 0, 0.04, 0.08, 0.12, 0.18, 0.26) * 255
    return _to_uint8(image + rng.normal(0, sigma, image.shape))


def occlusion(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """A grey square over a share of the image: 6, 12, 20, 30, 42 %."""
    size = len(image)
    side = round(size * float(np.sqrt(at(strength, 0, 0.06, 0.12, 0.20, 0.30, 0.42))))
    top, left = rng.integers(0, size - side + 1, 2)
    covered = image.copy()
    covered[top : top + side, left : left + side] = 128
    return covered


def darkness(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Brightness times .6, .4, .25, .15, .08, rounded to whole levels: detail is lost as in a short exposure."""
    return _to_uint8(image * at(strength, 1, 0.6, 0.4, 0.25, 0.15, 0.08))


def jpeg(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """JPEG compression at quality 40, 25, 15, 8, 4; no strength at all is quality 95."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=round(at(strength, 95, 40, 25, 15, 8, 4)))
    with Image.open(file) as decoded:
        return np.asarray(decoded.convert("RGB"))


def low_resolution(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Shrunk to .7, .5, .35, .25, .18 of the side and scaled back up."""
    size = len(image)
    return _resized(_resized(image, max(1, round(size * at(strength, 1, 0.7, 0.5, 0.35, 0.25, 0.18)))), size)


def motion_blur(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """A camera that moved: the mean along a line of any direction; its length is 4, 7, 11, 16, 22 % of the side."""
    length, angle = at(strength, 0, 0.04, 0.07, 0.11, 0.16, 0.22) * len(image), rng.uniform(0, np.pi)
    # Points half a pixel apart on the line, each shared out to the four pixels around it.
    points = np.linspace(-length / 2, length / 2, 2 * int(np.ceil(length)) + 1)
    reach = int(np.ceil(length / 2)) + 1
    weights = np.zeros((2 * reach + 1, 2 * reach + 1))
    y, x = points * np.sin(angle) + reach, points * np.cos(angle) + reach
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    for down in (0, 1):
        for right in (0, 1):
            np.add.at(weights, (top + down, left + right), np.abs(1 - down - y + top) * np.abs(1 - right - x + left))
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), "edge").astype(np.float32)
    size, blurred = len(image), np.zeros(image.shape, np.float32)
    for row, column in np.argwhere(weights):
        share = np.float32(weights[row, column] / len(points))
        blurred += share * padded[row : row + size, column : column + size]
    return _to_uint8(blurred)


def overexposure(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Brightness times 1.3, 1.7, 2.2, 2.8, 3.6, cut off at white: bright parts lose what was in them."""
    return _to_uint8(image * at(strength, 1, 1.3, 1.7, 2.2, 2.8, 3.6))


def underexposure(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Too little light for the sensor: brightness times .75, .55, .4, .28, .18, with grain that grows as light fails.

    The grain of a pixel is that of counted photons, whose number at white is 2000, 700, 250, 100, 40.
    """
    light = at(strength, 1, 0.75, 0.55, 0.4, 0.28, 0.18)
    photons = float(np.exp(at(strength, *np.log([20000, 2000, 700, 250, 100, 40]))))
    bright = image / 255
    return _to_uint8(255 * light * (bright + np.sqrt(bright / photons) * rng.normal(0, 1, image.shape)))


def colour_cast(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Light of another colour: red, green and blue times gains whose logarithms are .15, .3, .5, .75, 1.1 long.

    Half of the casts are those of a filter, which takes light away and adds none.
    """
    direction = rng.normal(0, 1, 3)
    direction -= direction.mean()
    gains: Floats = np.exp(at(strength, 0, 0.15, 0.3, 0.5, 0.75, 1.1) * direction / np.linalg.norm(direction))
    return _to_uint8(image.astype(np.float64) * (gains if rng.random() < 0.5 else gains / gains.max()))


def saturation(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Colours too pale (.75, .5, .3, .15, 0 of what they were) or, as often, too strong (1.3, 1.7, 2.2, 2.8, 3.5)."""
    pale, strong = (0.75, 0.5, 0.3, 0.15, 0), (1.3, 1.7, 2.2, 2.8, 3.5)
    grey = image @ np.array([0.299, 0.587, 0.114])
    factor = at(strength, 1, *(pale if rng.random() < 0.5 else strong))
    return _to_uint8(grey[..., None] + factor * (image - grey[..., None]))


def quarter_turn(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Turned by 90° to the left or to the right, as a file without its orientation. All strengths but 0 are alike."""
    turns = int(rng.choice([1, 3]))
    return np.ascontiguousarray(np.rot90(image, turns)) if strength > 0 else image.copy()


def overlay(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Something over the picture: lines of text, a date stamp, a watermark, a banner, scratches, or a border.

    Larger, and less transparent, with the strength: opacity .3, .5, .65, .8, .95.
    """
    ink = INKS[rng.integers(len(INKS))](len(image), strength, rng)
    if rng.random() < 0.5:
        colour = tuple(rng.choice([(255, 255, 255), (0, 0, 0), (255, 140, 0), (220, 20, 20)]).tolist())
    else:
        colour = tuple(rng.integers(0, 256, 3).tolist())
    opacity = at(strength, 0, 0.3, 0.5, 0.65, 0.8, 0.95)
    canvas = Image.fromarray(image)
    canvas.paste(Image.new("RGB", canvas.size, colour), mask=ink.point(lambda level: round(level * opacity)))
    return np.asarray(canvas)


def obstruction(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Something in front: a shape of three to many corners, as large as 6, 12, 20, 30, 42 % of the picture.

    Its edges are sharp or soft. It is of any colour, or shows the picture itself upside down.
    """
    share = at(strength, 0, 0.06, 0.12, 0.20, 0.30, 0.42)
    mask = shape(len(image), share, rng)
    covered = Image.fromarray(image)
    upside_down = Image.fromarray(np.ascontiguousarray(image[::-1, ::-1]))
    flat = Image.new("RGB", covered.size, tuple(rng.integers(0, 256, 3).tolist()))
    covered.paste(flat if rng.random() < 0.75 else upside_down, mask=mask)
    return np.asarray(covered)


def two_at_once(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Two others, of different kinds, one after the other; each of three quarters of the strength."""
    first, second = rng.choice(len(SINGLE), 2, replace=False)
    for place in (first, second):
        image = SINGLE[place](image, 0.75 * strength, rng)
    return image


CORRUPTIONS: dict[str, Degradation] = {
    function.__name__: function for function in (crop, blur, noise, occlusion, darkness, jpeg, low_resolution)
}
"""Those that models are compared by: a bundle's calibration and `vssl evaluate` have a figure for each."""

SINGLE: list[Degradation] = [
    *CORRUPTIONS.values(),
    *(motion_blur, overexposure, underexposure, colour_cast, saturation, quarter_turn, overlay, obstruction),
]

DEGRADATIONS: dict[str, Degradation] = {function.__name__: function for function in [*SINGLE, two_at_once]}
"""All of them by name; `vssl attach` trains with these."""


def degrade(images: Pixels, kind: str, severity: int, seed: int) -> Pixels:
    """Apply one degradation to images [N, S, S, 3]; image i of a seed is always degraded in the same way."""
    function, strength = DEGRADATIONS[kind], KNOTS[severity]
    return np.stack([function(image, strength, np.random.default_rng([seed, i])) for i, image in enumerate(images)])


def _resized(image: Pixels, size: int) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def _to_uint8(values: Floats) -> Pixels:
    rounded: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
