"""Places for what is in the server at once, so that a request that finds none is told so, and when to come again."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class OverloadedError(Exception):
    """There is no place for a request that needs a `share` of all that is taken. `seconds` is when to come again."""

    def __init__(self, message: str, share: float = 1.0) -> None:
        super().__init__(message)
        self.share, self.seconds = share, 0.0


class Places:
    """So many places; `held` of them are taken now."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.held = capacity, 0
        self._lock = threading.Lock()
        self._stay: float | None = None
        """Seconds for which requests have held theirs, by those of late."""

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Hold so many until the end of the block.

        An OverloadedError, ours or one from the block, gets its `seconds`: the time that requests of late needed to
        leave, or as much of it as their share.

        Raises:
            OverloadedError: too few are free.
        """
        started = time.monotonic()
        try:
            self._take(count)
            try:
                yield
            finally:
                self._give_back(count)
        except OverloadedError as error:
            error.seconds = min(1.0, error.share) * (self._stay or 0.0)
            raise
        seconds = time.monotonic() - started
        self._stay = seconds if self._stay is None else self._stay + (seconds - self._stay) / 8

    def _take(self, count: int) -> None:
        with self._lock:
            if self.held + count > self.capacity:
                message = f"{self.held} of {self.capacity} places are taken, the request needs {count}"
                raise OverloadedError(message, count / max(1, self.held))
            self.held += count

    def _give_back(self, count: int) -> None:
        with self._lock:
            self.held -= count
