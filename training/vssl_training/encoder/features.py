"""What a backbone says of images, and the statistics that the variance head reads from it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

DETAIL = 18
"""Columns of `Features.detail`."""


@dataclass(frozen=True)
class Features:
    """What a backbone says of N `images` [N, 3, S, S]: `final` [N, F], and the maps [N, C_i, H_i, W_i] of its stages on
    the way.
    """

    images: Tensor
    final: Tensor
    maps: tuple[Tensor, ...]

    def with_statistics(self) -> Tensor:
        """`final` with the spatial mean and standard deviation of each stage's channels [N, F + 2 Σ C_i].

        Blur and noise show in the early stages and are gone from the last one.
        """
        return torch.cat([self.final, *map(statistics, self.maps)], 1)

    def detail(self) -> Tensor:
        """The same statistics of the images' local differences, which no encoder has to learn to see, [N, DETAIL]."""
        return statistics(local_differences(self.images))


def statistics(maps: Tensor) -> Tensor:
    """Spatial mean and standard deviation of the channels of [N, C, H, W]: [N, 2 C]."""
    return torch.cat([maps.mean((2, 3)), (maps.var((2, 3), correction=0) + 1e-6).sqrt()], 1)


def local_differences(images: Tensor) -> Tensor:
    """Sizes of the differences between neighbouring pixels of [N, 3, S, S], [N, 9, S − 1, S − 1].

    Across, down, and of the one in the other, each of green, red − green, and blue − green: what compression, noise,
    blur and enlargement change first, in brightness and in colour.
    """
    red, green, blue = images[:, :1], images[:, 1:2], images[:, 2:]
    colours = torch.cat([green, red - green, blue - green], 1)
    here, right = colours[..., :-1, :-1], colours[..., :-1, 1:]
    below, across = colours[..., 1:, :-1], colours[..., 1:, 1:]
    return torch.cat([right - here, below - here, across - below - right + here], 1).abs()


class Backbone(nn.Module):
    """Images → `Features`: F is `features`, and C_i are `channels`."""

    features: int
    channels: tuple[int, ...]

    @property
    def features_with_statistics(self) -> int:
        """Columns of `Features.with_statistics`."""
        return self.features + 2 * sum(self.channels)


def standardised(images: Tensor) -> Tensor:
    """About mean 0 and variance 1 for natural images in 0 … 1."""
    return (images - 0.5) * 4
