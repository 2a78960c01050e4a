"""Changes to the first phase on trial that need more than a recipe's keys: heads, targets, views, optimisers.

Each is done to a phase before its first step. Notation and shapes are those of `vssl_training.objective.terms`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vssl_training.encoder.features import Features
from vssl_training.encoder.heads import mlp, starting_at_zero
from vssl_training.encoder.student import Student
from vssl_training.objective.batch import swapped
from vssl_training.objective.terms import Gaussian, coding_rate, loss, soft_clamp
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.phases.optimiser import build_optimiser

QUEUE, LATE = 4096, 0.6
MUON_RATE, MUON_MOMENTUM = 5.0, 0.95
"""Of the convolutions, in the others' learning rates; Jordan et al. 2024 take .02 beside some thousandths."""


class SecondHead:
    """A head on the mean of the last stage but one, with an agreement and a coding rate of its own.

    Most of the exported embedding is of that stage, which has no loss of its own otherwise.
    """

    def __init__(self) -> None:
        self.net: nn.Module | None = None
        self.maps: Tensor | None = None
        self.phase: EncoderTraining | None = None

    def attach(self, phase: EncoderTraining) -> None:
        """Give a phase this head."""
        network = phase.recipe.network
        self.phase, self.net = phase, mlp(phase.student.backbone.channels[-2], network.projector, network.dimension)
        further = {"params": list(self.net.parameters()), "weight_decay": phase.recipe.optimiser.weight_decay}
        phase.optimiser.add_param_group({**phase.optimiser.param_groups[0], **further})
        phase.student.backbone.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, images: Any, features: Features) -> None:  # noqa: ANN401 — torch's hook
        self.maps = features.maps[-2]

    def loss(self, means: Tensor, students: list[Gaussian], teacher: Gaussian) -> Tensor:
        """Of both views' maps, a scalar; see `vssl_training.objective.batch.objective_terms`."""
        assert self.maps is not None
        assert self.net is not None
        assert self.phase is not None
        mean = self.net(self.maps.float().mean((2, 3)))
        certain, settings = torch.zeros_like(mean), self.phase.recipe.objective
        agreement = loss(Gaussian(mean, certain), swapped(Gaussian(mean.detach(), certain)), settings)
        return 2 * agreement.mean() - settings.coding_rate * coding_rate(mean)


class OnHidden(nn.Module):
    """ℓ [N, D] as one linear layer of the mean's hidden layer, softly clamped, in the place of a perceptron."""

    def __init__(self, mean: nn.Sequential, dimension: int, clamp: tuple[float, float]) -> None:
        super().__init__()
        [last] = starting_at_zero(nn.Sequential(nn.Linear(mean[-1].in_features, dimension)))  # type: ignore[arg-type]
        self.last, self.clamp, self.hidden = last, clamp, torch.zeros(0)
        mean[-2].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, features: Any, hidden: Tensor) -> None:  # noqa: ANN401 — torch's hook
        self.hidden = hidden

    def forward(self, features: Tensor) -> Tensor:
        """Of what the mean's layers said last."""
        answer: Tensor = soft_clamp(self.last(self.hidden), *self.clamp)
        return answer


def linear_variance(phase: EncoderTraining) -> None:
    """Let one linear layer on the mean's hidden layer give the variance."""
    student = phase.student
    head = OnHidden(student.mean, student.log_variance.dimension, student.log_variance.clamp)
    student.log_variance = head  # type: ignore[assignment]
    phase.optimiser = build_optimiser(Student(student, phase.predictor), phase.recipe.optimiser)


def neighbours_in_a_queue(phase: EncoderTraining) -> None:
    """From a quarter on, compare with the nearest of the last means in each prior's place (MSF, arXiv 2105.07269)."""
    own, queue, steps = phase.prior, torch.zeros(0, phase.recipe.network.dimension), 0

    def prior(views: Tensor, student: tuple[Tensor, ...]) -> Gaussian:
        nonlocal queue, steps
        found = own(views, student)
        means = F.normalize(found.mean.float(), dim=-1)
        steps += 1
        target = found
        if steps > phase.steps / 4:
            target = Gaussian(queue[(means @ queue.T).argmax(1)].to(found.mean.dtype), found.log_variance)
        queue = torch.cat([means, queue])[:QUEUE]
        return target

    phase.prior = prior  # type: ignore[method-assign]


def small_views_late(phase: EncoderTraining) -> None:
    """Show the recipe's small crops in the last part of the steps alone."""
    own = phase.views

    def views(step: int) -> list[Tensor]:
        found = own(step)
        return found if step >= LATE * phase.steps else found[:1]

    phase.views = views  # type: ignore[method-assign]


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal (Jordan et al. 2024), for convolutions [C, C', k, k] as C rows."""

    def __init__(self, params: list[nn.Parameter], weight_decay: float, rate: float = MUON_RATE) -> None:
        super().__init__(params, {"lr": 0.0, "weight_decay": weight_decay, "rate": rate})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step down the gradients."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight)).lerp_(weight.grad, 1 - MUON_MOMENTUM)
                direction = weight.grad.lerp(momentum, MUON_MOMENTUM).flatten(1)
                scale = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
                weight.mul_(1 - group["lr"] / group["rate"] * group["weight_decay"])
                weight.add_(orthogonal(direction).view_as(weight), alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """[R, C] with all singular values moved near to 1 by five steps of a quintic iteration; its directions are kept."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    found: Tensor = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        square = found @ found.T
        found = 3.4445 * found + (-4.775 * square + 2.0315 * square @ square) @ found
    return found if wide is matrix else found.T


class Together:
    """Several optimisers that are asked as one."""

    def __init__(self, *each: torch.optim.Optimizer) -> None:
        self.each, self.param_groups = each, [group for one in each for group in one.param_groups]

    def zero_grad(self) -> None:
        """Of all."""
        for one in self.each:
            one.zero_grad()

    def step(self) -> None:
        """Of all."""
        for one in self.each:
            one.step()


def muon(phase: EncoderTraining, rate: float = MUON_RATE) -> None:
    """Let Muon train the convolutions, and the recipe's optimiser all else."""
    convolutions = [weight for weight in phase.student.backbone.parameters() if weight.ndim == 4]
    theirs = set(map(id, convolutions))
    for group in phase.optimiser.param_groups:
        group["params"] = [weight for weight in group["params"] if id(weight) not in theirs]
    own = Muon(convolutions, phase.recipe.optimiser.weight_decay, rate)
    phase.optimiser = Together(own, phase.optimiser)  # type: ignore[assignment]


def muon_and_linear_variance(phase: EncoderTraining) -> None:
    """Both."""
    linear_variance(phase)
    muon(phase)
