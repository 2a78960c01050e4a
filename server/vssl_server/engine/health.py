"""Whether an engine works, judged by its past calls and the current ones."""

import math
import threading
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
    """The health of one engine. The threads that call it keep this up to date; any thread may ask.

    Args:
        stall_seconds: a call that takes longer counts as hung until it returns.
    """

    def __init__(self, stall_seconds: float = math.inf) -> None:
        self._stall_seconds = stall_seconds
        self._lock = threading.Lock()
        self._called: dict[int, float] = {}  # when, by the thread
        self._failures, self._first_failure = 0, 0.0
        self.failed = False
        """Whether it fails on a blank image, or has ended."""

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around each call of the engine."""
        thread, started = threading.get_ident(), time.monotonic()
        with self._lock:
            self._called[thread] = started
        try:
            yield
        except BaseException:
            with self._lock:
                if self._failures == 0:
                    self._first_failure = started
                self._failures += 1
            raise
        else:
            with self._lock:
                self._failures, self.failed = 0, False
        finally:
            with self._lock:
                del self._called[thread]

    @property
    def suspect(self) -> bool:
        """Whether so many calls failed in a row that a blank image must show what is at fault."""
        return self._failures >= FAILED_BATCHES

    def condemn(self) -> None:
        """Note that it failed on a blank image or has ended; that holds until a call succeeds."""
        with self._lock:
            if self._failures == 0:
                self._first_failure = time.monotonic()
            self.failed = True

    @property
    def hangs(self) -> bool:
        """Whether a call takes too long."""
        return self._longest_call > self._stall_seconds

    @property
    def unanswered(self) -> float:
        """Seconds since it began to fail or to hang; 0 while it does neither."""
        if self.failed:
            return time.monotonic() - self._first_failure
        longest = self._longest_call
        return longest if longest > self._stall_seconds else 0.0

    @property
    def _longest_call(self) -> float:
        """Seconds since the oldest of the calls began that have not returned; 0 where there is none."""
        with self._lock:
            return time.monotonic() - min(self._called.values()) if self._called else 0.0


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
