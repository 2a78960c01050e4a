"""Figures while training: kNN and a linear probe where labels exist; rank, spread and correlations always."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vssl.arrays import Float32s
from vssl.engine import batch_images
from vssl.measures.embeddings import effective_rank, knn_accuracy, rankme, sphere_std
from vssl.measures.uncertainty import health
from vssl.sources.in_memory import ImageSet
from vssl_training.data.order import generator
from vssl_training.encoder.embedder import Embedder
from vssl_training.encoder.features import Features
from vssl_training.encoder.student import Encoder
from vssl_training.encoder.whitening import Whitening
from vssl_training.judging.linear_probes import probe_accuracy
from vssl_training.objective.terms import on_sphere
from vssl_training.recipe.sections import DegradationSettings, WhiteningSettings
from vssl_training.views.degrading import degraded_view
from vssl_training.views.pixels import to_float

QUERIES, BANK = 1_000, 5_000
BATCH = 500


@dataclass(frozen=True)
class Judge:
    """Fixed random images that a phase is judged on: queries that look up a bank. Labels only judge."""

    pixels: Tensor
    labels: npt.NDArray[np.int64] | None
    queries: int
    seed: int

    @classmethod
    def draw(cls, images: ImageSet, seed: int, device: torch.device, val: ImageSet | None = None) -> "Judge":
        """Draw at most 1,000 queries and 5,000 images of a bank; one image in six of a small set is a query.

        With `val`, queries come from it, and the bank from the training images; if these have no labels, from it too.
        """
        asked = images if val is None else val
        queries = max(1, min(QUERIES, len(asked) // 6))
        picked = np.random.default_rng(seed).permutation(len(asked))
        bank, voters = asked, picked[queries : queries + BANK]
        if val is not None and images.labels is not None:
            bank, voters = images, np.random.default_rng(seed).permutation(len(images))[:BANK]
        picked = picked[:queries]
        pixels = torch.from_numpy(np.concatenate([asked.pixels[picked], bank.pixels[voters]]))
        if asked.labels is None or bank.labels is None:
            return cls(pixels.to(device), None, queries, seed)
        return cls(pixels.to(device), np.concatenate([asked.labels[picked], bank.labels[voters]]), queries, seed)

    def encoder(self, encoder: Encoder, whitening: WhiteningSettings | None = None) -> dict[str, float]:
        """`rank`, `rankme` and `std` of the mean head; with labels its `knn`, and `probe` on the backbone's features.

        With `whitening`, `knn` is of features that are whitened by the bank. The encoder is left as it was.
        """
        module = None if whitening is None else Whitening(encoder.backbone.channels, whitening)
        features, means, *pooled = embed(encoder, self.pixels, *([] if module is None else [module.pooled]))
        figures = {"rank": effective_rank(means), "rankme": rankme(means), "std": sphere_std(means)}
        if self.labels is not None:
            n, labels = self.queries, self.labels
            if module is not None:
                cells = torch.from_numpy(pooled[0])
                module.fit(torch.split(cells[n:], BATCH))
                means = module.linear(cells).detach().numpy()
            figures["knn"] = knn_accuracy(means[:n], labels[:n], means[n:], labels[n:])
            figures["probe"] = probe_accuracy(features[:n], labels[:n], features[n:], labels[n:])
        return rounded(figures)

    @torch.no_grad()
    def head(self, embedder: Embedder, views: DegradationSettings) -> dict[str, float]:
        """How the variance head follows the error of spoilt queries: over images, `spread` is the standard deviation of
        the mean log σ², and `rho` the rank correlation of the mean σ² with the mean squared error d²; `clamped` is the
        part of the log σ² at the clamp's ends.
        """
        training = embedder.log_variance.training
        embedder.log_variance.eval()
        clean = to_float(self.pixels[: self.queries])
        spoilt, _ = degraded_view(clean, views, generator(self.seed, 2, device=clean.device))
        parts = []
        each = batch_images(clean.shape[-1])
        for view, target in zip(torch.split(spoilt, each), torch.split(clean, each), strict=True):
            mean, log_variance = embedder.posterior(embedder.backbone(view))
            goal = on_sphere(embedder.mean_of(embedder.backbone(target)))
            parts.append((log_variance.cpu().numpy(), (mean - goal).square().mean(1).cpu().numpy()))
        embedder.log_variance.train(training)
        values, errors = (np.concatenate(column) for column in zip(*parts, strict=True))
        found = health(values, errors, embedder.log_variance.clamp)
        return rounded({"spread": found.spread, "rho": found.correlation, "clamped": found.clamped})


@torch.no_grad()
def embed(encoder: Encoder, pixels: Tensor, *further: Callable[[Features], Tensor]) -> list[Float32s]:
    """Features [N, F] and mean head [N, D] of uint8 [N, S, S, 3], in evaluation mode; and what `further` make of the
    features of n images, [n, ·] each.
    """
    training = encoder.training
    encoder.eval()
    batches = []
    for batch in torch.split(pixels, batch_images(pixels.shape[1])):
        features: Features = encoder.backbone(to_float(batch))
        batches.append((features.final, encoder.mean(features.final), *(each(features) for each in further)))
    encoder.train(training)
    return [torch.cat(parts).cpu().numpy() for parts in zip(*batches, strict=True)]


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """Figures as `metrics.jsonl` keeps them."""
    return {name: round(value, 4) for name, value in figures.items()}
