"""Figures while training: kNN and a linear probe where labels exist; rank, spread and correlations always."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vssl.arrays import Float32s, Int64s
from vssl.measures.embeddings import effective_rank, knn_accuracy, rankme, sphere_std
from vssl.measures.uncertainty import health
from vssl.search.nearest import nearest
from vssl.sources.in_memory import ImageSet
from vssl_training.data.order import generator
from vssl_training.encoder.embedder import Embedder, embed
from vssl_training.encoder.embedding import EmbeddingLayer, build_embedding
from vssl_training.encoder.features import Backbone, Features
from vssl_training.encoder.student import Encoder
from vssl_training.judging.linear_probes import probe_accuracy
from vssl_training.objective.terms import on_sphere
from vssl_training.recipe.sections import DegradationSettings, NetworkSettings
from vssl_training.views.degrading import degraded_view
from vssl_training.views.pixels import to_float

QUERIES, BANK = 1_000, 5_000
NEAREST = 10
BATCH = 500


@dataclass(frozen=True)
class OnlineJudge:
    """Fixed random images that a phase is judged on: queries that look up a bank. Labels only judge."""

    pixels: Tensor
    labels: npt.NDArray[np.int64] | None
    queries: int
    seed: int

    @classmethod
    def draw(cls, images: ImageSet, seed: int, device: torch.device, val: ImageSet | None = None) -> "OnlineJudge":
        """Draw at most 1,000 queries and 5,000 images of a bank; one image in six of a small set is a query.

        With `val`, queries come from it, and the bank from the training images; if these have no labels, from it too.
        """
        source = images if val is None else val
        queries = max(1, min(QUERIES, len(source) // 6))
        order = np.random.default_rng(seed).permutation(len(source))
        rows, bank, bank_rows = order[:queries], source, order[queries : queries + BANK]
        if val is not None and images.labels is not None:
            bank, bank_rows = images, np.random.default_rng(seed).permutation(len(images))[:BANK]
        pixels = torch.from_numpy(np.concatenate([source.pixels[rows], bank.pixels[bank_rows]])).to(device)
        if source.labels is None or bank.labels is None:
            return cls(pixels, None, queries, seed)
        return cls(pixels, np.concatenate([source.labels[rows], bank.labels[bank_rows]]), queries, seed)

    def neighbours(self, backbone: Backbone) -> Int64s:
        """Rows of the bank's ten nearest images to each query, by the backbone's features, [Q, K]; of a small bank one
        in twenty, so that chance finds few of them again.
        """
        (features,) = embed(backbone, self.pixels, answer=lambda pixels: [backbone(to_float(pixels)).final])
        return self.nearest(features)

    def nearest(self, features: Float32s) -> Int64s:
        """The same of features of all its images."""
        bank = features[self.queries :]
        return nearest(features[: self.queries], bank, max(1, min(NEAREST, len(bank) // 20))).rows

    def encoder(
        self, encoder: Encoder, network: NetworkSettings | None = None, start: Int64s | None = None
    ) -> dict[str, float]:
        """`rank`, `rankme` and `std` of the mean head; with labels its `knn`, and `probe` on the backbone's features.

        With the settings of the `network`, `knn` is of the embedding, fitted on the bank. With the `neighbours` of
        another backbone, `overlap` is the part of these that are still so near. The encoder stays as it was.
        """
        layer = None if network is None else build_embedding(encoder.backbone, network, encoder.mean)
        module = layer if isinstance(layer, EmbeddingLayer) else None

        def answer(pixels: Tensor) -> list[Tensor]:
            features: Features = encoder.backbone(to_float(pixels))
            pooled = [] if module is None else [module.pooled(features)]
            return [features.final, encoder.mean(features.final), *pooled]

        features, means, *pooled = embed(encoder, self.pixels, answer=answer)
        figures = {"rank": effective_rank(means), "rankme": rankme(means), "std": sphere_std(means)}
        if start is not None:
            found = self.nearest(features)
            figures["overlap"] = float((found[:, :, None] == start[:, None]).any(2).mean())
        if self.labels is not None:
            n, labels = self.queries, self.labels
            if module is not None:
                cells = torch.from_numpy(pooled[0])
                module.fit(torch.split(cells[n:], BATCH))
                means = module.project(cells).detach().numpy()
            figures["knn"] = knn_accuracy(means[:n], labels[:n], means[n:], labels[n:])
            figures["probe"] = probe_accuracy(features[:n], labels[:n], features[n:], labels[n:])
        return rounded(figures)

    def head(self, embedder: Embedder, views: DegradationSettings) -> dict[str, float]:
        """How the variance head follows the error of degraded queries.

        Returns:
            Over images, `spread` is the standard deviation of the mean log σ², and `rho` the rank correlation of the
            mean σ² with the mean squared error d²; `clamped` is the part of the log σ² at the clamp's ends.
        """
        clean = to_float(self.pixels[: self.queries])
        degraded, _ = degraded_view(clean, views, generator(self.seed, 2, device=clean.device))
        mean, log_variance = embed(
            embedder, degraded, answer=lambda images: embedder.posterior(embedder.backbone(images))
        )
        (target,) = embed(
            embedder, clean, answer=lambda images: [on_sphere(embedder.mean_of(embedder.backbone(images)))]
        )
        found = health(log_variance, np.square(mean - target).mean(axis=1), embedder.log_variance.clamp)
        return rounded({"spread": found.spread, "rho": found.correlation, "clamped": found.clamped})


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """Figures as `metrics.jsonl` keeps them."""
    return {name: round(value, 4) for name, value in figures.items()}
