"""Answers that take long to compute: each once for a version, in a thread of their own, and kept while there is room.

A request may give up at its deadline. The computation goes on, and the next request finds its answer.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from itertools import count
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from vssl_server.background.worker import Worker
from vssl_server.wire.errors import busy

T = TypeVar("T")

MOST_BYTES = 128 << 20
KEY_BYTES = 1024
"""That a kept answer takes besides, about."""

MOST_WAITING = 32
END_SECONDS = 1.0


class Computed:
    """Keeps answers by a key, each for the newest version that was asked for.

    Args:
        name: of the thread.
        most_bytes: of all answers together; the least recently asked are forgotten.
        nice: whether the thread steps back for others.
    """

    def __init__(self, name: str = "vssl-curating", most_bytes: int = MOST_BYTES, nice: bool = True) -> None:
        self._worker = Worker(name, nice=nice)
        self._most_bytes = most_bytes
        self._lock = threading.RLock()
        self._kept: OrderedDict[Hashable, tuple[int, Future[Any]]] = OrderedDict()
        self._sizes: dict[Hashable, int] = {}
        self._numbers: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._counter = count()

    def number(self, of: object) -> int:
        """A number of its own for each object, for keys: one that comes later under the same name is another."""
        with self._lock:
            return self._numbers.setdefault(of, next(self._counter))

    async def get(self, key: Hashable, version: int, compute: Callable[[], T], size: Callable[[T], int]) -> T:
        """The answer at that version.

        Args:
            key: of the question.
            version: of the gallery.
            compute: makes the answer, in the thread.
            size: of an answer, in bytes.

        Raises:
            ApiError: 429, too many wait for theirs; 503, it was given up.
        """
        with self._lock:
            known = self._kept.get(key)
            if known is not None and known[0] == version and not _failed(known[1]):
                self._kept.move_to_end(key)
                future: Future[T] = known[1]
            else:
                future = self._begin(key, version, compute, size)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            if not future.cancelled():
                raise  # it is the request that ends
            raise busy(503, "not_ready", "the gallery has changed, or the server is stopping") from None

    def put(self, key: Hashable, version: int, answer: T, size: int) -> None:
        """Keep an answer that was made elsewhere."""
        future: Future[T] = Future()
        future.set_result(answer)
        with self._lock:
            self._kept[key] = version, future
            self._kept.move_to_end(key)
            self._measured(key, future, size)

    def latest(self, key: Hashable) -> tuple[int, Any] | None:
        """The version and the answer that are kept, whichever version that is."""
        with self._lock:
            version, future = self._kept.get(key, (0, None))
            return None if future is None or not future.done() or _failed(future) else (version, future.result())

    def close(self) -> None:
        """Compute no more."""
        self._worker.close(END_SECONDS)

    def _begin(self, key: Hashable, version: int, compute: Callable[[], T], size: Callable[[T], int]) -> Future[T]:
        if key in self._kept:
            self._kept.pop(key)[1].cancel()  # in vain where it runs; then others still get their answer
            self._sizes.pop(key, None)
        if sum(not future.done() for _, future in self._kept.values()) >= MOST_WAITING:
            raise busy(429, "queue_full", f"{MOST_WAITING} computations of galleries are waiting", 10)
        future = self._worker.submit(compute)
        self._kept[key] = version, future

        def ended(done: Future[T]) -> None:
            with self._lock:
                if not _failed(done):
                    self._measured(key, done, size(done.result()))
                elif self._kept.get(key, (0, None))[1] is done:
                    del self._kept[key]

        future.add_done_callback(ended)
        return future

    def _measured(self, key: Hashable, future: Future[Any], size: int) -> None:
        """Forget the least recently asked where there is too much; the newest stays."""
        if self._kept.get(key, (0, None))[1] is future:
            self._sizes[key] = size + KEY_BYTES
        while sum(self._sizes.values()) > self._most_bytes and len(self._sizes) > 1:
            oldest = next(one for one in self._kept if one in self._sizes)
            del self._kept[oldest], self._sizes[oldest]


def _failed(future: Future[Any]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)
