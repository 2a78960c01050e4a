"""Threads that decode. A thread is woken only where that pays: to wake one costs as much as to decode a small image."""

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

Task = Callable[[], object]


class Pool:
    """Runs tasks, oldest first, in some threads, for as long as the `with` block lasts.

    A task that is `short` wakes no thread while another works at short ones: that one will come to it in a moment.
    So many small images are decoded by one thread after the other, large ones by all threads at once.
    """

    def __init__(self, threads: int) -> None:
        self._tasks: deque[tuple[Task, bool]] = deque()
        self._changed = threading.Condition()
        self._idle = 0
        self._brisk = threads
        """Threads that will look for a task in a moment: woken, or at a short one."""
        self._closing = False
        # Daemons, as the engine's: a file that takes for ever must not keep a process from ending that was told twice.
        self._threads = [threading.Thread(target=self._work, name=f"decode-{n}", daemon=True) for n in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(self, task: Task, short: bool = False) -> None:
        """Queue a task, which keeps its result and its errors to itself."""
        with self._changed:
            self._tasks.append((task, short))
            if not (short and self._brisk):
                self._wake()

    def _wake(self) -> None:
        if self._idle:
            self._idle, self._brisk = self._idle - 1, self._brisk + 1
            self._changed.notify()

    def _work(self) -> None:
        while found := self._take():
            task, short = found
            task()
            if not short:
                with self._changed:
                    self._brisk += 1

    def _take(self) -> tuple[Task, bool] | None:
        with self._changed:
            while not self._tasks:
                if self._closing:
                    return None
                self._idle, self._brisk = self._idle + 1, self._brisk - 1
                self._changed.wait()
            task, short = self._tasks.popleft()
            if not short:
                self._brisk -= 1
                if self._tasks:
                    self._wake()  # what waits behind this one counted on this thread
            return task, short
