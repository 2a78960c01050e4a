"""What a backbone says of images, and the statistics that the variance head reads from it."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from vssl_training.recipe.sections import FROM_SCRATCH, Channels

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

    def single(self) -> "Features":
        """The same in single precision."""
        return Features(self.images.float(), self.final.float(), tuple(each.float() for each in self.maps))

    def with_statistics(self) -> Tensor:
        """`final` with the statistics of all stages, [N, F + 2 Σ C_i]."""
        return self.seen("all", detail=False)

    def seen(self, sees: str, detail: bool) -> Tensor:
        """What a variance head sees, as `VarianceSettings.sees` and `detail` say, [N, its columns].

        Of a stage it sees the spatial mean and standard deviation of each channel: blur and noise show in the early
        stages and are gone from the last one.
        """
        maps = self.maps[:-1] if sees == "lower" else self.maps
        parts = [] if sees != "all" else [self.final]
        parts += map(statistics, maps)
        return torch.cat([*parts, self.detail()] if detail else parts, 1)

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
    """Images → `Features`: F is `features`, and C_i are `channels`.

    `pixel_mean` and `pixel_std` are buffers, and so part of the exported network; they are no weights, since a recipe
    names them.
    """

    features: int
    channels: tuple[int, ...]
    classifiers: tuple[str, ...] = ()
    """Beginnings of the names of published weights that are not this network's: its classifiers'."""
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.normalising(FROM_SCRATCH["mean"], FROM_SCRATCH["std"])

    def normalising(self, mean: Channels, std: Channels) -> Self:
        """Take `mean` off the pixels in 0 … 1, and divide them by `std`: red, green and blue."""
        self.register_buffer("pixel_mean", torch.tensor(mean), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(std), persistent=False)
        return self

    def normalised(self, images: Tensor) -> Tensor:
        """Images [N, 3, S, S] in 0 … 1 as the network takes them."""
        return (images - self.pixel_mean[:, None, None]) / self.pixel_std[:, None, None]

    def converted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published weights as this network takes them: other names, tables of positions for another size.

        It may raise anything over weights of another network.
        """
        return weights

    @property
    def features_with_statistics(self) -> int:
        """Columns of `Features.with_statistics`."""
        return self.seen("all", detail=False)

    def seen(self, sees: str, detail: bool) -> int:
        """Columns of `Features.seen`."""
        channels = self.channels[:-1] if sees == "lower" else self.channels
        return (self.features if sees == "all" else 0) + 2 * sum(channels) + (DETAIL if detail else 0)


def network_of(backbone: Backbone) -> nn.Module:
    """The network that a backbone wraps, under whose names its weights are known; our own wraps none."""
    network = getattr(backbone, "net", None)
    return network if isinstance(network, nn.Module) else backbone
