"""The student, its predictor, and the teacher that follows it.

The student's embedding is its mean head before the predictor; the predictor serves the objective alone.
"""

import torch
from torch import Tensor, nn

from vssl_training.encoder.features import Backbone, Features
from vssl_training.encoder.heads import VarianceHead, mlp
from vssl_training.objective.terms import Gaussian
from vssl_training.recipe.sections import NetworkSettings


class Encoder(nn.Module):
    """Backbone with the heads of the mean and of the log variance: what the teacher is a moving average of."""

    def __init__(self, backbone: Backbone, settings: NetworkSettings) -> None:
        super().__init__()
        self.backbone = backbone
        self.mean = mlp(backbone.features, settings.projector, settings.dimension)
        self.log_variance = VarianceHead(backbone.features, settings.projector, settings.dimension, settings.clamp)

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
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """θ_t ← τ θ_t + (1 − τ) θ_s for parameters and float buffers; integer buffers (BatchNorm's counters) are copied.

    Without the buffers the teacher would keep the normalisation that it began with.
    """
    followers = [*teacher.parameters(), *teacher.buffers()]
    leaders = [*student.parameters(), *student.buffers()]
    floats = [(a, b) for a, b in zip(followers, leaders, strict=True) if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - momentum)
    for a, b in zip(followers, leaders, strict=True):
        if not a.is_floating_point():
            a.copy_(b)
