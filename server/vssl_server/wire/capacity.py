"""What is in the server at once, in images and in bytes; a request that is too much learns when to come again."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from vssl_server.wire.errors import busy

HELD = "vssl.held"
"""The ASGI scope's key for the request's `Held`."""


class OverloadedError(Exception):
    """No place is left. The request needs `share` of all that is taken, and may come again in `seconds`."""

    def __init__(self, message: str, share: float = 1.0) -> None:
        super().__init__(message)
        self.share, self.seconds = share, 0.0


class Stay:
    """How long recent requests have held what they took."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def note(self, seconds: float) -> None:
        """Count a request that has given back what it held."""
        self._seconds += (seconds - self._seconds) / (8 if self._seconds else 1)

    def until_free(self, share: float) -> float:
        """About the seconds until this share of all that is taken is free again."""
        return min(1.0, share) * self._seconds


class Capacity:
    """So many places; `in_flight` of them are taken now."""

    def __init__(self, limit: int) -> None:
        self.limit, self.in_flight = limit, 0
        self._lock = threading.Lock()
        self._stay = Stay()

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Hold `count` places until the end of the block.

        An OverloadedError, ours or one from the block, gets its `seconds` by how long recent requests stayed.

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
            if self.in_flight + count > self.limit:
                message = f"{self.in_flight} of {self.limit} places are taken, the request needs {count}"
                raise OverloadedError(message, count / max(1, self.in_flight))
            self.in_flight += count

    def _give_back(self, count: int) -> None:
        with self._lock:
            self.in_flight -= count


class Places:
    """Places for images of two classes: those that go `behind` others may hold half of them, or a whole batch."""

    def __init__(self, limit: int, batch: int) -> None:
        self._all, self._behind = Capacity(limit), Capacity(max(batch, limit // 2))

    @property
    def in_flight(self) -> int:
        """Places that are taken now."""
        return self._all.in_flight

    @contextmanager
    def admit(self, count: int, behind: bool = False) -> Iterator[None]:
        """Hold `count` places until the end of the block.

        Raises:
            OverloadedError: too few are free, as of `Capacity.admit`.
        """
        with self._behind.admit(count) if behind else nullcontext(), self._all.admit(count):
            yield


class Pending:
    """The bytes of all bodies that have arrived or are announced, and are not answered yet; and how many requests with
    a body have been answered.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes, self.answered = limit, 0, 0
        self.stay = Stay()
        self._lock = threading.Lock()

    @contextmanager
    def request(self) -> Iterator["Held"]:
        """One request's share, given back at the end of the block."""
        held, started = Held(self), time.monotonic()
        try:
            yield held
        finally:
            self.change(-held.bytes)
            self.answered += held.bytes > 0
        if held.bytes:
            self.stay.note(time.monotonic() - started)

    def change(self, difference: int) -> bool:
        """Count more bytes, or fewer; from any thread. False, and nothing is counted, where they are too many."""
        with self._lock:
            if difference > 0 and self.bytes + difference > self.limit:
                return False
            self.bytes += difference
            return True


class Held:
    """The bytes of one request."""

    def __init__(self, pending: Pending) -> None:
        self.pending, self.bytes = pending, 0

    def reach(self, total: int) -> None:
        """Hold at least `total` bytes from now on.

        Raises:
            ApiError: 429, all requests together would be over the limit.
        """
        if total <= self.bytes:
            return
        if not self.pending.change(total - self.bytes):
            limit = self.pending.limit
            seconds = self.pending.stay.until_free((total - self.bytes) / max(1, self.pending.bytes))
            message = f"the bodies of the requests in flight would be over {limit:,} bytes"
            raise busy(429, "bodies_full", message, seconds)
        self.bytes = total
