"""Phase 1: the encoder. One student forward over all views, the teacher without gradient, one optimiser step."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from vssl_training.data.stream import Stream
from vssl_training.encoder.embedder import build_encoder, build_predictor
from vssl_training.encoder.student import Encoder, Student, update_teacher
from vssl_training.judging.online import OnlineJudge
from vssl_training.objective.batch import objective_terms
from vssl_training.objective.terms import Gaussian
from vssl_training.phases.base import Phase
from vssl_training.phases.health import collapsed
from vssl_training.phases.optimiser import build_optimiser, optimiser_step
from vssl_training.phases.schedules import teacher_momentum, warm_up_cosine
from vssl_training.recipe.sections import Recipe
from vssl_training.run import processes
from vssl_training.run.numerics import Numerics
from vssl_training.views.two_views import small_views, two_views


class EncoderTraining(Phase):
    """The first phase; see `Phase` for its arguments. The student starts at `encoder`, or at random without one."""

    name = "encoder"
    number = 0

    def __init__(
        self,
        recipe: Recipe,
        pixels: Tensor | Stream,
        seed: int,
        steps: int,
        numerics: Numerics | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__(recipe, pixels, seed, steps, recipe.optimiser.batch, numerics)
        device = pixels.device
        student = encoder or build_encoder(recipe)
        self.student = processes.shared_norms(student, device).to(device).to(memory_format=self.numerics.memory_format)
        self.predictor = processes.shared_norms(build_predictor(recipe), device).to(device)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        for module in self.teacher.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 0.0  # it normalises by the batch; its running statistics follow the student's alone
        trained = Student(self.student, self.predictor)
        self.optimiser = build_optimiser(trained, recipe.optimiser, self.numerics.fused)
        self.forward_student = self.numerics.compiled(processes.synchronised(trained))
        self.forward_teacher = self.numerics.compiled(self.teacher)

    def step(self, step: int) -> dict[str, Tensor]:
        """See `Phase.step`."""
        settings = self.recipe.optimiser
        views = self.views(step)
        with self.numerics.autocast(self.pixels.device):
            outputs = self.forward_student(*views)
            with torch.no_grad():
                prior: Gaussian = self.forward_teacher(views[0])
        counts = [2, self.recipe.views.small_crops.count]
        rows = [
            [processes.gather(values.float(), n) for values in out] for out, n in zip(outputs, counts, strict=False)
        ]
        means, predicted, log_variance = rows[0]
        students = [Gaussian(predicted, log_variance), *(Gaussian(small[1], small[2]) for small in rows[1:])]
        teacher = Gaussian(*(processes.gather(v.float(), 2) for v in (prior.mean, prior.log_variance)))
        terms = objective_terms(means, students, teacher, self.recipe.objective)
        factor = warm_up_cosine(step, self.steps, settings.warm_up)
        optimiser_step(self.optimiser, terms["loss"], settings.learning_rate * factor)
        tau = teacher_momentum(step, self.steps, self.recipe.teacher.momentum)
        update_teacher(self.teacher, self.student, tau)
        return {name: value.detach() for name, value in terms.items()}

    def views(self, step: int) -> list[Tensor]:
        """This process's part of a step's views: the two [2n, 3, S, S], and the small crops if there are any."""
        images, draws = self.images(step), self.draws(step)
        settings = self.recipe.views.at(step / self.steps)
        views = [two_views(images, settings, draws, self.batch, self.part)]
        if self.recipe.views.small_crops.count:
            views.append(small_views(images, self.recipe.views, draws, self.batch, self.part))
        return [view.contiguous(memory_format=self.numerics.memory_format) for view in views]

    def judged(self, judge: OnlineJudge) -> dict[str, float]:
        """Figures of the student."""
        return judge.encoder(self.student, self.recipe.network)

    def complaint(self, figures: dict[str, float]) -> str | None:
        """See `Phase.complaint`."""
        return collapsed(figures)

    def state(self) -> dict[str, Any]:
        """See `Phase.state`."""
        return {
            "student": self.student.state_dict(),
            "predictor": self.predictor.state_dict(),
            "teacher": self.teacher.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """See `Phase.load_state`."""
        self.student.load_state_dict(state["student"])
        self.predictor.load_state_dict(state["predictor"])
        self.teacher.load_state_dict(state["teacher"])
        self.optimiser.load_state_dict(state["optimiser"])
