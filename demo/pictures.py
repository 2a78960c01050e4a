"""The pictures that the demo asks about: photographs as they are, degraded copies of some, and drawings."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vssl.arrays import Pixels
from vssl.images.degradations import degrade

COPIES = ("blur", "motion_blur", "noise", "darkness", "jpeg", "low_resolution")
SEVERITY, SIDE, SEED = 4, 224, 0


def write_pictures(archive: Path, folder: Path) -> None:
    """Write `clean/CLASS/`, `degraded/` (copies of the first picture of each class) and `drawn/` into a folder."""
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if name.startswith("queries/") and name.endswith(".jpg")]
        for name in names:
            target = folder / "clean" / name.removeprefix("queries/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(opened.read(name))
    (folder / "degraded").mkdir()
    for kind_folder in sorted((folder / "clean").iterdir()):
        first = min(kind_folder.iterdir())
        pixels = square(first)
        for kind in COPIES:
            copy = degrade(pixels[None], kind, SEVERITY, SEED)[0]
            Image.fromarray(copy).save(folder / "degraded" / f"{kind_folder.name}-{first.stem}-{kind}.png")
    (folder / "drawn").mkdir()
    for name, picture in {"chart": chart(), "fractal": fractal()}.items():
        picture.save(folder / "drawn" / f"{name}.png")


def square(file: Path) -> Pixels:
    """The centred square of a picture, uint8 [SIDE, SIDE, 3]."""
    with Image.open(file) as image:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return np.asarray(image.convert("RGB").crop((left, top, left + side, top + side)).resize((SIDE, SIDE)))


def chart() -> Image.Image:
    """Bars on white, as in a report."""
    image = Image.new("RGB", (320, 320), "white")
    draw = ImageDraw.Draw(image)
    for number, height in enumerate((90, 150, 60, 210, 130, 180)):
        draw.rectangle((30 + 46 * number, 290 - height, 60 + 46 * number, 290), fill=(40, 90, 200))
    draw.line((20, 20, 20, 290, 306, 290), fill="black", width=2)
    return image


def fractal() -> Image.Image:
    """The Mandelbrot set, by how soon a point escapes."""
    x, y = np.meshgrid(np.linspace(-2.1, 0.7, 320), np.linspace(-1.4, 1.4, 320))
    c = x + 1j * y
    z, steps = np.zeros_like(c), np.zeros(c.shape)
    for _ in range(40):
        inside = np.abs(z) < 2
        z[inside] = z[inside] ** 2 + c[inside]
        steps += inside
    return Image.fromarray(np.uint8(np.stack([steps * 6, steps * 3, 255 - steps * 6], axis=-1)))
