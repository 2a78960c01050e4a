"""Which server gets the next request: the one with the least work, but for a while none that has just failed."""

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vssl_client.exchange import retry


@dataclass
class _Load:
    images: int = 0
    failures: int = 0
    rests_until: float = 0.0


class Servers:
    """The state of several equal servers, each named by its number. May be used from many threads."""

    def __init__(self, count: int) -> None:
        self._loads = [_Load() for _ in range(count)]
        self._lock = threading.Lock()
        self.crowded = False
        """Whether one of them has found a request of several images too large."""

    def __len__(self) -> int:
        return len(self._loads)

    @contextmanager
    def taken(self, images: int, failed: Collection[int] = ()) -> Iterator[int]:
        """The server for a request of so many images; they count as its work until the end of the block.

        A server that does not rest comes first, and among these one that has not `failed` at this request.
        """
        with self._lock:
            now = time.monotonic()
            loads = list(enumerate(self._loads))
            server, load = min(
                loads, key=lambda pair: (max(0.0, pair[1].rests_until - now), pair[0] in failed, pair[1].images)
            )
            load.images += images
        try:
            yield server
        finally:
            with self._lock:
                load.images -= images

    def failed(self, server: int, retry_after: float | None, times: int = 1) -> None:
        """It did not answer, or asks for a pause: let it rest, longer after each failure in a row.

        Args:
            server: its number.
            retry_after: seconds that it asks for, if it does.
            times: that the request has failed there. Many requests keep each other from counting, and would all give
                up after a few short pauses.
        """
        load, now = self._loads[server], time.monotonic()
        with self._lock:
            if now >= load.rests_until:  # requests that fail together count once
                load.failures += 1
            load.failures = max(load.failures, times)
            load.rests_until = now + retry.pause(load.failures - 1, retry_after)

    def answered(self, server: int) -> None:
        """It answered: forget its failures."""
        with self._lock:
            self._loads[server].failures, self._loads[server].rests_until = 0, 0.0

    def rested(self) -> list[int]:
        """The servers that may get a request now; all of them if each has just failed."""
        now = time.monotonic()
        return [i for i, load in enumerate(self._loads) if load.rests_until <= now] or list(range(len(self)))

    def pause(self) -> float:
        """Seconds until the first server may get a request again."""
        return max(0.0, min(load.rests_until for load in self._loads) - time.monotonic())
