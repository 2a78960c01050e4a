"""What lies over a picture of `size` × `size` pixels, as a mask: an image of mode L, 255 where it covers, 0 elsewhere.

Strengths are 0 … 1, shares parts of the picture's area.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from vssl.images.strengths import at


def shape(size: int, share: float, rng: np.random.Generator) -> Image.Image:
    """A shape of three to many corners, in any direction, with sharp or soft edges, as large as a share of the picture.

    It lies inside or, as often, in part outside.
    """
    mask = Image.new("L", (size, size))
    if share == 0:
        return mask
    corners, long = int(rng.choice([3, 4, 5, 6, 48])), float(np.exp(rng.uniform(-0.5, 0.5)))
    radius = size * float(np.sqrt(2 * share / corners / np.sin(2 * np.pi / corners)))
    angles = np.arange(corners) * 2 * np.pi / corners + rng.uniform(0, np.pi)
    points = radius * np.stack([np.cos(angles) * long, np.sin(angles) / long], 1)
    turned, reach = rng.uniform(0, np.pi), min(radius, size / 2) * int(rng.integers(2))
    points @= np.array([[np.cos(turned), np.sin(turned)], [-np.sin(turned), np.cos(turned)]])
    points += rng.uniform(reach, size - reach, 2)
    ImageDraw.Draw(mask).polygon([tuple(point) for point in points.tolist()], 255)
    softness = max(0.0, rng.uniform(-0.04, 0.04)) * size
    return mask.filter(ImageFilter.GaussianBlur(softness))


def text(size: int, strength: float, rng: np.random.Generator) -> Image.Image:
    """Lines of letters."""
    ink = Image.new("L", (size, size))
    top, left = rng.uniform(0, 0.6, 2) * size
    lines = "\n".join(_words(14, rng) for _ in range(round(at(strength, 1, 1, 2, 3, 4, 5))))
    ImageDraw.Draw(ink).multiline_text((left / 2, top), lines, 255, _font(size, strength))
    return ink


def stamp(size: int, strength: float, rng: np.random.Generator) -> Image.Image:
    """A date, as old cameras print it."""
    ink = Image.new("L", (size, size))
    day = f"{rng.integers(1, 29):02} {rng.integers(1, 13):02} '{rng.integers(0, 100):02}"
    place = tuple(rng.uniform([0.05, 0.02], [0.5, 0.9]) * size)
    ImageDraw.Draw(ink).text(place, day, 255, _font(size, strength))
    return ink


def watermark(size: int, strength: float, rng: np.random.Generator) -> Image.Image:
    """One word again and again, aslant, from edge to edge."""
    ink = Image.new("L", (size, size))
    draw, font, word = ImageDraw.Draw(ink), _font(size, strength), _words(8, rng) + "   "
    for row in np.arange(-0.5, 1.5, 2.5 * _height(strength)):
        draw.text((rng.uniform(-0.2, 0) * size, row * size), word * 6, 255, font)
    return ink.rotate(float(rng.uniform(-45, 45)), Image.Resampling.BILINEAR)


def banner(size: int, strength: float, rng: np.random.Generator) -> Image.Image:
    """A bar with a word left out of it, along any edge."""
    ink = Image.new("L", (size, size))
    draw, font = ImageDraw.Draw(ink), _font(size, strength)
    height = size * _height(strength) * rng.uniform(1.2, 2)
    top = rng.uniform(0, size - height)
    draw.rectangle((0, top, size, top + height), 255)
    draw.text((rng.uniform(0, 0.4) * size, top), _words(12, rng), 0, font)
    return ink.rotate(90 * int(rng.integers(4)))


def scratches(size: int, strength: float, rng: np.random.Generator) -> Image.Image:
    """Straight lines of any direction."""
    ink = Image.new("L", (size, size))
    draw, width = ImageDraw.Draw(ink), max(1, round(size * at(strength, 0.004, 0.006, 0.01, 0.015, 0.02, 0.03)))
    for _ in range(round(at(strength, 1, 3, 6, 9, 12, 16))):
        ends = rng.uniform(-0.2, 1.2, (2, 2)) * size
        draw.line([tuple(end) for end in ends.tolist()], 255, width)
    return ink


def border(size: int, strength: float, rng: np.random.Generator) -> Image.Image:
    """Bars at two opposite edges, or a frame."""
    ink = Image.new("L", (size, size))
    draw, width = ImageDraw.Draw(ink), size * at(strength, 0.01, 0.02, 0.05, 0.08, 0.12, 0.16)
    first, last = width * rng.uniform(0.5, 1.5, 2)
    draw.rectangle((0, 0, size, first), 255)
    draw.rectangle((0, size - last, size, size), 255)
    if rng.random() < 0.5:  # on all four sides
        draw.rectangle((0, 0, first, size), 255)
        draw.rectangle((size - last, 0, size, size), 255)
    return ink.rotate(90 * int(rng.integers(2)))


INKS = (text, stamp, watermark, banner, scratches, border)


def _height(strength: float) -> float:
    """Of letters, in sides of the picture."""
    return at(strength, 0.05, 0.06, 0.08, 0.1, 0.13, 0.17)


def _font(size: int, strength: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(1.0, size * _height(strength)))


def _words(count: int, rng: np.random.Generator) -> str:
    return "".join(rng.choice(list("ABCDEFGHKLMNOPRSTUVWabcdeghiklmnoprstuvwy 0123456789"), count))
