"""Random crops of images as they are stored: what a step cuts out of each, before it is made small."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vssl.arrays import Pixels
from vssl.images.decoding import RESAMPLING
from vssl_training.data.order import Order, generator
from vssl_training.recipe.sections import ViewSettings

TRIES = 10
"""Shapes that are drawn for a crop; the first that fits into the image is taken."""

ASPECTS = (3 / 4, 4 / 3)

COORDINATE = 2
"""Of the crops' randomness, behind (seed, phase, step, 0): no other draw has it."""


@dataclass(frozen=True)
class Cuts:
    """Crops of n images: `size` pixels wide and high, of an `area` (part of the image), by `draws` [K, n, T + T + 2]:
    U(0, 1) for areas, for aspects, and for the place.
    """

    size: int
    area: tuple[float, float]
    draws: NDArray[np.float64]

    @property
    def pixels(self) -> int:
        """Of all crops of one image."""
        return len(self.draws) * self.size**2

    def of(self, image: Image.Image, position: int, interpolation: str) -> Pixels:
        """The crops of one RGB image, uint8 [K, S, S, 3]; it is the `position`-th of the n."""
        filter = RESAMPLING[interpolation]
        boxes = (box(*image.size, self.area, draws) for draws in self.draws[:, position])
        side = (self.size, self.size)
        return np.stack([np.asarray(image.resize(side, filter, box=corners)) for corners in boxes])


@dataclass(frozen=True)
class CropOrder:
    """The images of a step as `order` has them, and the crops of each that its views are made of.

    Attributes:
        order: of the images.
        views: settings of all views.
        size: side of the two views in pixels where the settings name none.
        steps: of the whole phase.
    """

    order: Order
    views: ViewSettings
    size: int
    steps: int

    def __call__(self, step: int) -> torch.Tensor:
        """Indices of one step."""
        return self.order(step)

    def cuts(self, step: int) -> tuple[Cuts, ...]:
        """The crops of one step: those of the two views, and small ones if there are any."""
        views = self.views.at(step / self.steps)
        numbers = generator(self.order.seed, self.order.phase, step, 0, COORDINATE)
        small = views.small_crops
        kinds = [(2, views.size or self.size, views.crop), (small.count, small.size, small.crop)]

        def draws(count: int) -> NDArray[np.float64]:
            # For the images of all processes, so that several take the steps that one would.
            shape = (count, self.order.batch, 2 * TRIES + 2)
            drawn = torch.rand(shape, generator=numbers, dtype=torch.float64)[:, self.order.part]
            return np.asarray(drawn)

        return tuple(Cuts(size, area, draws(count)) for count, size, area in kinds if count)


def box(width: int, height: int, area: tuple[float, float], draws: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a crop of an image, in whole pixels, as torchvision's `RandomResizedCrop` has it.

    Its area is U(area) of the image's and its aspect e^U(ln ¾, ln 4/3) (Szegedy et al. 2015, arXiv 1409.4842). Where
    none of the shapes fits, it is the largest centred part of the nearest aspect.
    """
    low, high = (math.log(aspect) for aspect in ASPECTS)
    areas = (area[0] + (area[1] - area[0]) * draws[:TRIES]) * width * height
    aspects = np.exp(low + (high - low) * draws[TRIES : 2 * TRIES])
    across, down = np.round(np.sqrt(areas * aspects)), np.round(np.sqrt(areas / aspects))
    fits = (across > 0) & (across <= width) & (down > 0) & (down <= height)
    if not fits.any():
        aspect = min(max(width / height, ASPECTS[0]), ASPECTS[1])
        wide, tall = min(width, round(height * aspect)), min(height, round(width / aspect))
        left, top = (width - wide) // 2, (height - tall) // 2
    else:
        chosen = int(fits.argmax())
        wide, tall = int(across[chosen]), int(down[chosen])
        left, top = int(draws[-2] * (width - wide + 1)), int(draws[-1] * (height - tall + 1))
    return left, top, left + wide, top + tall
