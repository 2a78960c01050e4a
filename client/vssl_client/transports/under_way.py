"""Close something once the last request that uses it has ended."""

import threading
from collections.abc import Callable
from types import TracebackType

from vssl.errors import UsageError


class UnderWay:
    """Each request is a `with` block; `close` is called once, after `end` and the last block.

    Raises:
        UsageError: a block begins after `end`.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self._lock = threading.Lock()
        self._count, self._ended = 0, False

    def __enter__(self) -> None:
        with self._lock:
            if self._ended:
                raise UsageError("this client is closed: make a new one")
            self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._count -= 1
            last = self._ended and not self._count
        if last:
            self._close()

    def end(self) -> None:
        """Let no more requests begin."""
        with self._lock:
            first, self._ended = not self._ended, True
            idle = first and not self._count
        if idle:
            self._close()
