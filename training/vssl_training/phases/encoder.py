"""Phase 1: the encoder. One student forward over all views, the teacher without gradient, one optimiser step.

The student starts at random, or with pretrained weights and then learns with care (`phases.adaptation`); the teacher is
its moving average, the student itself without gradient, or a frozen pretrained network (`encoder.prior`).
"""

import copy
from typing import Any, Self

import torch
from torch import Tensor, nn

from vssl.arrays import Int64s
from vssl.errors import UsageError
from vssl_training.data.crops import CropOrder
from vssl_training.data.order import Order
from vssl_training.data.stream import Images, Stream, batch_of
from vssl_training.encoder.adapters import merged
from vssl_training.encoder.embedder import build_encoder, build_predictor
from vssl_training.encoder.prior import Prior, build_prior
from vssl_training.encoder.recomputing import recompute_blocks
from vssl_training.encoder.student import Encoder, Student, update_teacher
from vssl_training.judging.online import OnlineJudge
from vssl_training.objective.batch import objective_terms
from vssl_training.objective.terms import Gaussian
from vssl_training.phases.adaptation import freeze, late_factor, paces
from vssl_training.phases.base import Phase
from vssl_training.phases.health import collapsed, forgetting, forgotten
from vssl_training.phases.optimiser import build_optimiser, set_rates
from vssl_training.phases.schedules import teacher_momentum, warm_up_cosine
from vssl_training.recipe.sections import Recipe
from vssl_training.run import processes
from vssl_training.run.numerics import Numerics
from vssl_training.views.pixels import to_float
from vssl_training.views.two_views import cropped_views, small_views, two_views

PRIOR_ORDER, CENTRED = 3, 2_000
"""The coordinate of randomness of the images that a prior is centred on, which no phase has, and how many they are."""


def following(student: Encoder) -> Encoder:
    """A teacher that begins as the student."""
    teacher = copy.deepcopy(student).requires_grad_(False)
    for module in teacher.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.0  # it normalises by the batch; its running statistics follow the student's alone
    return teacher


