"""Phase 2: the variance head on the frozen encoder, from spoilt views towards the clean image's embedding.

What is regressed is the squared residual between the embedding of a spoilt view and that of the clean image, so σ² is
the squared error that this picture's quality is expected to cost. Trained jointly with the encoder, the variance
learned next to nothing of this; docs/method.md says more.
"""

from typing import Any

import torch
from torch import Tensor

from vssl_training.augment import degraded_view, to_float
from vssl_training.data import Order, Stream, take
from vssl_training.embedder import build_embedder
from vssl_training.network import Encoder
from vssl_training.objective import beta_nll, on_sphere
from vssl_training.pretrain import adamw, descend
from vssl_training.recipe import Recipe
from vssl_training.schedule import generator, warm_up_cosine

PHASE = 1


class VarianceTraining:
    """State of the second phase, and one step of it."""

    name = "variance"

    def __init__(self, recipe: Recipe, encoder: Encoder, pixels: Tensor | Stream, seed: int, steps: int) -> None:
        self.recipe = recipe
        self.pixels = pixels
        self.seed = seed
        self.steps = steps
        self.batch = min(recipe.variance.batch, len(pixels))
        self.order = Order(seed, PHASE, len(pixels), self.batch)
        torch.manual_seed(seed)
        self.embedder = build_embedder(recipe, encoder).to(pixels.device)
        self.embedder.requires_grad_(False).eval()
        self.head = self.embedder.log_variance.requires_grad_(True).train()
        self.optimiser = adamw(self.head, recipe.variance.learning_rate, recipe.variance.weight_decay)

    def step(self, step: int) -> dict[str, Tensor]:
        """Take one step; see `Pretraining.step`."""
        settings = self.recipe.variance
        device = self.pixels.device
        chosen = take(self.pixels, self.order, step)
        clean = to_float(chosen)
        spoilt = degraded_view(clean, settings.views, generator(self.seed, PHASE, step, device=device))
        with torch.no_grad():
            both = self.embedder.backbone(torch.cat([spoilt, clean]))
            mean, target = on_sphere(self.embedder.mean(both.final)).chunk(2)
            features = both.with_statistics()[: len(spoilt)]
        log_variance = self.head(features)
        residual = (mean - target).square()
        loss = beta_nll(log_variance, residual, settings.beta_nll).mean()
        factor = warm_up_cosine(step, self.steps, self.recipe.optimiser.warm_up)
        descend(self.optimiser, loss, settings.learning_rate * factor)
        spread = log_variance.detach().mean(1).std()
        return {"loss": loss.detach(), "residual": residual.mean(), "spread": spread}

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, the frozen encoder included."""
        return {"embedder": self.embedder.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.embedder.load_state_dict(state["embedder"])
        self.optimiser.load_state_dict(state["optimiser"])
