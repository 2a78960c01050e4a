"""Searches of many threads as few large ones: while one is computed, those that come wait, and are then computed in one
product, which takes hardly longer than that of one query. Products side by side would only be in each other's way.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vssl.arrays import Float32s
from vssl.search.nearest import Neighbours

MOST_QUERIES = 256
"""That are computed at once, so that nobody waits long for the others'."""


@dataclass(eq=False)
class _Asked:
    queries: Float32s
    among: tuple[Any, ...]
    found: Neighbours | None = None


class Gathered:
    """Threads share it.

    Args:
        compute: the neighbours of queries [Q, D], given what else was asked.
    """

    def __init__(self, compute: Callable[..., Neighbours]) -> None:
        self._compute = compute
        self._computing, self._lock = threading.Lock(), threading.Lock()
        self._waiting: list[_Asked] = []

    def __call__(self, queries: Float32s, *among: Any) -> Neighbours:  # noqa: ANN401 — what `compute` takes
        """As `compute`; queries with the very same objects in `among` are computed together."""
        asked = _Asked(queries, among)
        with self._lock:
            self._waiting.append(asked)
        with self._computing:
            if asked.found is None:
                self._answer(self._together(asked))
        assert asked.found is not None
        return asked.found

    def _together(self, first: _Asked) -> list[_Asked]:
        """Those that wait for the same as the first, which is among them."""
        with self._lock:
            chosen, size = [first], len(first.queries)
            for one in self._waiting:
                same = len(one.among) == len(first.among) and all(map(_is, one.among, first.among))
                if one is not first and same and size + len(one.queries) <= MOST_QUERIES:
                    chosen.append(one)
                    size += len(one.queries)
            self._waiting = [one for one in self._waiting if one not in chosen]
            return chosen

    def _answer(self, together: list[_Asked]) -> None:
        """Where it fails, the first has the error, and each of the others computes for itself."""
        found = self._compute(np.concatenate([one.queries for one in together]), *together[0].among)
        start = 0
        for one in together:
            end = start + len(one.queries)
            one.found = Neighbours(found.rows[start:end], found.similarity[start:end])
            start = end


def _is(one: object, other: object) -> bool:
    return one is other or (isinstance(one, int) and one == other)
