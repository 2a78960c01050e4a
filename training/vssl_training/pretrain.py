"""Phase 1: the encoder. One student forward over both views, the teacher without gradient, one optimiser step."""

from typing import Any

import torch
from torch import Tensor, nn

from vssl_training.augment import to_float, two_views
from vssl_training.data import Order, Stream, take
from vssl_training.embedder import build_encoder, build_predictor
from vssl_training.network import follow
from vssl_training.objective import FORMS, Gaussian, decorrelation
from vssl_training.recipe import Recipe
from vssl_training.schedule import generator, teacher_momentum, warm_up_cosine

PHASE = 0


class Pretraining:
    """State of the first phase, and one step of it."""

    name = "encoder"

    def __init__(self, recipe: Recipe, pixels: Tensor | Stream, seed: int, steps: int) -> None:
        self.recipe = recipe
        self.pixels = pixels
        self.seed = seed
        self.steps = steps
        self.batch = min(recipe.optimiser.batch, len(pixels))
        self.order = Order(seed, PHASE, len(pixels), self.batch)
        torch.manual_seed(seed)
        device = pixels.device
        self.memory_format = torch.channels_last  # faster on a CPU: benchmarks/training.py measures it
        self.student = build_encoder(recipe).to(device).to(memory_format=self.memory_format)
        self.predictor = build_predictor(recipe).to(device)
        self.teacher = build_encoder(recipe).to(device).to(memory_format=self.memory_format).requires_grad_(False)
        self.teacher.load_state_dict(self.student.state_dict())
        for module in self.teacher.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 0.0  # it normalises by the batch; its running statistics follow the student's alone
        settings = recipe.optimiser
        trained = nn.ModuleList([self.student, self.predictor])
        self.optimiser = adamw(trained, settings.learning_rate, settings.weight_decay)

    def step(self, step: int) -> dict[str, Tensor]:
        """Take one step; the terms of the loss come back as tensors, so that reading them is the caller's choice."""
        settings = self.recipe.optimiser
        device = self.pixels.device
        chosen = take(self.pixels, self.order, step)
        views = two_views(to_float(chosen), self.recipe.views, generator(self.seed, PHASE, step, device=device))
        views = views.contiguous(memory_format=self.memory_format)
        posterior = self.student(views)
        with torch.no_grad():
            prior = self.teacher(views)
        student = Gaussian(self.predictor(posterior.mean), posterior.log_variance)
        objective = self.recipe.objective
        directions = FORMS[objective.form](student, swapped(prior), objective.beta)
        agreement = 2 * directions.mean()  # mean over images of the sum of the two directions
        first, second = posterior.mean.chunk(2)
        apart = 0.5 * (decorrelation(first) + decorrelation(second))
        loss = agreement + objective.decorrelation * apart
        descend(self.optimiser, loss, settings.learning_rate * warm_up_cosine(step, self.steps, settings.warm_up))
        follow(self.teacher, self.student, teacher_momentum(step, self.steps, settings.momentum))
        return {"loss": loss.detach(), "agreement": agreement.detach(), "decorrelation": apart.detach()}

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


def swapped(posterior: Gaussian) -> Gaussian:
    """The two views' halves of [2N, D] exchanged, so that each student view meets the teacher's other view."""
    half = len(posterior.mean) // 2
    return Gaussian(posterior.mean.roll(half, 0), posterior.log_variance.roll(half, 0))


def adamw(module: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW with biases and norms excluded from the decay."""
    parameters = list(module.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99))


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, learning_rate: float) -> None:
    """One step of the optimiser down the gradient of a scalar loss."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
