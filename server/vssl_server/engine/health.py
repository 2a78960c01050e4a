"""Whether an engine works, judged by its past calls and the current one."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from vssl.engine import Embeddings

FAILED_BATCHES = 3
"""Failed calls in a row before the engine must embed a blank image: the requests may be at fault."""

PROBE_SECONDS = 10.0
"""Between two blank images, while the engine fails on them."""

END_SECONDS = 60.0
"""A process whose engines have not answered for so long ends, so that its supervisor starts another."""


class Health:
    """The health of one engine. The engine's thread keeps it up to date; any thread may ask.

    Args:
        stall_seconds: a call that takes longer counts as hung until it returns.
    """

    def __init__(self, stall_seconds: float = math.inf) -> None:
        self._stall_seconds = stall_seconds
        self._called: float | None = None
        self._failures, self._first_failure = 0, 0.0
        self.failed = False
        """Whether it fails on a blank image, or has ended."""

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around each call of the engine."""
        started = self._called = time.monotonic()
        try:
            yield
        except BaseException:
            if self._failures == 0:
                self._first_failure = started
            self._failures += 1
            raise
        else:
            self._failures, self.failed = 0, False
        finally:
            self._called = None

    @property
    def suspect(self) -> bool:
        """Whether so many calls failed in a row that a blank image must show what is at fault."""
        return self._failures >= FAILED_BATCHES

    def condemn(self) -> None:
        """Note that it failed on a blank image or has ended; that holds until a call succeeds."""
        if self._failures == 0:
            self._first_failure = time.monotonic()
        self.failed = True

    @property
    def hangs(self) -> bool:
        """Whether the current call takes too long."""
        called = self._called
        return called is not None and time.monotonic() - called > self._stall_seconds

    @property
    def unanswered(self) -> float:
        """Seconds since it began to fail or to hang; 0 while it does neither."""
        called = self._called
        if self.failed:
            return time.monotonic() - self._first_failure
        return time.monotonic() - called if called is not None and self.hangs else 0.0


def checked(embeddings: Embeddings, images: int) -> Embeddings:
    """The embeddings of so many images; ValueError if they can't be right.

    With another length, rows would go to the wrong images; a NaN would reach the client as null.
    """
    arrays = (embeddings.embedding, embeddings.variance, embeddings.uncertainty)
    if any(len(array) != images for array in arrays):
        raise ValueError(f"the model answered {[len(array) for array in arrays]} rows for {images} images")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("the model's answer holds numbers that are not finite")
    return embeddings
