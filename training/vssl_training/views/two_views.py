"""Random views of a whole batch at once: each image has its own parameters, and there is no Python loop over images.

Images are float [N, 3, S, S] in 0 … 1. All randomness comes from a generator that the caller seeds, so a step can be
repeated bit for bit.
"""

import math

import torch
from torch import Generator, Tensor

from vssl_training.recipe.section import Range
from vssl_training.recipe.sections import ViewSettings
from vssl_training.views.constants import constant, inverse
from vssl_training.views.draws import Draws
from vssl_training.views.resampling import apply, blur_matrix, crop_matrix

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue, as pillow's and torchvision's grey."""

YIQ = (LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
FROM_YIQ = inverse(YIQ)


def two_views(
    images: Tensor, settings: ViewSettings, generator: Generator, count: int | None = None, part: slice = slice(None)
) -> Tensor:
    """Two views of each image of [N, 3, S, S] as [2N, 3, V, V]: all the first views, then all the second.

    V is `settings.size`, S by default.

    Random resized crop and flip, blur, colour jitter, grey, solarisation: the family of SimCLR (arXiv 2002.05709),
    with the asymmetric chances of BYOL (arXiv 2006.07733, appendix B). The images are `part` of a batch of `count`.
    """
    draws = Draws(generator, count or len(images), 2, part)
    blur, solarise = chances(settings.blur, images), chances(settings.solarise, images)
    size = settings.size or images.shape[-1]
    return view(images.repeat(2, 1, 1, 1), size, settings.crop, blur, solarise, settings, draws)


def cropped_views(
    crops: list[Tensor], settings: ViewSettings, generator: Generator, count: int, part: slice = slice(None)
) -> list[Tensor]:
    """The views of crops that were cut out already: those of `two_views` [2N, 3, V, V], then of `small_views`, if any.

    They are mirrored, softened, and change their colours, as those of whole images are.
    """
    first, *rest = crops
    images = first[: len(first) // 2]
    draws = Draws(generator, count, 2, part)
    blur, solarise = chances(settings.blur, images), chances(settings.solarise, images)
    views = [coloured(flip_and_blur(first, settings, draws, blur), solarise, settings, draws)]
    for small in rest:
        draws = Draws(generator, count, settings.small_crops.count, part)
        views.append(coloured(flip_and_blur(small, settings, draws, blur_of_small(settings)), None, settings, draws))
    return views


def chances(each: tuple[float, float], images: Tensor) -> Tensor | None:
    """The chance of each of two views of images [N, …], [2N]; None for never."""
    return torch.cat([images.new_full((len(images),), chance) for chance in each]) if any(each) else None


def blur_of_small(settings: ViewSettings) -> float | None:
    """The chance of a small crop: that of the second view; None for never."""
    return settings.blur[1] or None


def small_views(
    images: Tensor, settings: ViewSettings, generator: Generator, count: int | None = None, part: slice = slice(None)
) -> Tensor:
    """The small crops of [N, 3, S, S] as [K · N, 3, s, s], crop after crop; see `two_views`."""
    small = settings.small_crops
    draws = Draws(generator, count or len(images), small.count, part)
    several = images.repeat(small.count, 1, 1, 1)
    return view(several, small.size, small.crop, blur_of_small(settings), None, settings, draws)


def view(
    images: Tensor,
    size: int,
    area: Range,
    blur: Tensor | float | None,
    solarise: Tensor | None,
    settings: ViewSettings,
    draws: Draws,
) -> Tensor:
    """One random view of each image, [N, 3, size, size]; `blur` and `solarise` are chances [N], or None for never."""
    cropped = crop_and_flip(images, area, settings.flip, draws, size, settings.blur_sigma, blur)
    return coloured(cropped, solarise, settings, draws)


def coloured(images: Tensor, solarise: Tensor | None, settings: ViewSettings, draws: Draws) -> Tensor:
    """Images [N, 3, S, S] with other colours, solarised by chance."""
    changed = change_colours(images, settings, draws)
    if solarise is None:
        return changed
    inverted = draws.chance(solarise)[:, None, None, None] & (changed >= 0.5)
    return torch.where(inverted, 1 - changed, changed)


def crop_and_flip(
    images: Tensor,
    area: Range,
    flip: float,
    draws: Draws,
    size: int | None = None,
    sigma: Range = (0.0, 0.0),
    blur: Tensor | float | None = None,
) -> Tensor:
    """A crop of area U(area) and aspect e^U(ln ¾, ln 4/3) at a random place, scaled to `size` (S), mirrored by `flip`.

    With `blur` (chances [N]) it is softened by a Gaussian of U(sigma) parts of the side.
    """
    source = images.shape[-1]
    size = size or source
    part, aspect = draws.uniform(*area), draws.log_uniform(3 / 4, 4 / 3)
    width, height = (part * aspect).sqrt().clamp(max=1), (part / aspect).sqrt().clamp(max=1)
    left, top = draws.uniform(0, 1) * (1 - width), draws.uniform(0, 1) * (1 - height)
    vertical = crop_matrix(top, height, source, size=size)
    horizontal = crop_matrix(left, width, source, draws.chance(flip), size)
    if blur is not None:
        softened = blur_matrix(torch.where(draws.chance(blur), draws.uniform(*sigma), 0.0), size)
        vertical, horizontal = softened @ vertical, softened @ horizontal
    return apply(images, vertical, horizontal)


def flip_and_blur(images: Tensor, settings: ViewSettings, draws: Draws, blur: Tensor | float | None) -> Tensor:
    """Images [N, 3, S, S] mirrored by chance, and softened by chances `blur` [N]."""
    mirrored = draws.chance(settings.flip)[:, None, None, None]
    images = torch.where(mirrored, images.flip(-1), images)
    if blur is None:
        return images
    softened = blur_matrix(torch.where(draws.chance(blur), draws.uniform(*settings.blur_sigma), 0.0), images.shape[-1])
    return apply(images, softened, softened)


def change_colours(images: Tensor, settings: ViewSettings, draws: Draws) -> Tensor:
    """Brightness, contrast, saturation and hue on a `jitter` part of the images, then grey on a `grey` part.

    All of them are linear in the colours of an image, so they are one 3×3 matrix and one offset: the image is read
    once. Against torchvision's chain, values are clipped at the end only, and hue turns in YIQ instead of HSV.
    """
    chosen = draws.chance(settings.jitter)

    def strength(spread: float) -> Tensor:
        return torch.where(chosen, draws.uniform(1 - spread, 1 + spread), 1.0)

    brightness, contrast = strength(settings.brightness), strength(settings.contrast)
    saturation = strength(settings.saturation)
    angle = torch.where(chosen, draws.uniform(-settings.hue, settings.hue), 0.0) * 2 * math.pi
    saturation = torch.where(draws.chance(settings.grey), 0.0, saturation)
    matrix = hue_matrix(angle, saturation)
    luma = constant(LUMA, images)
    middle = (images.mean((2, 3)) @ luma * brightness * (1 - contrast))[:, None, None]
    pixels = torch.baddbmm(middle, matrix * (brightness * contrast)[:, None, None], images.flatten(2))
    return pixels.clamp_(0, 1).view(images.shape)


def hue_matrix(angle: Tensor, saturation: Tensor) -> Tensor:
    """3×3 matrices [N, 3, 3] that turn colours by `angle` [N] (radians) and scale chroma by `saturation` [N].

    Luma stays, so grey stays grey; saturation 0 leaves the luma alone in all three channels.
    """
    cos, sin = angle.cos() * saturation, angle.sin() * saturation
    one, zero = torch.ones_like(cos), torch.zeros_like(cos)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    return constant(FROM_YIQ, turn) @ turn @ constant(YIQ, turn)
