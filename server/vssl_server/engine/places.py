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


class Stay:
    """How long requests of late have held what they took."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def note(self, seconds: float) -> None:
        """One more request gave back what it had."""
        self._seconds += (seconds - self._seconds) / (8 if self._seconds else 1)

    def until_free(self, share: float) -> float:
        """About the seconds until such a share of all that is taken is given back."""
        return min(1.0, share) * self._seconds


class Places:
    """So many places; `held` of them are taken now."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.held = capacity, 0
        self._lock = threading.Lock()
        self._stay = Stay()

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
            error.seconds = self._stay.until_free(error.share)
            raise
        self._stay.note(time.monotonic() - started)

    def _take(self, count: int) -> None:
        with self._lock:
            if self.held + count > self.capacity:
                message = f"{self.held} of {self.capacity} places are taken, the request needs {count}"
                raise OverloadedError(message, count / max(1, self.held))
            self.held += count

    def _give_back(self, count: int) -> None:
        with self._lock:
            self.held -= count
