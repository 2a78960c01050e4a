"""Degraded views of a whole batch, for the variance head: crop, blur, occlusion, darkness, noise, JPEG."""

import torch
from torch import Generator, Tensor

from vssl_training.recipe.sections import DegradationSettings
from vssl_training.views.draws import Draws
from vssl_training.views.jpeg import compress
from vssl_training.views.resampling import apply, blur_matrix, crop_matrix, low_resolution_matrix


def degraded_view(
    images: Tensor,
    settings: DegradationSettings,
    generator: Generator,
    count: int | None = None,
    part: slice = slice(None),
) -> tuple[Tensor, Tensor]:
    """Degrade images [N, 3, S, S] for the variance head: each kind strikes an image with its own chance.

    The strength is drawn per image too, from barely visible to beyond recognition, so that the head meets the whole
    range. The images are `part` of a batch of `count`.

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
