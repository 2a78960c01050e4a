"""Phase 2: the variance head on the frozen encoder, from degraded views towards the clean image's embedding.

What is regressed is the squared residual between the embedding of a degraded view and that of the clean image, so σ² is
the squared error that this picture's quality is expected to cost. Trained jointly with the encoder, the variance
learned next to nothing of this; docs/method.md says more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from vssl_training.data.order import Order
from vssl_training.data.stream import Stream, batch_of
from vssl_training.encoder.embedder import build_embedder
from vssl_training.encoder.embedding import IMAGES, EmbeddingLayer
from vssl_training.encoder.features import Features
from vssl_training.encoder.student import Encoder
from vssl_training.judging.online import OnlineJudge
from vssl_training.objective.terms import on_sphere
from vssl_training.objective.variance import head_loss
from vssl_training.phases.base import Phase
from vssl_training.phases.health import dead
from vssl_training.phases.optimiser import adamw, optimiser_step
from vssl_training.phases.schedules import warm_up_cosine
from vssl_training.recipe.sections import Recipe
from vssl_training.run import processes
from vssl_training.run.numerics import Numerics
from vssl_training.views.degrading import degraded_view
from vssl_training.views.pixels import to_float

BANK_ORDER = 2
"""The coordinate of randomness of the bank's images: no phase has it."""


@dataclass(frozen=True)
class Views:
    """What the frozen encoder says of a batch of N images: all that a head learns from.

    Attributes:
        features: the head's input for the degraded images, then for the clean ones [2 N, F].
        mean: embeddings of the degraded images on the sphere of radius √D [N, D].
        target: those of the clean images [N, D].
        degraded: which of them a degradation struck, 1 or 0 [N, 1].
        draws: the random numbers that a loss may take.
    """

    features: Tensor
    mean: Tensor
    target: Tensor
    degraded: Tensor
    draws: Generator


class VarianceTraining(Phase):
    """The second phase; see `Phase` for its arguments. It freezes the encoder that it is given.

    Before its first step it is either prepared (`prepare`) or continued (`load_state`): what follows from the encoder
    must follow from the one that is trained, not from the one that a resumed run is built with.
    """

    name = "variance"
    number = 1

    def __init__(
        self,
        recipe: Recipe,
        encoder: Encoder,
        pixels: Tensor | Stream,
        seed: int,
        steps: int,
        numerics: Numerics | None = None,
    ) -> None:
        super().__init__(recipe, pixels, seed, steps, recipe.variance.batch, numerics)
        # The layout decides the last bits: it must not depend on where the encoder comes from.
        self.embedder = build_embedder(recipe, encoder).to(pixels.device).to(memory_format=self.numerics.memory_format)
        self.embedder.requires_grad_(False).eval()
        self.head = processes.shared_norms(self.embedder.log_variance, pixels.device).requires_grad_(True).train()
        settings = recipe.variance
        betas = recipe.optimiser.betas
        self.optimiser = adamw(self.head, settings.learning_rate, settings.weight_decay, betas, self.numerics.fused)
        self.forward_head = processes.synchronised(self.head)
        self.bank = torch.empty(0)

    def prepare(self, mean: nn.Module | None = None) -> Self:
        """Make what follows from the encoder: the embedding, fitted unless `mean` is one that was, and the bank."""
        if mean is not None:
            self.embedder.mean.load_state_dict(mean.state_dict())
        elif isinstance(self.embedder.mean, EmbeddingLayer):
            self.embedder.mean.fit(map(self.embedder.mean.pooled, self.features(IMAGES)))
        self.fill_bank()
        return self

    @property
    def needs_bank(self) -> bool:
        """Whether the loss looks at other images."""
        return self.recipe.variance.target == "neighbour"

    def fill_bank(self) -> None:
        """Embed the bank's images, where the loss needs them."""
        if self.needs_bank:
            self.bank = self.embed_bank()

    def features(self, images: int) -> Iterator[Features]:
        """The backbone's features of so many random clean images, or of all: always the same, since it is frozen."""
        order = Order(self.seed, BANK_ORDER, len(self.pixels), self.batch)
        for step in range(min(-(-images // self.batch), len(self.pixels) // self.batch)):
            with torch.no_grad():
                yield self.embedder.backbone(self.shown(to_float(batch_of(self.pixels, order, step))))

    def embed_bank(self) -> Tensor:
        """Embeddings [M, D] of random clean images."""
        wanted = self.recipe.variance.bank
        with torch.no_grad():
            return torch.cat([on_sphere(self.embedder.mean_of(each)) for each in self.features(wanted)])[:wanted]

    def step(self, step: int) -> dict[str, Tensor]:
        """See `Phase.step`."""
        return self.learn(step, self.views(step))

    def views(self, step: int) -> Views:
        """The step's batch through the frozen encoder: the same for every head on it."""
        clean, draws = self.shown(self.images(step)), self.draws(step)
        views, degraded = degraded_view(clean, self.recipe.variance.views, draws, self.batch, self.part)
        with torch.no_grad():
            both = self.embedder.backbone(torch.cat([views, clean]))
            mean, target = on_sphere(self.embedder.mean_of(both)).chunk(2)
            return Views(self.embedder.head_input(both), mean, target, degraded[:, None].to(mean.dtype), draws)

    def learn(self, step: int, views: Views) -> dict[str, Tensor]:
        """Take one step of the head on views that were seen."""
        settings = self.recipe.variance
        parts = 2 if settings.contrast else 1  # the clean images' variance is learned from, too
        log_variance = processes.gather(self.forward_head(views.features[: parts * len(views.mean)]), parts)
        mean, target, degraded = (processes.gather(values, 1) for values in (views.mean, views.target, views.degraded))
        loss = self.loss(log_variance, mean, target, degraded[:, 0], views.draws)
        factor = warm_up_cosine(step, self.steps, self.recipe.optimiser.warm_up)
        optimiser_step(self.optimiser, loss, settings.learning_rate * factor)
        return {"loss": loss.detach(), "residual": (mean - target).square().mean()}

    def loss(self, log_variance: Tensor, mean: Tensor, target: Tensor, degraded: Tensor, draws: Generator) -> Tensor:
        """The loss of a whole batch, a scalar; see `head_loss`. `draws` are for terms that need random numbers."""
        return head_loss(self.recipe.variance, log_variance, mean, target, degraded, self.bank)

    def judged(self, judge: OnlineJudge) -> dict[str, float]:
        """Figures of the head."""
        return judge.head(self.embedder, self.recipe.variance.views)

    def complaint(self, figures: dict[str, float]) -> str | None:
        """See `Phase.complaint`."""
        return dead(figures)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, the frozen encoder included."""
        return {"embedder": self.embedder.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`; the bank is embedded again by the encoder that it holds."""
        self.embedder.load_state_dict(state["embedder"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.fill_bank()
