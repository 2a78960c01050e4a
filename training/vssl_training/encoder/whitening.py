"""The exported mean of a whitened embedding: a linear layer in closed form on the features of the last stages.

PCA whitening (for image search: Jégou & Chum 2012) of what the trained backbone says of training images, without any
label: centred, projected on the directions of largest variance, each scaled to variance 1 (or less: see `FLOOR`).
Cosines then weigh all directions alike; otherwise a few would drown the rest. docs/method.md says what it gains.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vssl.errors import UsageError
from vssl_training.encoder.features import Features
from vssl_training.recipe.sections import WhiteningSettings

IMAGES = 20_000
"""Training images that it is fitted on."""

MOST_FEATURES = 8192
"""Its fit needs time and memory that grow with the cube and the square of their number."""

FLOOR = 0.01
"""Least variance of a direction, as a part of the largest, that is scaled to 1: what is smaller stays smaller, so that
no rounding grows more than tenfold.
"""


class Whitening(nn.Module):
    """Features of N images → [N, D], for an embedding [N, D] once it has unit length."""

    def __init__(self, channels: tuple[int, ...], settings: WhiteningSettings) -> None:
        super().__init__()
        self.cells = settings.cells
        inputs = features_of(channels, settings)
        self.linear = nn.Linear(inputs, settings.dimension)

    def pooled(self, features: Features) -> Tensor:
        """The maps of the last stages, averaged to cells × cells each, [N, Σ C_i · cells_i²]."""
        maps = features.maps[-len(self.cells) :]
        parts = [
            nn.functional.adaptive_avg_pool2d(each, n).flatten(1) for each, n in zip(maps, self.cells, strict=True)
        ]
        return torch.cat(parts, 1)

    def forward(self, features: Features) -> Tensor:
        """[N, D]."""
        whitened: Tensor = self.linear(self.pooled(features))
        return whitened

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Set the layer by batches [n, F] of `pooled`, of at least one image in all."""
        count, total, products = 0, torch.zeros(()), torch.zeros(())
        for batch in batches:
            values = batch.double()
            count, total, products = count + len(values), total + values.sum(0), products + values.T @ values
        mean = total / count
        variances, directions = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        # A direction has no sign of its own: it gets that of its largest part, the same on every machine.
        directions = directions * directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
        # Ascending, so the last ones are the largest.
        kept = variances[-self.linear.out_features :].clamp(min=FLOOR * float(variances[-1]))
        weight = (directions[:, -self.linear.out_features :] / kept.sqrt()).T
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(-weight @ mean)


def features_of(channels: tuple[int, ...], settings: WhiteningSettings) -> int:
    """How many numbers of an image are whitened."""
    last = channels[-len(settings.cells) :]
    return sum(n * n * each for each, n in zip(last, settings.cells, strict=True))


def check_whitening(channels: tuple[int, ...], settings: WhiteningSettings) -> None:
    """Refuse what a backbone's stages of so many `channels` can't give.

    Raises:
        UsageError: too few stages, too few or too many features.
    """
    if len(settings.cells) > len(channels):
        raise UsageError(f"network.whitening.cells: {len(settings.cells)} stages, the backbone has {len(channels)}")
    features = features_of(channels, settings)
    if not settings.dimension <= features <= MOST_FEATURES:
        raise UsageError(
            f"network.whitening: its cells give {features:,} features; at least dimension ({settings.dimension}) are "
            f"needed, and {MOST_FEATURES:,} at most: choose other cells"
        )
