"""Groups of rows that show the same thing: their cosine is over a threshold, directly or through others of the group.

All pairs are compared, block by block.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vssl.arrays import Float32s, Floats, Int64s

BLOCK = 2048
"""Rows that are compared at once with as many others: 16 MB of cosines."""


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
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        for other in range(start, len(vectors), BLOCK):
            cosines = block @ vectors[other : other + BLOCK].T
            first, second = np.nonzero(cosines >= threshold)
            first, second = first + start, second + other
            before = first < second
            yield first[before], second[before]


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
