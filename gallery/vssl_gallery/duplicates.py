"""Groups of rows that show the same thing: their cosine is over a threshold, directly or through others of the group.

All pairs are compared, block by block, and none is missed: two vectors of unit length whose cosine is t lie √(2 − 2 t)
apart, and in a projection at most so far. So the few pairs that are near in a few directions are the only ones whose
cosines need all dimensions; and rows in the order of the first direction need only look at those behind them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vssl.arrays import Float32s, Floats, Int64s

BLOCK = 2048
"""Rows that are compared at once with as many others: 16 MB of cosines."""

DIRECTIONS = 64
"""Of the largest variance, in which pairs are compared first; all, of vectors that have less than twice as many."""

SAMPLE = 20_000
"""Rows that the directions are those of."""

CANDIDATES = 16_384
"""Pairs whose cosines are computed at once."""

MANY = 100
"""Where one in so many pairs of two blocks may be near, the cosines of all of them are computed in one product."""

SLACK = 1e-4
"""For the rounding of float32 in squared distances and cosines near 1."""


@dataclass(frozen=True)
class Group:
    """Rows that show the same thing: `kept`, the one with the most pixels, then the least uncertainty; and the others,
    by id, with each one's cosine to `kept`.
    """

    kept: str
    others: list[str]
    similarity: list[float]


def pairs(vectors: Float32s, threshold: float) -> Iterator[tuple[Int64s, Int64s]]:
    """Pairs of rows of [N, D], the first before the second, whose cosine is at least `threshold`; block by block."""
    near = 2 - 2 * threshold
    projected = _projected(vectors)
    order = np.argsort(projected[:, 0], kind="stable")
    projected = projected[order]
    along = projected[:, 0].copy()
    # [p, 1, −|p|²/2] · [q, −|q|²/2, 1] is −|p − q|²/2: one product says which pairs are near.
    half, one = -0.5 * np.square(projected).sum(axis=1), np.ones(len(vectors), np.float32)
    left, right = np.column_stack([projected, one, half]), np.column_stack([projected, half, one])
    reach = along + np.sqrt(near + SLACK)
    for start in range(0, len(vectors), BLOCK):
        end = min(start + BLOCK, len(vectors))
        last = int(np.searchsorted(along, reach[end - 1], "right"))
        for other in range(start, last, BLOCK):
            found = left[start:end] @ right[other : other + BLOCK].T >= -0.5 * (near + SLACK)
            rows = order[start:end], order[other : other + BLOCK]
            places = np.flatnonzero(found)
            if len(places) > found.size // MANY:  # then the whole product is quicker
                found = vectors[rows[0]] @ vectors[rows[1]].T >= threshold
                places = np.flatnonzero(found)
            first, second = np.divmod(places, found.shape[1])
            first, second = rows[0][first], rows[1][second]
            # A pair of one block is found from both of its rows.
            once = first < second if other == start else first != second
            first, second = np.minimum(first, second)[once], np.maximum(first, second)[once]
            near_enough = _cosines(vectors, first, second) >= threshold
            yield first[near_enough], second[near_enough]


def _projected(vectors: Float32s) -> Float32s:
    """[N, D] in the orthogonal directions of the largest variance, the largest first; at most `DIRECTIONS` of them."""
    sample = vectors[:: max(1, len(vectors) // SAMPLE)].astype(np.float64)
    directions = np.linalg.eigh(np.cov(sample.T) if len(sample) > 1 else np.eye(vectors.shape[1]))[1][:, ::-1]
    few = vectors.shape[1] if vectors.shape[1] < 2 * DIRECTIONS else DIRECTIONS
    return vectors @ np.ascontiguousarray(directions[:, :few], np.float32)


def _cosines(vectors: Float32s, first: Int64s, second: Int64s) -> Float32s:
    """Of these pairs of rows."""
    found = np.empty(len(first), np.float32)
    for start in range(0, len(first), CANDIDATES):
        part = slice(start, start + CANDIDATES)
        found[part] = np.einsum("nd,nd->n", vectors[first[part]], vectors[second[part]])
    return found


def components(count: int, joined: Iterator[tuple[Int64s, Int64s]]) -> Int64s:
    """The least row of the group of each of `count` rows, [N]: union by least root, with path halving."""
    root = np.arange(count)

    def find(row: int) -> int:
        while root[row] != row:
            root[row] = root[root[row]]
            row = int(root[row])
        return row

    for first, second in joined:
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            a, b = find(one), find(other)
            if a != b:
                root[max(a, b)] = min(a, b)
    return np.array([find(row) for row in range(count)], np.int64)


def groups(vectors: Float32s, ids: list[str], pixels: Floats, uncertainty: Floats, threshold: float) -> list[Group]:
    """The groups of two or more rows, the largest first, then by id.

    Args:
        vectors: [N, D], of unit length.
        ids: N of them.
        pixels: width × height of each image, [N]; NaN where it is not known.
        uncertainty: [N]; NaN where it is not known.
        threshold: least cosine.
    """
    root = components(len(vectors), pairs(vectors, threshold))
    order = np.lexsort((np.array(ids), np.nan_to_num(uncertainty, nan=np.inf), -np.nan_to_num(pixels, nan=-1.0), root))
    ends = np.append(np.flatnonzero(np.diff(root[order])) + 1, len(order))
    found = []
    for start, end in zip(np.append(0, ends[:-1]), ends, strict=True):
        if end - start < 2:
            continue
        best, others = order[start], sorted(order[start + 1 : end].tolist(), key=lambda row: ids[row])
        similarity = (vectors[others] @ vectors[best]).tolist()
        found.append(Group(ids[best], [ids[row] for row in others], similarity))
    return sorted(found, key=lambda group: (-len(group.others), group.kept))
