"""How the embedding is made of a backbone's features: each way is judged on images that are held back."""

from dataclasses import dataclass

import numpy as np
import torch

from vssl.arrays import Float32s, Int64s, Mask
from vssl.measures.embeddings import knn_predict
from vssl.search.nearest import nearest
from vssl_training.attaching.cache import Cache
from vssl_training.encoder.embedding import EmbeddingLayer, Moments, moments
from vssl_training.recipe.sections import EmbeddingSettings, WhitenSettings

DIMENSION = 256
"""Of the projections that are tried."""

POWERS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Choice:
    """A way to make the embedding, its name, and the figures of all that were tried by a `measure`."""

    settings: EmbeddingSettings
    name: str
    measure: str
    figures: dict[str, float]


def candidates(settings: EmbeddingSettings, features: int) -> dict[str, EmbeddingSettings]:
    """The ways that `whiten: auto` tries, by their names, the one first that is taken where none is better."""
    dimension = min(DIMENSION, features)
    projected = {
        f"{'PCA' if power == 0 else f'whitened by {power:g}'} {dimension}": WhitenSettings(
            dimension=dimension, power=power
        )
        for power in POWERS
    }
    ways: dict[str, WhitenSettings | None] = {**projected, f"all {features}": None}
    return {name: settings.model_copy(update={"whiten": whiten}) for name, whiten in ways.items()}


def choose(settings: EmbeddingSettings, cache: Cache, held_back: Mask, labels: Int64s | None) -> Choice:
    """Settle `whiten: auto`.

    With labels (class of each image of the cache [N]) by the kNN accuracy of the images held back, the others being
    the bank. Without, by R@1: whether the clean image nearest to a degraded one is its own. A way takes the place of
    the one before it only if it is right for more images, by more than the standard error of those that changed.
    """
    found = moments_of(cache, ~held_back)
    figures: dict[str, float] = {}
    best: tuple[str, Mask] | None = None
    ways = candidates(settings, cache.pooled.shape[2])
    for name, way in ways.items():
        vectors = vectors_of(layer_of(way, cache.pooled.shape[2], found), cache)
        right = right_neighbours(vectors, held_back, labels)
        figures[name] = float(right.mean())
        if best is None or right.sum() - best[1].sum() > np.sqrt((right != best[1]).sum()):
            best = name, right
    assert best is not None
    measure = "R@1 of degraded copies" if labels is None else "kNN"
    return Choice(ways[best[0]], best[0], measure, figures)


def right_neighbours(vectors: Float32s, held_back: Mask, labels: Int64s | None) -> Mask:
    """For each query, whether its neighbours [N, 1 + C, D] name the right class, or the right image; see `choose`."""
    clean = vectors[:, 0]
    if labels is not None:
        found = knn_predict(clean[held_back], clean[~held_back], labels[~held_back])
        right: Mask = found == labels[held_back]
        return right
    copies = vectors[held_back, 1:]
    own = np.repeat(np.flatnonzero(held_back), copies.shape[1])
    own_is_nearest: Mask = nearest(copies.reshape(len(own), -1), clean, 1).rows[:, 0] == own
    return own_is_nearest


def moments_of(cache: Cache, chosen: Mask) -> Moments:
    """Of the clean images among some of the cache's: bool [N]."""
    return moments(torch.split(torch.from_numpy(cache.pooled[chosen, 0]).float(), 1024))


def layer_of(settings: EmbeddingSettings, features: int, found: Moments) -> EmbeddingLayer:
    """The embedding, fitted."""
    layer = EmbeddingLayer(settings, features)
    layer.set(found)
    return layer


@torch.no_grad()
def vectors_of(layer: EmbeddingLayer, cache: Cache) -> Float32s:
    """The embeddings of a cache's images, before they have unit length [N, 1 + C, D]."""
    rows = torch.from_numpy(cache.pooled).flatten(0, 1)
    parts = [layer.project(part.float()) for part in torch.split(rows, 4096)]
    vectors: Float32s = torch.cat(parts).view(*cache.pooled.shape[:2], -1).numpy()
    return vectors
