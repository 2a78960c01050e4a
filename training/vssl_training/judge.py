"""Figures while training: kNN accuracy where labels exist, effective rank and √D·std always."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vssl.images import ImageSet
from vssl.measures import effective_rank, knn_accuracy, sphere_std
from vssl_training.augment import to_float
from vssl_training.network import Encoder

QUERIES, BANK = 1_000, 5_000
BATCH = 500


@dataclass(frozen=True)
class Judge:
    """Fixed random images that the encoder is judged on: queries that look up a bank. Labels only judge."""

    pixels: Tensor
    labels: npt.NDArray[np.int64] | None
    queries: int

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
            return cls(pixels.to(device), None, queries)
        return cls(pixels.to(device), np.concatenate([asked.labels[picked], bank.labels[voters]]), queries)

    def figures(self, encoder: Encoder) -> dict[str, float]:
        """`knn` (with labels), `rank` and `std` of the mean head; the encoder is left as it was."""
        embeddings = embed_means(encoder, self.pixels)
        figures = {"rank": effective_rank(embeddings), "std": sphere_std(embeddings)}
        if self.labels is not None:
            n = self.queries
            figures["knn"] = knn_accuracy(embeddings[:n], self.labels[:n], embeddings[n:], self.labels[n:])
        return {name: round(value, 4) for name, value in figures.items()}


@torch.no_grad()
def embed_means(encoder: Encoder, pixels: Tensor) -> npt.NDArray[np.float32]:
    """Mean head [N, D] of uint8 [N, S, S, 3], in evaluation mode."""
    training = encoder.training
    encoder.eval()
    parts = [encoder.mean(encoder.backbone(to_float(batch)).final) for batch in torch.split(pixels, BATCH)]
    encoder.train(training)
    return torch.cat(parts).cpu().numpy()
