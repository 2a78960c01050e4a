"""Random views of a whole batch at once: every image has parameters of its own, no Python loop over images.

Images are float [N, 3, S, S] in 0 … 1 unless a docstring says otherwise; all randomness comes from a generator that
the caller seeds, so a step can be repeated bit for bit.
"""

import math

import torch
from torch import Generator, Tensor

from vssl_training.recipe.sections import DegradationSettings, Range, ViewSettings
from vssl_training.views.jpeg import compress
from vssl_training.views.resampling import apply, blur_matrix, crop_matrix, low_resolution_matrix

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue, as pillow's and torchvision's grey."""
YIQ = (LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


class Draws:
    """Random numbers, one an image, shaped [N]; for several views of each image, view after view.

    `part` of the `count` images is this process's: all processes draw for all images, and keep what is theirs.
    """

    def __init__(self, generator: Generator, count: int, views: int = 1, part: slice = slice(None)) -> None:
        self.generator = generator
        self.count = count
        self.views = views
        self.part = part

    def uniform(self, low: float, high: float) -> Tensor:
        """U(low, high)."""
        drawn = torch.rand(self.views, self.count, generator=self.generator, device=self.generator.device)
        return drawn[:, self.part].flatten() * (high - low) + low

    def log_uniform(self, low: float, high: float) -> Tensor:
        """e^U(ln low, ln high)."""
        return self.uniform(math.log(low), math.log(high)).exp()

    def normal(self, *shape: int) -> Tensor:
        """N(0, 1) [N, *shape]."""
        shape = (self.views, self.count, *shape)
        drawn = torch.randn(shape, generator=self.generator, device=self.generator.device)
        return drawn[:, self.part].flatten(0, 1)

    def chance(self, probability: float | Tensor) -> Tensor:
        """True with `probability`, one for all or one for each."""
        return self.uniform(0, 1) < probability


def to_float(images: Tensor) -> Tensor:
    """uint8 [N, S, S, 3] → float [N, 3, S, S] in 0 … 1."""
    return images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def two_views(
    images: Tensor, settings: ViewSettings, generator: Generator, count: int | None = None, part: slice = slice(None)
) -> Tensor:
    """Two views of each image of [N, 3, S, S] as [2N, 3, V, V]: all the first views, then all the second.

    V is `settings.size`, S by default.

    Random resized crop and flip, blur, colour jitter, grey, solarisation: the family of SimCLR (arXiv 2002.05709),
    with the asymmetric chances of BYOL (arXiv 2006.07733, appendix B). The images are `part` of a batch of `count`.
    """
    draws = Draws(generator, count or len(images), 2, part)

    def each(chances: tuple[float, float]) -> Tensor:
        return torch.tensor(chances, device=images.device).repeat_interleave(len(images))

    blur = each(settings.blur) if any(settings.blur) else None
    solarise = each(settings.solarise) if any(settings.solarise) else None
    size = settings.size or images.shape[-1]
    return view(images.repeat(2, 1, 1, 1), size, settings.crop, blur, solarise, settings, draws)


def small_views(
    images: Tensor, settings: ViewSettings, generator: Generator, count: int | None = None, part: slice = slice(None)
) -> Tensor:
    """The small crops of [N, 3, S, S] as [K · N, 3, s, s], crop after crop; see `two_views`."""
    small = settings.small_crops
    draws = Draws(generator, count or len(images), small.count, part)
    blur = torch.tensor(settings.blur[1], device=images.device) if settings.blur[1] else None
    return view(images.repeat(small.count, 1, 1, 1), small.size, small.crop, blur, None, settings, draws)


def view(
    images: Tensor,
    size: int,
    area: Range,
    blur: Tensor | None,
    solarise: Tensor | None,
    settings: ViewSettings,
    draws: Draws,
) -> Tensor:
    """One random view of each image, [N, 3, size, size]; `blur` and `solarise` are chances [N], or None for never."""
    cropped = crop_and_flip(images, area, settings.flip, draws, size, settings.blur_sigma, blur)
    changed = change_colours(cropped, settings, draws)
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
    blur: Tensor | None = None,
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
    luma = torch.tensor(LUMA, device=images.device)
    middle = (images.mean((2, 3)) @ luma * brightness * (1 - contrast))[:, None, None]
    pixels = torch.baddbmm(middle, matrix * (brightness * contrast)[:, None, None], images.flatten(2))
    return pixels.clamp_(0, 1).view(images.shape)


def hue_matrix(angle: Tensor, saturation: Tensor) -> Tensor:
    """3×3 matrices [N, 3, 3] that turn colours by `angle` [N] (radians) and scale chroma by `saturation` [N].

    Luma stays, so grey stays grey; saturation 0 leaves the luma alone in all three channels.
    """
    to_yiq = torch.tensor(YIQ, device=angle.device)
    cos, sin = angle.cos() * saturation, angle.sin() * saturation
    one, zero = torch.ones_like(cos), torch.zeros_like(cos)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    matrix: Tensor = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return matrix


def degraded_view(
    images: Tensor,
    settings: DegradationSettings,
    generator: Generator,
    count: int | None = None,
    part: slice = slice(None),
) -> tuple[Tensor, Tensor]:
    """Degrade images [N, 3, S, S] for the variance head: each kind strikes an image with its own chance.

    How hard is drawn per image too, from hardly to beyond recognition, so that the head meets the whole range between
    a clean picture and none. The images are `part` of a batch of `count`.

    Returns:
        The images [N, 3, S, S], and which of them a degradation struck, bool [N].
    """
    draws = Draws(generator, count or len(images), part=part)
    size = images.shape[-1]
    degraded = torch.zeros(len(images), dtype=torch.bool, device=images.device)

    def struck(strength: Tensor, harmless: float) -> Tensor:
        hit = draws.chance(settings.probability)
        degraded.logical_or_(hit)
        return torch.where(hit, strength, harmless)

    side = struck(draws.uniform(*settings.crop), 1).sqrt()
    left, top = draws.uniform(0, 1) * (1 - side), draws.uniform(0, 1) * (1 - side)
    cells = (struck(draws.log_uniform(settings.low_resolution, 1), 1) * size).round().clamp(min=1)
    softened = blur_matrix(struck(draws.uniform(0, settings.blur), 0), size) @ low_resolution_matrix(cells, size)
    images = apply(images, softened @ crop_matrix(top, side, size), softened @ crop_matrix(left, side, size))
    images = occlude(images, struck(draws.uniform(0, settings.occlusion), 0), draws)
    light = struck(draws.log_uniform(settings.darkness, 1), 1)
    grain = struck(draws.uniform(0, settings.noise), 0)
    noise = draws.normal(*images.shape[1:])
    images = (images * light[:, None, None, None] + noise * grain[:, None, None, None]).clamp_(0, 1)
    # As 8 bits hold it: of a dark picture little detail is left.
    images = images.mul_(255).round_().div_(255)
    return compress(images, struck(draws.log_uniform(settings.jpeg, 90), 100)), degraded


def occlude(images: Tensor, area: Tensor, draws: Draws) -> Tensor:
    """Cover a square of `area` [N] (part of the image) at a random place with one random grey."""
    size = images.shape[-1]
    side = area.sqrt()[:, None]
    centres = (torch.arange(size, device=images.device) + 0.5) / size

    def inside() -> Tensor:
        start = draws.uniform(0, 1)[:, None] * (1 - side)
        return (centres > start) & (centres < start + side)

    covered = inside()[:, None, :, None] & inside()[:, None, None, :]
    return torch.where(covered, draws.uniform(0, 1)[:, None, None, None], images)
