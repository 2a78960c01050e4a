"""Work on several items at once, results in the order of the items, bounded memory."""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

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

    At most 2 · `workers` items are taken and not yet given; fewer while these are `full`. Only the caller's thread
    reads `items`. The first error of `work` is raised in its place. After the block nothing more begins, and nobody
    waits for what is under way: the threads are daemons, so an answer that never comes can't keep the process alive.
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
            del task, future, item  # otherwise they live until the next task comes

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
    """The same in an event loop: up to `workers` at once. When it ends, what is under way is cancelled."""
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
