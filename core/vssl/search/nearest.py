"""The nearest neighbours of embeddings in a bank, by cosine; exact, a tile of the bank at a time."""

from dataclasses import dataclass

import numpy as np

from vssl.arrays import Float32s, Float64s, Floats, Int64s, Integers, Mask
from vssl.errors import UsageError

NEIGHBOURS = 20
"""Neighbours that vote, everywhere in the project."""

TEMPERATURE = 0.1
"""Of the votes' weights, everywhere in the project."""

_QUERIES, _TILE = 1024, 4096
"""Similarities that are computed at once: 16 MB of them, which a core's cache half holds. Fewer queries take more rows
of a bank at once, where these need no copy: each product has its cost, most of all while other threads are busy."""

_GROUP, _MANY = 16, 8
"""Columns of similarities in a group, and groups for each neighbour from which on it pays to look at these first."""


def normalised(vectors: Floats) -> Floats:
    """Rows of [N, D] scaled to unit length; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = vectors / np.maximum(lengths, 1e-12)
    return unit


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of a bank for each of Q queries, the nearest first: rows of the bank and their cosine [Q, k]."""

    rows: Int64s
    similarity: Float32s

    def votes(self, labels: Integers, classes: int, temperature: float = TEMPERATURE) -> Float64s:
        """Each class's share of the vote [Q, C], weighted exp(cosine / temperature); `labels` [B] are the bank's."""
        weights = np.exp((self.similarity - self.similarity[:, :1]).astype(np.float64) / temperature)
        votes = np.zeros((len(self.rows), classes))
        np.add.at(votes, (np.arange(len(votes))[:, None], labels[self.rows]), weights)
        shares: Float64s = votes / votes.sum(axis=1, keepdims=True)
        return shares


class NeighbourSearch:
    """Finds the k most similar rows of a bank for each of `queries` [Q, D], by cosine; exact.

    The bank comes piece by piece and need not fit into memory. Held are the queries, k neighbours for each, and about
    50 MB.

    Args:
        queries: [Q, D].
        k: neighbours of each.
        own: where the bank holds the queries too, the row of each, [Q], which is left out for that query.
    """

    def __init__(self, queries: Floats, k: int = NEIGHBOURS, own: Integers | None = None) -> None:
        self._queries = normalised(queries).astype(np.float32)
        self._own, self._seen = own, 0
        self._rows = np.full((len(queries), k), -1, np.int64)
        self._similarity = np.full((len(queries), k), -np.inf, np.float32)

    def add(self, bank: Floats, among: Mask | None = None, unit: bool = False) -> None:
        """Compare with the next rows of the bank.

        Args:
            bank: [B, D].
            among: which of them may be found, [B]; by default all. Where fewer than k may be found, the similarity of
                what `found` fills up with is −∞.
            unit: they are float32 of unit length already; to scale them takes longer than to search few queries.
        """
        rows = max(_TILE, _QUERIES * _TILE // max(len(self._queries), 1)) if unit else _TILE
        for start in range(0, len(bank), rows):
            place = slice(start, start + rows)
            tile = bank[place] if unit else normalised(bank[place])
            for first in range(0, len(self._queries), _QUERIES):
                self._merge(
                    slice(first, first + _QUERIES),
                    tile.astype(np.float32, copy=False),
                    None if among is None else among[place],
                )
            self._seen += len(tile)

    def found(self) -> Neighbours:
        """The k nearest rows that were added; fewer than k where there are no more.

        Raises:
            UsageError: no row was added to compare with.
        """
        k = min(self._rows.shape[1], self._seen - (self._own is not None))
        if k < 1:
            raise UsageError(f"a bank of {self._seen} images leaves no neighbour to compare an image with")
        return Neighbours(self._rows[:, :k], self._similarity[:, :k])

    def _merge(self, block: slice, tile: Float32s, among: Mask | None) -> None:
        found = self._queries[block] @ tile.T
        if among is not None:
            found[:, ~among] = -np.inf
        if self._own is not None:
            own = self._own[block] - self._seen
            inside = np.flatnonzero((own >= 0) & (own < len(tile)))
            found[inside, own[inside]] = -np.inf
        rows, similarity = self._rows[block], self._similarity[block]
        # Late in a bank a tile rarely holds a nearer row: skip it early.
        better = np.flatnonzero(found.max(axis=1) > similarity[:, -1])
        if not len(better):
            return
        found, k = found[better], min(rows.shape[1], len(tile))
        columns = np.sort(_largest(found, k), axis=1)
        nearer = np.hstack([similarity[better], np.take_along_axis(found, columns, axis=1)])
        every = np.hstack([rows[better], columns + self._seen])
        # Stable: of equal rows, the first of the bank wins.
        order = np.argsort(-nearer, axis=1, kind="stable")[:, : rows.shape[1]]
        rows[better] = np.take_along_axis(every, order, axis=1)
        similarity[better] = np.take_along_axis(nearer, order, axis=1)


def _largest(values: Float32s, k: int) -> Int64s:
    """The columns of the k largest of each row of [Q, B], in no order.

    They lie in the k groups of columns with the largest maxima, and a maximum is found faster than a place.
    """
    columns = values.shape[1]
    groups = columns // _GROUP
    if groups < _MANY * k:
        return _places(values, k)
    maxima = values[:, : groups * _GROUP].reshape(-1, _GROUP, groups).max(axis=1)  # the columns g, g + groups, …
    inside = _places(maxima, k)[:, :, None] + np.arange(0, groups * _GROUP, groups)
    rest = np.broadcast_to(np.arange(groups * _GROUP, columns), (len(values), columns - groups * _GROUP))
    candidates = np.hstack([inside.reshape(len(values), -1), rest])
    best = _places(np.take_along_axis(values, candidates, axis=1), k)
    return np.take_along_axis(candidates, best, axis=1)


def _places(values: Float32s, k: int) -> Int64s:
    least = values.shape[1] - k
    places: Int64s = np.argpartition(values, least, axis=1)[:, least:]
    return places


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
    search = NeighbourSearch(queries, k, np.arange(len(queries)) if exclude_self else None)
    search.add(bank)
    return search.found()
