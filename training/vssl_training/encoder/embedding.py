"""The exported embedding where it is more than the mean head: centred, or projected, in closed form.

PCA and PCA whitening (for image search: Jégou & Chum 2012) of what the frozen encoder says of training images, without
any label: centred, projected on the directions of largest variance, each divided by its standard deviation, or by a
power of it. Whitened, cosines weigh all directions alike; otherwise a few may drown the rest. Which is best depends on
the encoder: docs/method.md has figures.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vssl.errors import UsageError
from vssl_training.encoder.features import Backbone, Features
from vssl_training.recipe.sections import EmbeddingSettings, NetworkSettings, WhitenSettings

IMAGES = 20_000
"""Training images that it is fitted on."""

MOST_FEATURES = 8192
"""A projection's fit needs time and memory that grow with the cube and the square of their number."""

FLOOR = 0.01
"""Least variance of a direction, as a part of the largest, that is scaled to 1: what is smaller stays smaller, so that
no rounding grows more than tenfold.
"""


@dataclass(frozen=True)
class Moments:
    """Mean [F] and covariance [F, F] of vectors, in float64; without the latter where nothing is projected."""

    mean: Tensor
    covariance: Tensor | None


def moments(batches: Iterable[Tensor], covariance: bool = True) -> Moments:
    """Those of batches [n, F], of at least one vector in all, each looked at once."""
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        values = batch.double()
        count, total = count + len(values), total + values.sum(0)
        if covariance:
            products = products + values.T @ values
    mean = total / count
    return Moments(mean, products / count - torch.outer(mean, mean) if covariance else None)


def projection(covariance: Tensor, settings: WhitenSettings) -> Tensor:
    """The weights [D, F] of a projection by a covariance [F, F]; the direction of largest variance comes last."""
    variances, directions = torch.linalg.eigh(covariance)
    # A direction has no sign of its own: it gets that of its largest part, the same on every machine.
    directions = directions * directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
    # Ascending, so the last ones are the largest.
    kept = variances[-settings.dimension :].clamp(min=FLOOR * float(variances[-1]))
    weights: Tensor = (directions[:, -settings.dimension :] / kept.sqrt() ** settings.power).T
    return weights


class EmbeddingLayer(nn.Module):
    """Features of N images → [N, D], for an embedding [N, D] once it has unit length.

    Args:
        settings: what it is made of, and how.
        inputs: numbers of an image that it is made of, see `inputs_of`.
        head: of the mean, where it is made of that.
    """

    offset: Tensor | None

    def __init__(self, settings: EmbeddingSettings, inputs: int, head: nn.Module | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.head = head
        self.linear = None if settings.whiten is None else nn.Linear(inputs, whitened(settings).dimension)
        self.register_buffer("offset", torch.zeros(inputs) if self.linear is None and settings.centre else None)

    def pooled(self, features: Features) -> Tensor:
        """What it is made of [N, F]: the mean, the final features, or the maps of the last stages, averaged to
        cells × cells each.
        """
        if self.settings.of == "mean":
            assert self.head is not None
            mean: Tensor = self.head(features.final)
            return mean
        if self.settings.of == "features":
            return features.final
        maps = features.maps[-len(self.settings.cells) :]
        parts = [
            nn.functional.adaptive_avg_pool2d(each, n).flatten(1)
            for each, n in zip(maps, self.settings.cells, strict=True)
        ]
        return torch.cat(parts, 1)

    def forward(self, features: Features) -> Tensor:
        """[N, D]."""
        return self.project(self.pooled(features))

    def project(self, pooled: Tensor) -> Tensor:
        """[N, F] of `pooled` → [N, D]."""
        if self.linear is not None:
            projected: Tensor = self.linear(pooled)
            return projected
        return pooled if self.offset is None else pooled - self.offset

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Set it by batches [n, F] of `pooled`, of at least one image in all."""
        self.set(moments(batches, self.linear is not None))

    @torch.no_grad()
    def set(self, found: Moments) -> None:
        """Set it by the moments of what it is made of."""
        if self.linear is None:
            if self.offset is not None:
                self.offset.copy_(found.mean)
            return
        assert found.covariance is not None
        weight = projection(found.covariance, whitened(self.settings))
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(-weight @ found.mean if self.settings.centre else torch.zeros(len(weight)))


def whitened(settings: EmbeddingSettings) -> WhitenSettings:
    """The projection that settings name.

    Raises:
        UsageError: they leave the choice open, or have none.
    """
    if not isinstance(settings.whiten, WhitenSettings):
        raise UsageError("network.embedding.whiten: auto is for `vssl attach`; name a {dimension, power}, or null")
    return settings.whiten


def build_embedding(backbone: Backbone, network: NetworkSettings, mean: nn.Module) -> nn.Module:
    """What answers with the embedding: the `mean` head, or an `EmbeddingLayer` that is not fitted yet."""
    settings = network.embedding
    if not settings.fitted:
        return mean
    return EmbeddingLayer(settings, inputs_of(backbone, network), mean if settings.of == "mean" else None)


def inputs_of(backbone: Backbone, network: NetworkSettings) -> int:
    """How many numbers of an image the embedding is made of."""
    settings = network.embedding
    if settings.of == "mean":
        return network.dimension
    if settings.of == "features":
        return backbone.features
    last = backbone.channels[-len(settings.cells) :]
    return sum(n * n * each for each, n in zip(last, settings.cells, strict=True))


def dimension_of(backbone: Backbone, network: NetworkSettings) -> int:
    """D of the embedding."""
    settings = network.embedding
    return inputs_of(backbone, network) if settings.whiten is None else whitened(settings).dimension


def check_embedding(backbone: Backbone, network: NetworkSettings) -> None:
    """Refuse what a backbone can't give.

    Raises:
        UsageError: too few stages, too few or too many features.
    """
    settings = network.embedding
    if settings.of == "maps" and len(settings.cells) > len(backbone.channels):
        stages = len(backbone.channels)
        raise UsageError(f"network.embedding.cells: {len(settings.cells)} stages, the backbone has {stages}")
    if settings.whiten is None:
        return
    features, wanted = inputs_of(backbone, network), whitened(settings).dimension
    if not wanted <= features <= MOST_FEATURES:
        raise UsageError(
            f"network.embedding: it is made of {features:,} features; at least whiten.dimension ({wanted}) are needed, "
            f"and {MOST_FEATURES:,} at most: choose another dimension, or other cells"
        )
