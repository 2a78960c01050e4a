"""Measures of embeddings and uncertainties: small pure functions on numpy arrays.

Definitions that every part of the project judges by: kNN with k = 20, T = 0.1, cosine similarity; effective rank of
the centred covariance of the normalised embeddings.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vssl.errors import UsageError

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer]

NEIGHBOURS = 20
TEMPERATURE = 0.1
_QUERIES, _TILE = 1024, 4096
"""Similarities that are computed at once: 16 MB of them, which a core's cache half holds."""

_ROUNDING = 1e-6
"""Embeddings that differ by less than this part of their length differ by the rounding of float32 alone."""


def normalised(vectors: Floats) -> Floats:
    """Rows of [N, D] scaled to unit length; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = vectors / np.maximum(lengths, 1e-12)
    return unit


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of a bank for each of Q queries, the nearest first: rows of the bank and their cosine [Q, k]."""

    rows: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]

    def votes(self, labels: Integers, classes: int, temperature: float = TEMPERATURE) -> npt.NDArray[np.float64]:
        """Each class's share of the vote [Q, C], weighted exp(cosine / temperature); `labels` [B] are the bank's."""
        weights = np.exp((self.similarity - self.similarity[:, :1]).astype(np.float64) / temperature)
        votes = np.zeros((len(self.rows), classes))
        np.add.at(votes, (np.arange(len(votes))[:, None], labels[self.rows]), weights)
        shares: npt.NDArray[np.float64] = votes / votes.sum(axis=1, keepdims=True)
        return shares


class Search:
    """Looks for the k most similar rows of a bank for each of `queries` [Q, D], by cosine; exact.

    The bank comes piece by piece, so that it need not fit into memory: what is held is the queries, k neighbours for
    each of them, and about 50 MB.

    Args:
        queries: [Q, D].
        k: neighbours of each.
        own: rows of the bank [Q] that are left out, each for its query: where the bank holds the queries too.
    """

    def __init__(self, queries: Floats, k: int = NEIGHBOURS, own: Integers | None = None) -> None:
        self._queries = normalised(queries).astype(np.float32)
        self._own, self._seen = own, 0
        self._rows = np.full((len(queries), k), -1, np.int64)
        self._similarity = np.full((len(queries), k), -np.inf, np.float32)

    def add(self, bank: Floats) -> None:
        """Compare with the next rows of the bank, [B, D]."""
        for start in range(0, len(bank), _TILE):
            tile = normalised(bank[start : start + _TILE]).astype(np.float32)
            for first in range(0, len(self._queries), _QUERIES):
                self._merge(slice(first, first + _QUERIES), tile)
            self._seen += len(tile)

    def found(self) -> "Neighbours":
        """The k nearest of what was added; fewer than k where it has no more.

        Raises:
            UsageError: there was nothing to compare with.
        """
        k = min(self._rows.shape[1], self._seen - (self._own is not None))
        if k < 1:
            raise UsageError(f"a bank of {self._seen} images leaves no neighbour to compare an image with")
        return Neighbours(self._rows[:, :k], self._similarity[:, :k])

    def _merge(self, block: slice, tile: Floats) -> None:
        found = self._queries[block] @ tile.T
        if self._own is not None:
            own = self._own[block] - self._seen
            inside = np.flatnonzero((own >= 0) & (own < len(tile)))
            found[inside, own[inside]] = -np.inf
        rows, similarity = self._rows[block], self._similarity[block]
        # Once much of a bank is seen, a tile rarely holds a nearer one, and nothing more is done with it.
        better = np.flatnonzero(found.max(axis=1) > similarity[:, -1])
        if not len(better):
            return
        found, k = found[better], min(rows.shape[1], len(tile))
        columns = np.sort(np.argpartition(found, len(tile) - k, axis=1)[:, len(tile) - k :], axis=1)
        nearer = np.hstack([similarity[better], np.take_along_axis(found, columns, axis=1)])
        every = np.hstack([rows[better], columns + self._seen])
        # Stable: of equal ones, the first of the bank.
        order = np.argsort(-nearer, axis=1, kind="stable")[:, : rows.shape[1]]
        rows[better] = np.take_along_axis(every, order, axis=1)
        similarity[better] = np.take_along_axis(nearer, order, axis=1)


def nearest(queries: Floats, bank: Floats, k: int = NEIGHBOURS, exclude_self: bool = False) -> Neighbours:
    """The k most similar rows of `bank` [B, D] for each of `queries` [Q, D], by cosine; exact.

    Args:
        queries: [Q, D].
        bank: [B, D].
        k: at most B are found.
        exclude_self: leave query i's own row i of the bank out (queries and bank are the same images).

    Raises:
        UsageError: the bank holds no image to compare with.
    """
    search = Search(queries, k, np.arange(len(queries)) if exclude_self else None)
    search.add(bank)
    return search.found()


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


def ranks(values: Floats) -> npt.NDArray[np.float64]:
    """1 for the smallest of [N] to N for the largest; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: npt.NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return shared


def auroc(negatives: Floats, positives: Floats) -> float:
    """P(positive > negative) over all pairs, ties counting half (Mann & Whitney)."""
    positive_ranks = ranks(np.concatenate([negatives, positives]))[len(negatives) :].sum()
    return float((positive_ranks - len(positives) * (len(positives) + 1) / 2) / (len(positives) * len(negatives)))


def _spread(spectrum: Floats) -> float:
    total = spectrum.sum()
    if total <= 0:
        return 1.0
    share = spectrum / total
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))
