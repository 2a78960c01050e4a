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

from vssl_training.data.memory import free_memory
from vssl_training.data.order import Everything, Order
from vssl_training.data.sending import sent
from vssl_training.data.stream import Images, batch_of
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


WORTH = 2
"""Times that the steps must ask for each clean image, for what the encoder says of it to be kept."""

SHARE_OF_MEMORY = 1 / 8
"""Part of the free memory that it may take."""


@dataclass(frozen=True)
class Clean:
    """What the frozen encoder says of all N clean images.

    Attributes:
        seen: the head's input [N, F].
        target: embeddings [N, D] on the sphere of radius √D.
    """

    seen: Tensor
    target: Tensor


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
        pixels: Images,
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
        self.clean: Clean | None = None

    def prepare(self, mean: nn.Module | None = None, keep: bool = True) -> Self:
        """Make what follows from the encoder.

        Args:
            mean: an embedding that was fitted; without one it is fitted now.
            keep: whether what the encoder says of clean images may be kept.
        """
        if mean is not None:
            self.embedder.mean.load_state_dict(mean.state_dict())
        elif isinstance(self.embedder.mean, EmbeddingLayer):
            self.embedder.mean.fit(map(self.embedder.mean.pooled, self.features(IMAGES)))
        return self.filled(keep)

    def filled(self, keep: bool = True) -> Self:
        """With what follows from the embedder as it is now."""
        if self.needs_bank:
            self.bank = self.embed_bank()
        if keep and self.steps >= self.worth and self.fits():
            self.clean = self.seen_clean()
        return self

    @property
    def worth(self) -> int:
        """The least steps that ask for each clean image so often that what the encoder says of it is kept."""
        return -(-WORTH * len(self.pixels) // self.batch)

    @property
    def needs_bank(self) -> bool:
        """Whether the loss looks at other images."""
        return self.recipe.variance.target == "neighbour"

    def fits(self) -> bool:
        """Whether memory holds what the encoder says of all clean images."""
        seen, target = self.answer_of_two()
        needed = len(self.pixels) * (seen.shape[1] + target.shape[1]) * seen.element_size()
        return needed <= SHARE_OF_MEMORY * free_memory(self.pixels.device)

    @torch.no_grad()
    def seen_clean(self) -> Clean:
        """Show all clean images to the encoder, the same in every process."""
        order = Everything(len(self.pixels), self.batch)  # of the whole batch, so that all processes keep the same
        parts = [
            self.answer(self.backbone(self.shown(to_float(batch_of(self.pixels, order, step)))))
            for step in range(-(-order.count // order.batch))
        ]
        seen, target = (torch.cat(column)[: order.count] for column in zip(*parts, strict=True))
        return Clean(seen, target)

    def pretending(self) -> Self:
        """With room for what it says of clean images and nothing in it: to measure the steps that look it up."""
        seen, target = self.answer_of_two()
        count = len(self.pixels)
        self.clean = Clean(seen.new_zeros(count, seen.shape[1]), target.new_zeros(count, target.shape[1]))
        return self

    @torch.no_grad()
    def answer_of_two(self) -> tuple[Tensor, Tensor]:
        """`answer` of two images, for its shapes."""
        return self.answer(self.backbone(self.shown(self.images(0)[:2])))

    def answer(self, features: Features) -> tuple[Tensor, Tensor]:
        """The head's input [N, F] and the embeddings [N, D] of the backbone's features of N images."""
        return self.embedder.head_input(features), on_sphere(self.embedder.mean_of(features))

    def backbone(self, images: Tensor) -> Features:
        """The frozen backbone's features of images [N, 3, S, S]; what is made of them keeps single precision."""
        with self.numerics.autocast(self.pixels.device):
            features: Features = self.embedder.backbone(images)
        return features.single() if self.numerics.bf16 else features

    def features(self, images: int) -> Iterator[Features]:
        """The backbone's features of so many random clean images, or of all: always the same, since it is frozen."""
        order = Order(self.seed, BANK_ORDER, len(self.pixels), self.batch)
        for step in range(min(-(-images // self.batch), len(self.pixels) // self.batch)):
            with torch.no_grad():
                yield self.backbone(self.shown(to_float(batch_of(self.pixels, order, step))))

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
            if self.clean is None:
                seen, both = self.answer(self.backbone(torch.cat([views, clean])))
                mean, target = both.chunk(2)
            else:
                rows = sent(self.order(step), self.pixels.device)
                seen, mean = self.answer(self.backbone(views))
                seen, target = torch.cat([seen, self.clean.seen[rows]]), self.clean.target[rows]
            return Views(seen, mean, target, degraded[:, None].to(mean.dtype), draws)

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
        """Continue from `state`; what is kept of other images is made again by the encoder that it holds."""
        self.embedder.load_state_dict(state["embedder"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.filled()
