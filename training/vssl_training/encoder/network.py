"""The heads on a backbone: the student, its predictor, and the teacher that follows it.

The student's embedding is its mean head before the predictor; the predictor serves the objective alone.
"""

import torch
from torch import Tensor, nn

from vssl_training.encoder.backbone import DETAIL, Backbone, Features
from vssl_training.objective.terms import Gaussian, soft_clamp
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

    def forward(self, features: Tensor) -> Tensor:
        """[N, F] → ℓ [N, D]."""
        return soft_clamp(self.net(features), *self.clamp)


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


class Encoder(nn.Module):
    """Backbone with the heads of the mean and of the log variance: what the teacher is a moving average of."""

    def __init__(self, backbone: Backbone, dimension: int, projector: HeadSettings, clamp: tuple[float, float]) -> None:
        super().__init__()
        self.backbone = backbone
        self.mean = mlp(backbone.features, projector, dimension)
        self.log_variance = VarianceHead(backbone.features, projector, dimension, clamp)

    def forward(self, x: Tensor) -> Gaussian:
        """Posterior of float images [N, 3, S, S] in 0 … 1."""
        features: Features = self.backbone(x)
        return Gaussian(self.mean(features.final), self.log_variance(features.final))


class Student(nn.Module):
    """Encoder and predictor in one call over all views, which is what several processes and compilers want to see."""

    def __init__(self, encoder: Encoder, predictor: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.predictor = predictor

    def forward(self, *views: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Mean, predicted mean and log variance, all [N, D], of each of several sizes of views [N, 3, S, S]."""
        posteriors = [self.encoder(batch) for batch in views]
        return [(posterior.mean, self.predictor(posterior.mean), posterior.log_variance) for posterior in posteriors]


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """θ_t ← τ θ_t + (1 − τ) θ_s for parameters and float buffers; integer buffers (BatchNorm's counters) are copied.

    Skipping the buffers would leave the teacher with the normalisation of its first day.
    """
    ours = [*teacher.parameters(), *teacher.buffers()]
    theirs = [*student.parameters(), *student.buffers()]
    floats = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - momentum)
    for a, b in zip(ours, theirs, strict=True):
        if not a.is_floating_point():
            a.copy_(b)
