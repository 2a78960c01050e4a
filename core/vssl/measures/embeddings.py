"""Measures of embeddings: small pure functions on numpy arrays.

Every part of the project judges by these definitions: kNN with k = 20, T = 0.1, cosine similarity; effective rank of
the centred covariance of the normalised embeddings.
"""

import numpy as np

from vssl.arrays import Floats, Integers
from vssl.search.nearest import NEIGHBOURS, TEMPERATURE, nearest, normalised

_ROUNDING = 1e-6
"""Embeddings that differ by less than this part of their length differ by the rounding of float32 alone."""


def knn_predict(
    queries: Floats,
    bank: Floats,
    labels: Integers,
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
    exclude_self: bool = False,
) -> Integers:
    """Label of each query by a vote of its k nearest neighbours, weighted exp(cosine / temperature).

    Wu et al. 2018 (arXiv 1805.01978), section 3.4.

    Args:
        queries: [Q, D].
        bank: [B, D].
        labels: [B], non-negative integers.
        k: neighbours that vote; at most B of them do.
        temperature: of the weights.
        exclude_self: leave query i's own row i of the bank out (queries and bank are the same images).

    Raises:
        UsageError: the bank holds no image to compare with.
    """
    found = nearest(queries, bank, k, exclude_self)
    predicted: Integers = found.votes(labels, int(labels.max()) + 1, temperature).argmax(axis=1).astype(labels.dtype)
    return predicted


def knn_accuracy(
    queries: Floats, query_labels: Integers, bank: Floats, bank_labels: Integers, exclude_self: bool = False
) -> float:
    """Part of the queries [Q, D] whose label the kNN vote over the bank [B, D] predicts."""
    predicted = knn_predict(queries, bank, bank_labels, exclude_self=exclude_self)
    return float((predicted == query_labels).mean())


def effective_rank(embeddings: Floats) -> float:
    """exp of the entropy of the eigenvalues of the centred covariance of the normalised embeddings [N, D].

    Between 1 (one direction, or a single point) and D (all directions alike). Roy & Vetterli 2007, on the eigenvalues.
    """
    unit = normalised(embeddings.astype(np.float64))
    centred = unit - unit.mean(axis=0)
    if (centred**2).mean(axis=0).sum() < _ROUNDING**2:
        return 1.0
    return _spread(np.linalg.svd(centred, compute_uv=False) ** 2)


def rankme(embeddings: Floats) -> float:
    """exp of the entropy of the singular values of the embeddings [N, D] as they are. Garrido et al. 2023, eq. 1."""
    return _spread(np.linalg.svd(embeddings.astype(np.float64), compute_uv=False))


def sphere_std(embeddings: Floats) -> float:
    """√D · mean_d std_n of the normalised embeddings [N, D]: 1 is healthy, 0 is collapsed."""
    return float(np.sqrt(embeddings.shape[1]) * normalised(embeddings).std(axis=0).mean())


def _spread(spectrum: Floats) -> float:
    total = spectrum.sum()
    if total <= 0:
        return 1.0
    share = spectrum / total
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))
