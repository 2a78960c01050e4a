"""Backbones: our small net for CPU-sized work, and any model of timm."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from vssl.errors import UsageError
from vssl_training.recipe.sections import NetworkSettings, Recipe

STAGES = 5
"""Most stages whose statistics are kept; of a net with more (a ViT's blocks), four are taken at equal distances."""


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


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with BatchNorm beside a 1×1 shortcut; the first halves the map."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H / stride, W / stride]."""
        return nn.functional.relu(self.body(x) + self.shortcut(x))


class SmallNet(Backbone):
    """A fast residual net for small images on CPUs: 5×5 stride-2 stem, `depth` blocks at widths w, 2w, 4w.

    The last map is pooled to 2×2 cells, not to one: at this size where things are in the picture is worth keeping.
    """

    def __init__(self, width: int, depth: int = 1, pool: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.channels = (width, 2 * width, 4 * width)
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(inputs, outputs, stride), *(ResidualBlock(outputs, outputs, 1) for _ in range(depth - 1))
            )
            for inputs, outputs, stride in zip((width, *self.channels), self.channels, (1, 2, 2), strict=False)
        )
        self.pool = pool
        self.features = pool**2 * self.channels[-1]

    def forward(self, images: Tensor) -> Features:
        """Features of float images [N, 3, S, S] in 0 … 1."""
        maps = []
        x = self.stem(standardised(images))
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return Features(images, nn.functional.adaptive_avg_pool2d(x, self.pool).flatten(1), tuple(maps))


class TimmNet(Backbone):
    """A model of timm as it is initialised there: `final` is what its classifier would see.

    Args:
        name: of the model in timm.
        size: side of the images in pixels, for models whose tables of positions depend on it.
        cifar_stem: a 3×3 stem of stride 1 without max-pool (ResNets).
        other_sizes: make such a model take images of other sizes too.

    Raises:
        UsageError: timm has no such model, or it can't be had in this form.
    """

    def __init__(self, name: str, size: int, cifar_stem: bool = False, other_sizes: bool = False) -> None:
        import timm

        super().__init__()
        if not timm.is_model(name):
            near = ", ".join(get_close_matches(name, ["small", *timm.list_models()]))
            raise UsageError(f"network.backbone: neither small nor a model of timm: {name}; near it: {near or 'none'}")
        create: Any = timm.create_model  # what it returns has no common type
        config = timm.get_pretrained_cfg(name)
        arguments: dict[str, Any] = {}
        if config is not None and config.fixed_input_size:
            arguments = {"img_size": size} | ({"dynamic_img_size": True} if other_sizes else {})
        try:
            self.net = create(name, pretrained=False, num_classes=0, **arguments)
        except Exception as error:  # a model's constructor refuses in any way it likes
            raise UsageError(f"network.backbone: timm can't build {name} for {size} px: {error}") from error
        if not hasattr(self.net, "forward_intermediates"):
            raise UsageError(f"network.backbone: {name} does not give the maps of its stages; take another model")
        if cifar_stem:
            self._shrink_stem(name)
        self.features = getattr(self.net, "head_hidden_size", None) or self.net.num_features
        stages = len(self.net.feature_info)
        self.indices = list(range(stages)) if stages <= STAGES else [stages * i // 4 - 1 for i in (1, 2, 3, 4)]
        self.channels = tuple(self.net.feature_info[i]["num_chs"] for i in self.indices)

    def _shrink_stem(self, name: str) -> None:
        first = getattr(self.net, "conv1", None)
        if not isinstance(first, nn.Conv2d) or not hasattr(self.net, "maxpool"):
            raise UsageError(f"network.cifar_stem: is for ResNets with a 7×7 stem such as resnet18, not for {name}")
        self.net.conv1 = nn.Conv2d(3, first.out_channels, 3, 1, 1, bias=False)
        nn.init.kaiming_normal_(self.net.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.net.maxpool = nn.Identity()

    def forward(self, images: Tensor) -> Features:
        """Features of float images [N, 3, S, S] in 0 … 1."""
        # With their norm: without it a ViT's maps have a scale of their own, block by block.
        last, maps = self.net.forward_intermediates(standardised(images), indices=self.indices, norm=True)
        return Features(images, self.net.forward_head(last, pre_logits=True), tuple(maps))


def build_backbone(recipe: Recipe) -> Backbone:
    """The backbone of a recipe, freshly initialised.

    Raises:
        UsageError: there is no such backbone.
    """
    settings: NetworkSettings = recipe.network
    if settings.backbone == "small":
        return SmallNet(settings.width, settings.depth, settings.pool)
    return TimmNet(settings.backbone, recipe.image.size, settings.cifar_stem, other_sizes=len(recipe.sizes) > 1)
