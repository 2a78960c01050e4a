"""When a phase logs, is judged and is saved: so many times over its steps, and by wall time where steps take long."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NEGLIGIBLE = 0.1
"""Seconds that an occasion may always take."""

SHARE = 0.1
"""Part of the time that costly occasions may take."""


def due(done: int, steps: int, times: int) -> bool:
    """Whether something that happens `times` times over `steps` happens after step number `done`; always at the end."""
    return done * times // steps > (done - 1) * times // steps


def affordable(since: float, cost: float) -> bool:
    """Whether something may happen again: seconds since it last did, and those that it took then."""
    return cost <= NEGLIGIBLE or cost <= SHARE * since


class Occasion:
    """Something that happens `times` times over the steps of a phase, and at the latest `seconds` after the last time.

    None of it decides what a step does, so a run that goes on by another clock has the same weights.
    """

    def __init__(self, times: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._times, self._seconds, self._clock = times, seconds, clock
        self._last, self._cost = clock(), 0.0

    @property
    def late(self) -> bool:
        """Whether it has not happened for its seconds."""
        return self._clock() - self._last >= self._seconds

    def due(self, done: int, steps: int) -> bool:
        """Whether it happens after step number `done` of `steps` whatever the clock says: the same in all processes."""
        return due(done, steps, self._times)

    def worth(self, done: int, steps: int) -> bool:
        """Whether it happens after step number `done` of `steps`: due or late, at no more than its share of the time.

        By this process's clock, so for what one process does alone.
        """
        wanted = self.late or self.due(done, steps)
        return done == steps or (wanted and affordable(self._clock() - self._last, self._cost))

    @contextmanager
    def happening(self) -> Iterator[None]:
        """Note when it happens, and what it takes."""
        begun = self._clock()
        yield
        self._last = self._clock()
        self._cost = self._last - begun
