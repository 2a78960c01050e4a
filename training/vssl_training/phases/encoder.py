"""Phase 1: the encoder. One student forward over all views, the teacher without gradient, one optimiser step."""

import copy
import time
from typing import Any

import torch
from torch import Tensor, nn

from vssl_training.data.order import Order, generator
from vssl_training.data.stream import Stream, take
from vssl_training.encoder.embedder import build_encoder, build_predictor
from vssl_training.encoder.student import Encoder, Student, follow
from vssl_training.judging.online import Judge
from vssl_training.objective.batch import objective_terms
from vssl_training.objective.terms import Gaussian
from vssl_training.phases.health import collapsed
from vssl_training.phases.optimiser import build_optimiser, descend
from vssl_training.phases.schedules import teacher_momentum, warm_up_cosine
from vssl_training.recipe.sections import Recipe
from vssl_training.run import processes as distributed
from vssl_training.run.numerics import Speed
from vssl_training.views.pixels import to_float
from vssl_training.views.two_views import small_views, two_views

PHASE = 0


class Pretraining:
    """State of the first phase, and one step of it.

    Args:
        recipe: what to do.
        pixels: images, uint8 [N, S, S, 3], on the device, or a stream of them.
        seed: of every random choice.
        steps: of the whole phase, for the schedules.
        speed: switches of this device.
        encoder: where the student starts, instead of at random.
    """

    name = "encoder"

    def __init__(
        self,
        recipe: Recipe,
        pixels: Tensor | Stream,
        seed: int,
        steps: int,
        speed: Speed | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self.recipe = recipe
        self.pixels = pixels
        self.seed = seed
        self.steps = steps
        self.batch = min(recipe.optimiser.batch, len(pixels))
        self.part = distributed.own_part(self.batch)
        self.order = Order(seed, PHASE, len(pixels), self.batch, self.part)
        self.waited = 0.0
        """Seconds that steps have waited for their images."""
        self.speed = speed or Speed()
        torch.manual_seed(seed)
        device = pixels.device
        student = encoder or build_encoder(recipe)
        self.student = distributed.shared_norms(student, device).to(device).to(memory_format=self.speed.memory_format)
        self.predictor = distributed.shared_norms(build_predictor(recipe), device).to(device)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        for module in self.teacher.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 0.0  # it normalises by the batch; its running statistics follow the student's alone
        trained = Student(self.student, self.predictor)
        self.optimiser = build_optimiser(trained, recipe.optimiser, self.speed.fused)
        self.forward_student = self.speed.compiled(distributed.synchronised(trained))
        self.forward_teacher = self.speed.compiled(self.teacher)

    def step(self, step: int) -> dict[str, Tensor]:
        """Take one step; the terms of the loss come back as tensors, so that reading them is the caller's choice."""
        settings = self.recipe.optimiser
        views = self.views(step)
        with self.speed.autocast(self.pixels.device):
            outputs = self.forward_student(*views)
            with torch.no_grad():
                prior: Gaussian = self.forward_teacher(views[0])
        counts = [2, self.recipe.views.small_crops.count]
        rows = [
            [distributed.gather(values.float(), n) for values in out] for out, n in zip(outputs, counts, strict=False)
        ]
        means, predicted, log_variance = rows[0]
        students = [Gaussian(predicted, log_variance), *(Gaussian(small[1], small[2]) for small in rows[1:])]
        teacher = Gaussian(*(distributed.gather(v.float(), 2) for v in (prior.mean, prior.log_variance)))
        terms = objective_terms(means, students, teacher, self.recipe.objective)
        factor = warm_up_cosine(step, self.steps, settings.warm_up)
        descend(self.optimiser, terms["loss"], settings.learning_rate * factor)
        tau = teacher_momentum(step, self.steps, self.recipe.teacher.momentum)
        follow(self.teacher, self.student, tau)
        return {name: value.detach() for name, value in terms.items()}

    def views(self, step: int) -> list[Tensor]:
        """This process's part of a step's views: the two [2n, 3, S, S], and the small crops if there are any."""
        begun = time.perf_counter()
        device = self.pixels.device
        images = to_float(take(self.pixels, self.order, step))
        self.waited += time.perf_counter() - begun
        draws = generator(self.seed, PHASE, step, device=device)
        settings = self.recipe.views.at(step / self.steps)
        views = [two_views(images, settings, draws, self.batch, self.part)]
        if self.recipe.views.small_crops.count:
            views.append(small_views(images, self.recipe.views, draws, self.batch, self.part))
        return [view.contiguous(memory_format=self.speed.memory_format) for view in views]

    def judged(self, judge: Judge) -> dict[str, float]:
        """Figures of the student."""
        return judge.encoder(self.student, self.recipe.network.whitening)

    def complaint(self, figures: dict[str, float]) -> str | None:
        """What is wrong with figures of `judged`."""
        return collapsed(figures)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, but what follows from recipe, seed and step."""
        return {
            "student": self.student.state_dict(),
            "predictor": self.predictor.state_dict(),
            "teacher": self.teacher.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.student.load_state_dict(state["student"])
        self.predictor.load_state_dict(state["predictor"])
        self.teacher.load_state_dict(state["teacher"])
        self.optimiser.load_state_dict(state["optimiser"])
