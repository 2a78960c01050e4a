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
    error: BaseException | None = None
    alone: bool = False
    """Whether to compute it by itself: together with others it failed."""

    @property
    def answered(self) -> bool:
        return self.found is not None or self.error is not None


class Gathered:
    """Threads share it. Whoever finds nobody computing does it for the one that waits longest, and for all that can be
    computed with that.

    Args:
        compute: the neighbours of queries [Q, D], given what else was asked.
    """

    def __init__(self, compute: Callable[..., Neighbours]) -> None:
        self._compute = compute
        self._changed, self._computing = threading.Condition(), False
        self._waiting: list[_Asked] = []

    def __call__(self, queries: Float32s, *among: Any) -> Neighbours:  # noqa: ANN401 — what `compute` takes
        """As `compute`; queries with the very same objects in `among` are computed together."""
        asked = _Asked(queries, among)
        self._see_to(asked)
        if asked.found is None:
            try:
                raise asked.error or RuntimeError("nothing was computed")
            finally:
                del asked  # the error would hold this frame, and the frame the error
        return asked.found

    def _see_to(self, asked: _Asked) -> None:
        """Return when it is answered."""
        with self._changed:
            self._waiting.append(asked)
            while not asked.answered:
                if self._computing:
                    self._changed.wait()
                    continue
                together, self._computing = self._next(), True
                self._changed.release()
                try:
                    self._answer(together)
                finally:
                    self._changed.acquire()
                    self._computing = False
                    self._waiting = [one for one in together if not one.answered] + self._waiting
                    self._changed.notify_all()

    def _next(self) -> list[_Asked]:
        """Take the one that waits longest, and those that wait for the same."""
        first = self._waiting[0]
        chosen, size = [first], len(first.queries)
        for one in [] if first.alone else self._waiting[1:]:
            same = len(one.among) == len(first.among) and all(map(_is, one.among, first.among))
            if same and not one.alone and size + len(one.queries) <= MOST_QUERIES:
                chosen.append(one)
                size += len(one.queries)
        self._waiting = [one for one in self._waiting if one not in chosen]
        return chosen

    def _answer(self, together: list[_Asked]) -> None:
        """Where several fail together, each is to be computed by itself."""
        try:
            found = self._compute(np.concatenate([one.queries for one in together]), *together[0].among)
        except BaseException as error:
            if len(together) == 1:
                together[0].error = error
            for one in together:
                one.alone = True
            return
        start = 0
        for one in together:
            end = start + len(one.queries)
            one.found = Neighbours(found.rows[start:end], found.similarity[start:end])
            start = end


def _is(one: object, other: object) -> bool:
    return one is other or (isinstance(one, int) and one == other)
