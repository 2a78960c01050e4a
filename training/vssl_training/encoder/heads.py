"""The heads on a backbone: multi-layer perceptrons for means, predictions and log variances."""

import torch
from torch import Tensor, nn

from vssl_training.encoder.features import DETAIL
from vssl_training.objective.terms import soft_clamp
from vssl_training.recipe.sections import HeadSettings


def mlp(inputs: int, settings: HeadSettings, outputs: int) -> nn.Sequential:
    """Linear → BatchNorm → ReLU, as often as there are hidden layers, then Linear."""
    modules: list[nn.Module] = []
    for _ in range(settings.layers - 1):
        modules += [
            nn.Linear(inputs, settings.hidden, bias=False),
            nn.BatchNorm1d(settings.hidden),
            nn.ReLU(inplace=True),
        ]
        inputs = settings.hidden
    return nn.Sequential(*modules, nn.Linear(inputs, outputs))


def starting_at_zero(net: nn.Sequential) -> nn.Sequential:
    """The net, its last layer linear and set to answer 0."""
    nn.init.zeros_(net[-1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(net[-1].bias)  # type: ignore[arg-type]
    return net


class VarianceHead(nn.Module):
    """ℓ = log σ² [N, D] from features [N, F], softly clamped; starts at ℓ ≡ 0, so that training starts as BYOL."""

    def __init__(self, inputs: int, settings: HeadSettings, dimension: int, clamp: tuple[float, float]) -> None:
        super().__init__()
        self.net = starting_at_zero(mlp(inputs, settings, dimension))
        self.clamp = clamp
        self.dimension = dimension

    def forward(self, features: Tensor) -> Tensor:
        """[N, F] → ℓ [N, D]."""
        return soft_clamp(self.net(features), *self.clamp)


KNOTS = 8
"""Of the curve by which a `StatisticsHead` is corrected."""


class StatisticsHead(VarianceHead):
    """ℓ [N, D] from statistics of a pretrained network's stages: standardised, then one small layer with dropout.

    Small and strongly regularised, because a larger one remembers its training images: it then takes every other
    picture for a degraded one. What it foretells in all, mean_d σ², is corrected by a curve, so that it is right on the
    average for images that it was not trained on.
    """

    mean: Tensor
    std: Tensor
    knots: Tensor
    slopes: Tensor
    start: Tensor

    def __init__(
        self, inputs: int, settings: HeadSettings, dropout: float, dimension: int, clamp: tuple[float, float]
    ) -> None:
        super().__init__(inputs, settings, dimension, clamp)
        hidden = nn.Linear(inputs, settings.hidden)
        last = starting_at_zero(nn.Sequential(nn.Linear(settings.hidden, dimension)))
        self.net = nn.Sequential(hidden, nn.ReLU(), nn.Dropout(dropout), *last)
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("std", torch.ones(inputs))
        self.register_buffer("knots", torch.zeros(KNOTS))
        self.register_buffer("slopes", torch.zeros(KNOTS - 1))
        self.register_buffer("start", torch.zeros(()))

    def uncorrected(self, features: Tensor) -> Tensor:
        """[N, F] → ℓ [N, D] as it was trained."""
        return super().forward((features - self.mean) / self.std)

    def forward(self, features: Tensor) -> Tensor:
        """[N, F] → ℓ [N, D]."""
        return self.corrected(self.uncorrected(features))

    def correct(self, knots: Tensor, values: Tensor) -> None:
        """Set the curve: `values` are added to ℓ where log mean_d σ² is at the `knots` [KNOTS], ascending; linear
        between them, constant beyond.
        """
        widths = knots.diff()
        self.knots.copy_(knots)
        self.slopes.copy_(torch.where(widths > 0, values.diff() / widths.clamp(min=1e-9), 0.0))
        self.start.copy_(values[0])

    def corrected(self, log_variance: Tensor) -> Tensor:
        """ℓ [N, D] with the curve's value added."""
        total = log_variance.exp().mean(1, keepdim=True).log()
        parts = (total - self.knots[:-1]).clamp(min=0).minimum(self.knots.diff())
        return log_variance + self.start + (parts * self.slopes).sum(1, keepdim=True)


class DetailHead(VarianceHead):
    """A `VarianceHead` to which a small one of the images' detail is added: the last columns of its features.

    Apart, because among a thousand features of an encoder those few are hardly learned from.
    """

    def __init__(self, inputs: int, settings: HeadSettings, dimension: int, clamp: tuple[float, float]) -> None:
        super().__init__(inputs, settings, dimension, clamp)
        small = starting_at_zero(mlp(DETAIL, HeadSettings(hidden=64, layers=3), dimension))
        self.detail = nn.Sequential(nn.BatchNorm1d(DETAIL), *small)

    def forward(self, features: Tensor) -> Tensor:
        """[N, F + DETAIL] → ℓ [N, D]."""
        seen, detail = features[:, :-DETAIL], features[:, -DETAIL:]
        return soft_clamp(self.net(seen) + self.detail(detail), *self.clamp)
