"""Changes to the first phase that are on trial: rows of `benchmarks/ssl_methods.py`, most of them no recipe can name.

Each is named by its key in `VARIANTS`. Notation and shapes are those of `vssl_training.objective.terms`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.encoder_changes import SecondHead, linear_variance, mixed_views, neighbours_in_a_queue, small_views_late
from vssl_training.data.order import generator
from vssl_training.encoder.student import Encoder
from vssl_training.objective import batch
from vssl_training.objective.batch import swapped
from vssl_training.objective.terms import Gaussian, on_sphere
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.recipe.sections import ObjectiveSettings
from vssl_training.views.draws import Draws
from vssl_training.views.pixels import to_float
from vssl_training.views.two_views import crop_and_flip

Apart = Callable[[Tensor, list[Gaussian], Gaussian], Tensor]
"""Means of both views [2N, D], the student's answers, the teacher's → a scalar in decorrelation's place."""

WEAK_CROP, WEAK = (0.2, 1.0), 3
"""Of the teacher's view: area, and the coordinate of its randomness, behind (seed, phase, step, 0)."""


def cross_correlation(means: Tensor, students: list[Gaussian], teacher: Gaussian) -> Tensor:
    """Squares of what two different dimensions of predicted and teacher's means have in common, a scalar.

    After Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230), on the sphere; what each has with itself is left to the
    agreement. Normalised as `decorrelation`: the sum over the others for an average dimension.
    """
    ours, theirs = standardised(students[0].mean), standardised(swapped(teacher).mean)
    correlation = ours.T @ theirs / len(ours)
    return (correlation.square().sum() - torch.diagonal(correlation).square().sum()) / ours.shape[1]


def standardised(mean: Tensor) -> Tensor:
    """Means [N, D] on the sphere, each dimension with mean 0 and variance 1."""
    points = on_sphere(mean)
    centred = points - points.mean(0)
    return centred / (centred.square().mean(0) + 1e-4).sqrt()


def weak_teacher(phase: EncoderTraining) -> None:
    """Show the teacher crops and flips alone, and the student what both had before (ReSSL, arXiv 2107.09282)."""
    strong, teacher = phase.views, phase.forward_teacher
    assert teacher is not None
    weak: list[Tensor] = []

    def views(step: int) -> list[Tensor]:
        found = strong(step)
        numbers = generator(phase.seed, phase.number, step, 0, WEAK, device=phase.pixels.device)
        draws = Draws(numbers, phase.batch, 2, phase.part)
        images = phase.images(step).repeat(2, 1, 1, 1)
        shown = crop_and_flip(images, WEAK_CROP, 0.5, draws, found[0].shape[-1])
        weak[:] = [shown.contiguous(memory_format=phase.numerics.memory_format)]
        return found

    phase.views, phase.forward_teacher = views, lambda _: teacher(weak[0])  # type: ignore[method-assign]


def clean_statistics(phase: EncoderTraining) -> Encoder:
    """The student, its BatchNorms' statistics those of clean images at full size."""
    encoder = phase.student
    norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    encoder.train()
    with torch.no_grad():
        for part in torch.split(torch.as_tensor(phase.pixels), phase.batch):
            if len(part) > 1:
                encoder(to_float(part))
    return encoder


def student(phase: EncoderTraining) -> Encoder:
    """What is judged by default."""
    return phase.student


def teacher(phase: EncoderTraining) -> Encoder:
    """The moving average in the student's place."""
    assert isinstance(phase.teacher, Encoder)
    return phase.teacher


@dataclass(frozen=True)
class Variant:
    """One change.

    Attributes:
        settings: of the recipe.
        apart: in decorrelation's place.
        change: of the phase before its first step.
        judged: the encoder that it makes.
    """

    settings: list[str] = field(default_factory=list)
    apart: Apart | None = None
    change: Callable[[EncoderTraining], None] | None = None
    judged: Callable[[EncoderTraining], Encoder] = student


BEFORE = ["objective.coding_rate=0", "objective.decorrelation=0.1", "network.predictor={hidden: 512}"]
BEFORE += ["teacher.momentum=0.985", "optimiser.name=adamw"]
"""What `quick` and `default` were: AdamW, a moving average, a predictor, and decorrelation."""

SMALL = "views.small_crops={count: 4, size: 12, crop: [0.1, 0.4]}"
second = SecondHead()

VARIANTS = {
    "a moving average": Variant(["teacher.momentum=0.95"]),
    "a predictor": Variant(["network.predictor={hidden: 512}"]),
    "decorrelation": Variant(["objective.coding_rate=0", "objective.decorrelation=0.5"]),
    "coding rate 1": Variant(["objective.coding_rate=1"]),
    "coding rate 4": Variant(["objective.coding_rate=4"]),
    "D 256": Variant(["network.dimension=256"]),
    "D 512, projector 1024": Variant(["network.dimension=512", "network.projector={hidden: 1024}"]),
    "a linear variance": Variant(change=linear_variance),
    "a second head": Variant(["objective.decorrelation=0.5"], apart=second.loss, change=second.attach),
    "neighbours in a queue": Variant(change=neighbours_in_a_queue),
    "four small views late": Variant([SMALL], change=small_views_late),
    "CutMix between views": Variant(change=mixed_views),
    "AdamW alone": Variant(["optimiser.name=adamw"]),
    "Muon, half the rate": Variant(["optimiser.muon_rate=0.004"]),
    "Muon, half more of the rate": Variant(["optimiser.muon_rate=0.012"]),
    "as before": Variant(BEFORE),
    "as before, cross-correlation": Variant(BEFORE, apart=cross_correlation),
    "as before, weak teacher view": Variant(BEFORE, change=weak_teacher),
    "as before, statistics of clean images": Variant(BEFORE, judged=clean_statistics),
    "as before, the teacher": Variant(BEFORE, judged=teacher),
}


@contextmanager
def on_trial(variant: Variant) -> Iterator[None]:
    """Build and train the first phase with a variant's objective and networks."""
    own = batch.objective_terms

    def terms(
        means: Tensor, students: list[Gaussian], teacher: Gaussian, settings: ObjectiveSettings
    ) -> dict[str, Tensor]:
        assert variant.apart is not None
        found = own(means, students, teacher, settings.model_copy(update={"decorrelation": 0.0}))
        value = variant.apart(means, students, teacher)
        return found | {"loss": found["loss"] + settings.decorrelation * value, "decorrelation": value}

    apart = nullcontext() if variant.apart is None else patch("vssl_training.phases.encoder.objective_terms", terms)
    with apart:
        yield