class EncoderTraining(Phase):
    """The first phase; see `Phase` for its arguments.

    The student starts at `encoder`, or at random without one; the teacher is `prior`, or what the recipe says.
    """

    name = "encoder"
    number = 0

    def __init__(
        self,
        recipe: Recipe,
        pixels: Images,
        seed: int,
        steps: int,
        numerics: Numerics | None = None,
        encoder: Encoder | None = None,
        prior: Prior | None = None,
    ) -> None:
        super().__init__(recipe, pixels, seed, steps, recipe.optimiser.batch, numerics)
        device, layout = pixels.device, self.numerics.memory_format
        student = encoder or build_encoder(recipe)
        self.start = None if recipe.adapt is None else copy.deepcopy(student.backbone).requires_grad_(False)
        self.neighbours: Int64s | None = None
        """Of the judge's images by the encoder that is adapted, once they were asked for."""
        if recipe.adapt is None:
            student = processes.shared_norms(student, device)
        else:
            freeze(student, recipe.adapt, seed)
            processes.shared_norms(student.mean, device)
            processes.shared_norms(student.log_variance, device)
        self.crops = None
        if recipe.image.stored == "original":
            self.crops = CropOrder(self.order, recipe.views, recipe.image.settled().size, steps)
        self.student = student.to(device).to(memory_format=layout)
        self.predictor = processes.shared_norms(build_predictor(recipe), device).to(device)
        self.teacher: Encoder | Prior | None = None
        """None where the student's own answer is what it learns from."""
        if recipe.distil is not None:
            self.teacher = (prior or build_prior(recipe)).to(device).to(memory_format=layout)
        elif recipe.teacher.momentum > 0:
            self.teacher = following(self.student)
        if recipe.optimiser.recompute and not recompute_blocks(self.student.backbone):
            raise UsageError(f"optimiser.recompute: {recipe.network.backbone} has no blocks; set it to false")
        trained = Student(self.student, self.predictor)
        pace = None if recipe.adapt is None else paces(trained, recipe.adapt, recipe.optimiser)
        self.optimiser = build_optimiser(trained, recipe.optimiser, self.numerics.fused, pace)
        self.forward_student = self.numerics.compiled(processes.synchronised(trained))
        self.forward_teacher = None if self.teacher is None else self.numerics.compiled(self.teacher)

    def step(self, step: int) -> dict[str, Tensor]:
        """See `Phase.step`."""
        settings, adapt = self.recipe.optimiser, self.recipe.adapt
        self.optimiser.zero_grad()
        parts = self.parts(self.views(step))
        terms = [self.learn(views, len(parts)) for views in parts]
        if settings.clip is not None:
            nn.utils.clip_grad_norm_(
                (p for group in self.optimiser.param_groups for p in group["params"]), settings.clip
            )
        rate = settings.learning_rate * warm_up_cosine(step, self.steps, settings.warm_up)
        late = 1.0 if adapt is None else late_factor(step, self.steps, adapt, settings.warm_up)
        set_rates(self.optimiser, rate, settings.learning_rate * late)
        self.optimiser.step()
        if isinstance(self.teacher, Encoder):
            update_teacher(self.teacher, self.student, teacher_momentum(step, self.steps, self.recipe.teacher.momentum))
        return {name: torch.stack([part[name] for part in terms]).mean() for name in terms[0]}

    def learn(self, views: list[Tensor], parts: int) -> dict[str, Tensor]:
        """Add the gradient of one of the `parts` of a step's views, and give the terms of its loss."""
        with self.numerics.autocast(self.pixels.device):
            outputs = self.forward_student(*views)
            with torch.no_grad():
                prior = self.prior(views[0], outputs[0])
        counts = [2, self.recipe.views.small_crops.count]
        rows = [
            [processes.gather(values.float(), n) for values in out] for out, n in zip(outputs, counts, strict=False)
        ]
        means, predicted, log_variance = rows[0]
        students = [Gaussian(predicted, log_variance), *(Gaussian(small[1], small[2]) for small in rows[1:])]
        teacher = Gaussian(*(processes.gather(v.float(), 2) for v in (prior.mean, prior.log_variance)))
        terms = objective_terms(means, students, teacher, self.recipe.objective)
        (terms["loss"] / parts).backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in terms.items()}

    def prior(self, views: Tensor, student: tuple[Tensor, ...]) -> Gaussian:
        """The prior of the two views [2n, 3, S, S], in their order, which the student's answer is compared with."""
        if self.forward_teacher is None:
            mean, _, log_variance = student
            return Gaussian(mean.detach(), log_variance.detach())
        found: Gaussian = self.forward_teacher(views)
        return found

    def prepare(self) -> Self:
        """Make what follows from a prior, before the first step."""
        if isinstance(self.teacher, Prior):
            order = Order(self.seed, PRIOR_ORDER, len(self.pixels), self.batch)
            steps = range(min(-(-CENTRED // self.batch), len(self.pixels) // self.batch))
            self.teacher.fit(self.shown(to_float(batch_of(self.pixels, order, step))) for step in steps)
        return self

    @property
    def trained(self) -> Encoder:
        """The student as it is exported: changes of low rank are part of its matrices."""
        return merged(self.student)

    def views(self, step: int) -> list[Tensor]:
        """This process's part of a step's views: the two [2n, 3, S, S], and the small crops if there are any."""
        draws, settings = self.draws(step), self.recipe.views.at(step / self.steps)
        if self.crops is not None and isinstance(self.pixels, Stream):
            with self.waiting():
                crops = [to_float(each) for each in self.pixels.crops(self.crops, step)]
            views = cropped_views(crops, settings, draws, self.batch, self.part)
        else:
            images = self.images(step)
            if settings.size is None and isinstance(self.recipe.image.stored, int):
                settings = settings.model_copy(update={"size": self.recipe.image.settled().size})
            views = [two_views(images, settings, draws, self.batch, self.part)]
            if settings.small_crops.count:
                views.append(small_views(images, settings, draws, self.batch, self.part))
        return [view.contiguous(memory_format=self.numerics.memory_format) for view in views]

    def parts(self, views: list[Tensor]) -> list[list[Tensor]]:
        """The views of a step in the parts that go through the network one after the other."""
        count = self.recipe.optimiser.accumulate
        if count == 1:
            return [views]
        kinds = [2, self.recipe.views.small_crops.count]
        split = [
            [part.flatten(0, 1) for part in each.view(kind, -1, *each.shape[1:]).chunk(count, dim=1)]
            for each, kind in zip(views, kinds, strict=False)
        ]
        return [list(part) for part in zip(*split, strict=True)]

    def judged(self, judge: OnlineJudge) -> dict[str, float]:
        """Figures of the student; of one that is adapted, how far it still has the neighbours that it began with."""
        if self.start is not None and self.neighbours is None:
            self.neighbours = judge.neighbours(self.start)
        return judge.encoder(self.student, self.recipe.network, self.neighbours)

    def complaint(self, figures: dict[str, float]) -> str | None:
        """See `Phase.complaint`."""
        return collapsed(figures)

    def warning(self, figures: dict[str, float]) -> str | None:
        """See `Phase.warning`."""
        return forgetting(figures)

    def alarm(self, figures: dict[str, float]) -> str | None:
        """See `Phase.alarm`."""
        return forgotten(figures)

    def state(self) -> dict[str, Any]:
        """See `Phase.state`. With changes of low rank, `student` has them merged, for others to read, and `changed` as
        they are.
        """
        trained = self.trained
        return {
            "student": trained.state_dict(),
            **({} if trained is self.student else {"changed": self.student.state_dict()}),
            "predictor": self.predictor.state_dict(),
            **({} if self.teacher is None else {"teacher": self.teacher.state_dict()}),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """See `Phase.load_state`."""
        self.student.load_state_dict(state.get("changed", state["student"]))
        self.predictor.load_state_dict(state["predictor"])
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
        self.optimiser.load_state_dict(state["optimiser"])
