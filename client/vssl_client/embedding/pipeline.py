"""Work on several items at once, results in the order of the items, bounded memory."""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def ordered(
    work: Callable[[T], R],
    items: Iterable[T],
    workers: int,
    full: Callable[[Sequence[Future[R]]], bool] = lambda _: False,
) -> Iterator[Iterator[R]]:
    """Give `work(item)` for each item, in order, computed by up to `workers` threads.

    At most 2 · `workers` items are taken but not given yet; fewer where these are `full`. `items` is read by the
    caller's thread alone. The first error of `work` is raised in its place. On leaving, nothing further begins, and
    nobody waits for what is under way: the threads are daemons, so that an answer which never comes can't keep the
    process from ending.
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
            while len(pending) == 2 * workers or (pending and full(pending)):
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


async def ordered_async(
    work: Callable[[T], Coroutine[Any, Any, R]], items: AsyncIterable[T], workers: int
) -> AsyncGenerator[R, None]:
    """The same in an event loop: up to `workers` at once. On leaving, what is under way is cancelled."""
    free = asyncio.Semaphore(workers)
    pending: deque[asyncio.Task[R]] = deque()

    async def run(item: T) -> R:
        async with free:
            return await work(item)

    try:
        async for item in items:
            pending.append(asyncio.create_task(run(item)))
            if len(pending) == 2 * workers:
                yield await pending.popleft()
        while pending:
            yield await pending.popleft()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


class Chunks(Generic[T]):
    """Items collected into lists of up to `most` that weigh up to `heaviest` together; a heavier one stands alone."""

    def __init__(self, most: int, heaviest: int) -> None:
        self.rest: list[T] = []
        self._most, self._heaviest, self._total = most, heaviest, 0

    def add(self, item: T, weight: int) -> list[T]:
        """Take one more; what is full now, for the item does not go into it, or nothing."""
        full: list[T] = []
        if self.rest and (len(self.rest) == self._most or self._total + weight > self._heaviest):
            full, self.rest, self._total = self.rest, [], 0
        self.rest.append(item)
        self._total += weight
        return full


def chunked(
    items: Iterable[T], most: int, weigh: Callable[[T], int] = lambda _: 0, heaviest: int = 0
) -> Iterator[list[T]]:
    """`items` in `Chunks`."""
    chunks: Chunks[T] = Chunks(most, heaviest)
    for item in items:
        if full := chunks.add(item, weigh(item)):
            yield full
    if chunks.rest:
        yield chunks.rest
