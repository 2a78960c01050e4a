"""A gallery in two dimensions: the two main directions at once, and a map by t-SNE (openTSNE) when there is time.

Poličar, Stražar & Zupan 2024. Over `MOST` rows, a seeded sample is mapped, and each other row is placed between those
of its neighbours that are in the sample.
"""

from dataclasses import dataclass

import numpy as np

from vssl.arrays import Float32s, Float64s, Mask
from vssl.errors import UsageError
from vssl.search.nearest import nearest
from vssl_gallery.store.contract import Progress, no_progress

MOST = 200_000
PERPLEXITY = 30
LEAST = 3
SEED = 0


@dataclass(frozen=True)
class Map:
    """Places [N, 2] of N rows, and which were mapped themselves, [N]; the others stand among their neighbours."""

    places: Float32s
    mapped: Mask
    method: str


def main_directions(vectors: Float32s) -> Map:
    """The projection of [N, D] on its two directions of largest variance."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64) if len(vectors) else vectors
    directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :2]
    # A direction has no sign of its own: it gets that of its largest part, the same on every machine.
    directions = directions * np.sign(directions[np.abs(directions).argmax(axis=0), range(directions.shape[1])])
    return Map((centred @ directions).astype(np.float32), np.ones(len(vectors), np.bool_), "pca")


def tsne(
    vectors: Float32s, seed: int = SEED, most: int = MOST, threads: int = 1, progress: Progress = no_progress
) -> Map:
    """A map of [N, D] that keeps neighbours together; minutes for 100,000 rows.

    Raises:
        UsageError: the extra `map` is not installed.
    """
    try:
        from openTSNE import TSNEEmbedding
        from openTSNE.affinity import PerplexityBasedNN
        from openTSNE.nearest_neighbors import PrecomputedNeighbors
    except ModuleNotFoundError as error:
        raise UsageError(f"a map needs {error.name}, which is not installed: pip install 'vssl[map]'") from error
    if len(vectors) <= LEAST:
        return main_directions(vectors)
    chosen = np.ones(len(vectors), np.bool_)
    if len(vectors) > most:
        chosen[:] = False
        chosen[np.random.default_rng(seed).choice(len(vectors), most, replace=False)] = True
    sample = vectors[chosen]
    perplexity = min(PERPLEXITY, (len(sample) - 1) / 3)
    found = nearest(sample, sample, int(3 * perplexity), exclude_self=True)
    affinities = PerplexityBasedNN(
        knn_index=PrecomputedNeighbors(found.rows, np.sqrt(np.maximum(2 - 2 * found.similarity, 0))),
        perplexity=perplexity,
        n_jobs=threads,
        random_state=seed,
    )
    start: Float64s = main_directions(sample).places.astype(np.float64)
    start *= 1e-4 / max(float(start[:, 0].std()), 1e-12)
    embedding = TSNEEmbedding(start, affinities, n_jobs=threads, random_state=seed, negative_gradient_method="auto")
    done = 0
    for iterations, how in ((250, {"exaggeration": 12, "momentum": 0.5}), (500, {"momentum": 0.8})):

        def tell(iteration: int, _error: float, _embedding: object, before: int = done) -> None:
            progress((before + iteration) / 750)

        embedding = embedding.optimize(n_iter=iterations, callbacks=tell, callbacks_every_iters=25, **how)
        done += iterations
    places = np.zeros((len(vectors), 2), np.float32)
    places[chosen] = np.asarray(embedding, np.float32)
    if not chosen.all():
        near = nearest(vectors[~chosen], sample, 10)
        weights = np.exp((near.similarity - near.similarity[:, :1]) / 0.1)[:, :, None]
        places[~chosen] = (places[chosen][near.rows] * weights).sum(axis=1) / weights.sum(axis=1)
    return Map(places, chosen, "tsne")
