"""Changes to the first phase on trial that need more than a recipe's keys: heads, targets, views.

Each is done to a phase before its first step. Notation and shapes are those of `vssl_training.objective.terms`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vssl_training.data.order import generator
from vssl_training.encoder.features import Features
from vssl_training.encoder.heads import VarianceHead, mlp
from vssl_training.encoder.student import Student
from vssl_training.objective.batch import swapped
from vssl_training.objective.terms import Gaussian, coding_rate, loss
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.phases.optimiser import build_optimiser

QUEUE, LATE = 4096, 0.6
MIXED = 4
"""The coordinate of its randomness, behind (seed, phase, step, 0)."""


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
        heads = phase.optimiser.param_groups[-1]  # what AdamW trains
        further = {"params": list(self.net.parameters()), "weight_decay": phase.recipe.optimiser.weight_decay}
        phase.optimiser.add_param_group({**heads, **further})
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


def linear_variance(phase: EncoderTraining) -> None:
    """Let one linear layer on the backbone's features give the variance."""
    network, encoder = phase.recipe.network, phase.student
    single = network.projector.model_copy(update={"layers": 1})
    encoder.log_variance = VarianceHead(encoder.backbone.features, single, network.dimension, network.clamp)
    phase.optimiser = build_optimiser(Student(encoder, phase.predictor), phase.recipe.optimiser)


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


def mixed_views(phase: EncoderTraining) -> None:
    """Exchange a rectangle between the two views of each image (CutMix, arXiv 1905.04899, within one image): one for
    the whole step, of an area that is uniform in 0 … 1/2.
    """
    own = phase.views

    def views(step: int) -> list[Tensor]:
        found, *small = own(step)
        side = found.shape[-1]
        area, *centre = torch.rand(3, generator=generator(phase.seed, phase.number, step, 0, MIXED)).tolist()
        half = (area / 2) ** 0.5 * side / 2
        down, across = (slice(max(0, round(at * side - half)), round(at * side + half)) for at in centre)
        mixed = found.clone()
        mixed[:, :, down, across] = found.roll(len(found) // 2, 0)[:, :, down, across]
        return [mixed, *small]

    phase.views = views  # type: ignore[method-assign]
