"""Retrieval scores between embeddings that are Gaussians, N(μ, diag σ²), and how an ordinary index finds by them.

Two of the three are exact in any index of squared L2 distances, over the vectors of `csd_…` and `wasserstein_vectors`.
The third is not: `mutual_likelihood_nearest` ranks the most similar by cosine again.
"""

from dataclasses import dataclass

import numpy as np

from vssl.arrays import Float64s, Floats, Int64s
from vssl.search.nearest import Neighbours, nearest, normalised

CANDIDATES = 200


@dataclass(frozen=True)
class Gaussians:
    """N of them: `mean` [N, D] and `variance` [N, D], on the same scale; an engine's outputs without the last."""

    mean: Floats
    variance: Floats

    def __len__(self) -> int:
        return len(self.mean)


def cosine(queries: Gaussians, gallery: Gaussians) -> Float64s:
    """Cosine of the means [Q, G]; higher is nearer. The variances play no part."""
    cosines: Float64s = normalised(queries.mean).astype(np.float64) @ normalised(gallery.mean).T
    return cosines


def csd(queries: Gaussians, gallery: Gaussians) -> Float64s:
    """Closed-form sampled distance [Q, G], E‖z₁ − z₂‖² = ‖Δμ‖² + Σσ₁² + Σσ₂². Chun 2023 (arXiv 2305.18171)."""
    own: Float64s = queries.variance.sum(axis=1, keepdims=True).astype(np.float64)
    return squared_distances(csd_queries(queries), csd_gallery(gallery)) + own


def csd_gallery(gallery: Gaussians) -> Float64s:
    """[μ, √Σσ²], [G, D + 1]: the vectors of an L2 index that finds by CSD."""
    return np.column_stack([gallery.mean, np.sqrt(gallery.variance.sum(axis=1))]).astype(np.float64)


def csd_queries(queries: Gaussians) -> Float64s:
    """[μ, 0], [Q, D + 1]: the queries to that index. The query's own Σσ² is left out: it changes no order."""
    return np.column_stack([queries.mean, np.zeros(len(queries))]).astype(np.float64)


def wasserstein(queries: Gaussians, gallery: Gaussians) -> Float64s:
    """Squared 2-Wasserstein distance of diagonal Gaussians [Q, G], ‖Δμ‖² + ‖σ₁ − σ₂‖²."""
    return squared_distances(wasserstein_vectors(queries), wasserstein_vectors(gallery))


def wasserstein_vectors(gaussians: Gaussians) -> Float64s:
    """[μ, σ], [N, 2 D]: vectors and queries of an L2 index that finds by the 2-Wasserstein distance."""
    return np.concatenate([gaussians.mean, np.sqrt(gaussians.variance)], axis=1).astype(np.float64)


def mutual_likelihood(queries: Gaussians, gallery: Gaussians) -> Float64s:
    """Mutual likelihood score [Q, G], −½ Σ[Δ² / (σ₁² + σ₂²) + log(σ₁² + σ₂²)]; higher is nearer.

    Shi & Jain 2019 (arXiv 1904.09658), eq. 3, without its constant.
    """
    scores = np.empty((len(queries), len(gallery)))
    for row, (mean, variance) in enumerate(zip(queries.mean, queries.variance, strict=True)):
        together = gallery.variance.astype(np.float64) + variance
        scores[row] = -0.5 * (np.square(gallery.mean - mean) / together + np.log(together)).sum(axis=1)
    return scores


def mutual_likelihood_nearest(
    queries: Gaussians, gallery: Gaussians, k: int, candidates: int = CANDIDATES
) -> tuple[Int64s, Float64s]:
    """Rows of the gallery and their scores [Q, k], best first.

    The `candidates` most similar by cosine are ranked again by the likelihood.

    Raises:
        UsageError: the gallery is empty.
    """
    found: Neighbours = nearest(queries.mean, gallery.mean, max(k, candidates))
    scores = np.empty(found.rows.shape)
    for row, chosen in enumerate(found.rows):
        one = Gaussians(queries.mean[row : row + 1], queries.variance[row : row + 1])
        scores[row] = mutual_likelihood(one, Gaussians(gallery.mean[chosen], gallery.variance[chosen]))[0]
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(found.rows, order, axis=1), np.take_along_axis(scores, order, axis=1)


def fused(images: Gaussians) -> Gaussians:
    """K images of one thing as one Gaussian [1, D]: the mean is weighted by precision, the precisions add up."""
    precision = 1 / images.variance.astype(np.float64)
    total = precision.sum(axis=0, keepdims=True)
    return Gaussians((images.mean * precision).sum(axis=0, keepdims=True) / total, 1 / total)


def squared_distances(queries: Float64s, gallery: Float64s) -> Float64s:
    """‖q − g‖² of vectors [Q, F] and [G, F], as an index computes it: [Q, G]."""
    products = queries @ gallery.T
    squares = np.square(queries).sum(axis=1)[:, None] + np.square(gallery).sum(axis=1)[None]
    distances: Float64s = np.maximum(squares - 2 * products, 0)
    return distances
