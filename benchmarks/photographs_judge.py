"""The judge's degradations: the kinds that `vssl attach` trains with, as another hand makes them.

Other libraries, filters and shapes than those of `vssl.images.degradations`: a head that has merely learned how that
module draws a blur does not pass. All take uint8 [S, S, 3] and a strength in 0 … 1, and are of the same names.
"""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from vssl.arrays import Pixels
from vssl.images.degradations import DEGRADATIONS

Judge = Callable[[Tensor, float, np.random.Generator], Tensor]
"""float32 [3, S, S] in 0 … 1, strength, random numbers → the same."""


def crop(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """A rectangle of 90 to 12 % of the area, up to 4 : 3 long, scaled to the square with bilinear antialiasing."""
    size = image.shape[-1]
    area, ratio = 0.9 - 0.78 * strength, float(np.exp(rng.uniform(-0.29, 0.29)))
    height, width = (min(size, max(1, round(size * (area * r) ** 0.5))) for r in (ratio, 1 / ratio))
    top, left = int(rng.integers(0, size - height + 1)), int(rng.integers(0, size - width + 1))
    return resized(image[:, top : top + height, left : left + width], size)


def blur(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """The disc of an aperture that is out of focus, of a radius up to 10 % of the side."""
    radius = 0.1 * strength * image.shape[-1]
    reach = max(1, int(np.ceil(radius)))
    offsets = torch.arange(-reach, reach + 1).float()
    disc = (radius + 0.5 - (offsets[:, None].square() + offsets.square()).sqrt()).clamp(0, 1)
    return filtered(image, disc)


def noise(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Gaussian noise of a σ up to .25 of the range, a half of it grey and coarse: two pixels wide."""
    fine = gaussian(rng, image.shape)
    coarse = gaussian(rng, (1, *(-(-side // 2) for side in image.shape[1:])))
    wide = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, : image.shape[1], : image.shape[2]]
    both: Tensor = fine + wide
    return image + 0.1768 * strength * both


def occlusion(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """An ellipse of any colour over 3 to 45 % of the picture."""
    size = image.shape[-1]
    area, ratio = (0.03 + 0.42 * strength) * size**2 / np.pi, float(np.exp(rng.uniform(-0.4, 0.4)))
    height, width = (area * ratio) ** 0.5, (area / ratio) ** 0.5
    y, x = rng.uniform(0.3, 0.7, 2) * size
    rows, columns = torch.arange(size)[:, None] - y, torch.arange(size) - x
    inside = (rows / height).square() + (columns / width).square() < 1
    return torch.where(inside, torch.from_numpy(rng.uniform(0, 1, (3, 1, 1))).float(), image)


def darkness(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Up to four stops less light, in linear light."""
    return exposed(image, -4 * strength)


def jpeg(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """torchvision's JPEG, of quality 60 to 3."""
    levels = (image * 255).round().to(torch.uint8)
    compressed: Tensor = tv.jpeg(levels, quality=round(60 - 57 * strength))
    return compressed.float() / 255


def low_resolution(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """The mean of blocks, down to .15 of the side, and bilinear up again."""
    size = image.shape[-1]
    small = max(1, round(size * (1 - 0.85 * strength**0.7)))
    return resized(torch.nn.functional.adaptive_avg_pool2d(image, small), size)


def motion_blur(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """A trembling hand: the mean along an arc, up to a quarter of the side long."""
    length = 0.25 * strength * image.shape[-1]
    angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1)
    along = np.linspace(-0.5, 0.5, 64)
    turned = angle + bend * along
    path = np.stack([np.cumsum(np.sin(turned)), np.cumsum(np.cos(turned))], 1) * length / 64
    path -= path.mean(0)
    reach = max(1, int(np.ceil(np.abs(path).max())))
    kernel = torch.zeros(2 * reach + 1, 2 * reach + 1)
    rows, columns = torch.from_numpy(np.rint(path).astype(np.int64) + reach).T
    kernel.index_put_((rows, columns), torch.ones(len(path)), accumulate=True)
    return filtered(image, kernel)


def overexposure(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Up to four stops more light, in linear light."""
    return exposed(image, 4 * strength)


def underexposure(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Up to three stops less light, in linear light, and the grain of a sensor's gain."""
    dark = exposed(image, -3 * strength)
    return dark + 0.06 * strength * gaussian(rng, image.shape)


def colour_cast(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """A warm, cold, green or magenta filter, mixed in by up to .5."""
    filters = [(1.0, 0.6, 0.2), (0.2, 0.5, 1.0), (0.3, 1.0, 0.4), (1.0, 0.3, 0.8)]
    colour = torch.tensor(filters[rng.integers(len(filters))])[:, None, None]
    return image * (1 - strength + strength * colour)


def saturation(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Paler, down to grey, or as often up to four times the colour."""
    factor = 1 - strength if rng.random() < 0.5 else 1 + 3 * strength
    changed: Tensor = tv.adjust_saturation(image, factor)
    return changed


def quarter_turn(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """By 90° to either side."""
    return torch.rot90(image, int(rng.choice([-1, 1])), (1, 2))


def overlay(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """A caption's band, a frame, or a grid of lines, more of it and less transparent with the strength."""
    size = image.shape[-1]
    ink = Image.new("L", (size, size))
    draw = ImageDraw.Draw(ink)
    form, width = rng.integers(3), max(1, round(size * (0.02 + 0.1 * strength)))
    if form == 0:
        top = int(rng.uniform(0, size - 2 * width))
        draw.rectangle((0, top, size, top + 2 * width), 255)
        draw.text((width, top), "vari ational 0123", 0, font_size=1.2 * width)
    elif form == 1:
        draw.rectangle((0, 0, size - 1, size - 1), outline=255, width=width)
    else:
        for place in range(-size, size, max(4, size // (2 + round(6 * strength)))):
            draw.line((place, 0, place + size, size), 255, max(1, width // 4))
    opacity = torch.from_numpy(np.asarray(ink).copy()).float() / 255 * (0.3 + 0.7 * strength)
    colour = torch.from_numpy(rng.uniform(0, 1, (3, 1, 1)).round()).float()
    return image * (1 - opacity) + colour * opacity


def obstruction(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """A finger before the lens: a soft-edged disc of skin's or a glove's colour that comes in from the edge."""
    size = image.shape[-1]
    towards, radius = rng.uniform(0, 2 * np.pi), size * (0.12 + 0.4 * strength)
    y, x = size / 2 + size / 2 * np.array([np.sin(towards), np.cos(towards)])
    distance = ((torch.arange(size)[:, None] - y).square() + (torch.arange(size) - x).square()).sqrt()
    share = torch.sigmoid((radius - distance) / (0.02 * size))
    colours = [(0.85, 0.62, 0.5), (0.45, 0.3, 0.22), (0.1, 0.1, 0.12), (0.75, 0.2, 0.2)]
    colour = torch.tensor(colours[rng.integers(len(colours))])[:, None, None]
    return image * (1 - share) + colour * share


def two_at_once(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Two others, each of three quarters of the strength."""
    names = list(JUDGES)[:-1]
    for place in rng.choice(len(names), 2, replace=False):
        image = JUDGES[names[place]](image, 0.75 * strength, rng).clamp(0, 1)
    return image


def resized(image: Tensor, size: int) -> Tensor:
    """[3, H, W] → [3, size, size], bilinear, antialiased."""
    found: Tensor = tv.resize(image, [size, size], interpolation=InterpolationMode.BILINEAR, antialias=True)
    return found


def filtered(image: Tensor, kernel: Tensor) -> Tensor:
    """[3, S, S] under a kernel [k, k] of odd k, with the picture mirrored at its edges."""
    reach = len(kernel) // 2
    padded = torch.nn.functional.pad(image[:, None], (reach,) * 4, "reflect")
    return torch.nn.functional.conv2d(padded, (kernel / kernel.sum())[None, None])[:, 0]


def exposed(image: Tensor, stops: float) -> Tensor:
    """So many stops more light, in linear light (γ = 2.2), cut off at white."""
    return (image.pow(2.2) * 2**stops).clamp(0, 1).pow(1 / 2.2)


def gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers."""
    return torch.from_numpy(rng.standard_normal(shape, np.float32))


JUDGES: dict[str, Judge] = {
    function.__name__: function
    for function in (
        *(crop, blur, noise, occlusion, darkness, jpeg, low_resolution, motion_blur, overexposure, underexposure),
        *(colour_cast, saturation, quarter_turn, overlay, obstruction, two_at_once),
    )
}
assert list(JUDGES) == list(DEGRADATIONS)


def judged_pictures(image: Pixels, number: int, seed: int) -> tuple[Pixels, list[float]]:
    """An image, and a copy of each kind: uint8 [1 + K, S, S, 3], and the strengths U(0, 1) of the copies."""
    clean = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
    pictures, strengths = [image], []
    for place, judge in enumerate(JUDGES.values()):
        rng, strength = drawn(number, place, seed)
        degraded = judge(clean, strength, rng).clamp(0, 1)
        pictures.append((degraded * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
        strengths.append(strength)
    return np.stack(pictures), strengths


def own_pictures(image: Pixels, number: int, seed: int) -> tuple[Pixels, list[float]]:
    """The same with the degradations that `vssl attach` trains with, at the strengths of the judge's."""
    pictures, strengths = [image], []
    for place, degradation in enumerate(DEGRADATIONS.values()):
        rng, strength = drawn(number, place, seed)
        pictures.append(degradation(image, strength, rng))
        strengths.append(strength)
    return np.stack(pictures), strengths


def drawn(number: int, place: int, seed: int) -> tuple[np.random.Generator, float]:
    """What makes the copy of one kind of an image: random numbers, and the strength, which is the first of them."""
    rng = np.random.default_rng([seed, number, place])
    return rng, float(rng.uniform(0, 1))
