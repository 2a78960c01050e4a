"""Threads that decode."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Self

Task = Callable[[], object]


class Pool:
    """Runs tasks, oldest first, in some threads, for as long as the `with` block lasts."""

    def __init__(self, threads: int) -> None:
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        # Daemons, as the engine's: a file that takes for ever must not keep a process from ending that was told twice.
        self._threads = [threading.Thread(target=self._work, name=f"decode-{n}", daemon=True) for n in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, task: Task) -> None:
        """Queue a task, which keeps its result and its errors to itself."""
        self._tasks.put(task)

    def _work(self) -> None:
        while task := self._tasks.get():
            task()
