"""The networks: a backbone, the student with its heads, and the teacher that follows it.

The student's embedding is its mean head before the predictor; the predictor serves the objective alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vssl_training.objective import Gaussian, soft_clamp


@dataclass(frozen=True)
class Features:
    """What a backbone says of N images: `final` [N, F], and the maps [N, C_i, H_i, W_i] of its stages on the way."""

    final: Tensor
    maps: tuple[Tensor, ...]

    def with_statistics(self) -> Tensor:
        """`final` with the spatial mean and standard deviation of each stage's channels [N, F + 2 Σ C_i].

        Blur and noise show in the early stages and are gone from the last one.
        """
        parts = [self.final]
        for stage in self.maps:
            parts += [stage.mean((2, 3)), (stage.var((2, 3), correction=0) + 1e-6).sqrt()]
        return torch.cat(parts, 1)


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


class SmallNet(nn.Module):
    """A fast residual net for small images on CPUs: 5×5 stride-2 stem, one block at widths w, 2w, 4w.

    The last map is pooled to 2×2 cells, not to one: at this size where things are in the picture is worth keeping.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        widths = (width, 2 * width, 4 * width)
        self.stages = nn.ModuleList(
            ResidualBlock(inputs, outputs, stride)
            for inputs, outputs, stride in zip((width, *widths), widths, (1, 2, 2), strict=False)
        )
        self.features = 4 * widths[-1]
        self.features_with_statistics = self.features + 2 * sum(widths)

    def forward(self, images: Tensor) -> Features:
        """Features of float images [N, 3, S, S] in 0 … 1."""
        maps = []
        x = self.stem((images - 0.5) * 4)  # about mean 0, variance 1 for natural images
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return Features(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1), tuple(maps))


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear → BatchNorm → ReLU → Linear."""
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, outputs),
    )


class VarianceHead(nn.Module):
    """ℓ = log σ² [N, D] from features [N, F], softly clamped; starts at ℓ ≡ 0, so that training starts as BYOL."""

    def __init__(self, inputs: int, hidden: int, dimension: int, clamp: tuple[float, float]) -> None:
        super().__init__()
        self.net = mlp(inputs, hidden, dimension)
        self.clamp = clamp
        last = self.net[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """[N, F] → ℓ [N, D]."""
        return soft_clamp(self.net(features), *self.clamp)


class Encoder(nn.Module):
    """Backbone with the heads of the mean and of the log variance: what the teacher is a moving average of."""

    def __init__(self, backbone: SmallNet, dimension: int, hidden: int, clamp: tuple[float, float]) -> None:
        super().__init__()
        self.backbone = backbone
        self.mean = mlp(backbone.features, hidden, dimension)
        self.log_variance = VarianceHead(backbone.features, hidden, dimension, clamp)

    def forward(self, x: Tensor) -> Gaussian:
        """Posterior of float images [N, 3, S, S] in 0 … 1."""
        features: Features = self.backbone(x)
        return Gaussian(self.mean(features.final), self.log_variance(features.final))


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
