"""Many small writes as few large ones: whatever waits is put in one call.

A call costs a commit, and each commit leaves a file: single rows become slower and slower to write and to read.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pyarrow as pa

from vssl_gallery.store.contract import Store, Written
from vssl_gallery.store.rows import checked

MOST_ROWS = 500
SECONDS = 0.2
"""A write waits so long for others, or until there are `MOST_ROWS` rows."""


class CollectedWrites:
    """Puts rows into one gallery; threads share it. `close` it in the end, or use it as a context manager.

    Args:
        store: the gallery.
        most_rows: that are put together.
        seconds: that a write waits for others.
        clock: tells seconds.
    """

    def __init__(
        self,
        store: Store,
        most_rows: int = MOST_ROWS,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._most_rows, self._seconds, self._clock = store, most_rows, seconds, clock
        self._changed = threading.Condition()
        self._waiting: list[tuple[pa.Table, Future[Written]]] = []
        self._since = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"vssl-writes-{store.name}", daemon=True)
        self._thread.start()

    def upsert(self, rows: pa.Table) -> Written:
        """Put rows; returns when they are written, as `contract.Store.upsert` does. Its `rows` are those of the call.

        Raises:
            InvalidRows: the rows are refused; nobody else's are.
            GalleryError: the store failed, for everything that was put together.
        """
        rows = checked(rows, self._store.spec)
        done: Future[Written] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("these writes are closed")
            if not self._waiting:
                self._since = self._clock()
            self._waiting.append((rows, done))
            self._changed.notify_all()
        return Written(done.result().version, rows.num_rows)

    def close(self) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> "CollectedWrites":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while batch := self._next():
            try:
                written = self._store.upsert(pa.concat_tables([rows for rows, _ in batch]))
            except BaseException as error:  # the callers' threads raise it
                for _, done in batch:
                    done.set_exception(error)
            else:
                for _, done in batch:
                    done.set_result(written)

    def _next(self) -> list[tuple[pa.Table, "Future[Written]"]]:
        """What to put next; nothing when it is time to end."""
        with self._changed:
            while True:
                rows = sum(rows.num_rows for rows, _ in self._waiting)
                left = self._since + self._seconds - self._clock()
                if self._waiting and (self._closed or rows >= self._most_rows or left <= 0):
                    batch, self._waiting = self._waiting, []
                    return batch
                if self._closed:
                    return []
                self._changed.wait(left if self._waiting else None)
