"""Work on several items at once, results in the order of the items, bounded memory."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def ordered(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[Iterator[R]]:
    """Give `work(item)` for each item, in order, computed by up to `workers` threads.

    At most 2 · `workers` items are taken but not given yet. `items` is read by the caller's thread alone. The first
    error of `work` is raised in its place. On leaving, nothing further begins, and nobody waits for what is under way:
    the threads are daemons, so that an answer which never comes can't keep the process from ending.
    """
    tasks: queue.SimpleQueue[tuple[Future[R], T] | None] = queue.SimpleQueue()
    pending: deque[Future[R]] = deque()
    threads: list[threading.Thread] = []

    def run() -> None:
        while (task := tasks.get()) is not None:
            future, item = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work(item))
                except BaseException as error:
                    future.set_exception(error)
            del task, future, item  # or they would live on until the next task comes

    def results() -> Iterator[R]:
        for item in items:
            pending.append(Future())
            tasks.put((pending[-1], item))
            if len(threads) < workers:
                threads.append(threading.Thread(target=run, daemon=True))
                threads[-1].start()
            if len(pending) == 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    try:
        yield results()
    finally:
        for future in pending:
            future.cancel()
        for _ in threads:
            tasks.put(None)


def chunked(
    items: Iterable[T], most: int, weigh: Callable[[T], int] = lambda _: 0, heaviest: int = 0
) -> Iterator[list[T]]:
    """Lists of up to `most` items that weigh up to `heaviest` together; a single item that weighs more stands alone."""
    chunk: list[T] = []
    total = 0
    for item in items:
        weight = weigh(item)
        if chunk and (len(chunk) == most or total + weight > heaviest):
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += weight
    if chunk:
        yield chunk
