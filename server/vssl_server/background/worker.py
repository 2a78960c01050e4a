"""A thread for long work, one piece at a time, behind everything else that the process does."""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

NICE = 10
"""How much the thread steps back for others, where the system can do that for a single thread."""


class Worker:
    """Runs what is submitted, in order. Its thread begins with the first piece, and never keeps the process alive.

    numpy's matrix products may use more cores than the one of this thread: they come in blocks of a few dozen
    milliseconds, and a search waits for one of them at most.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run it after all that was submitted before. After `close` it is cancelled at once."""
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                future.cancel()
                return future
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()
            self._waiting.append((future, work))
            self._changed.notify()
        return future

    def close(self, timeout: float) -> bool:
        """Cancel what waits, and wait so many seconds for what runs; whether it has ended."""
        with self._changed:
            self._closed = True
            for future, _ in self._waiting:
                future.cancel()
            self._waiting.clear()
            self._changed.notify()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        if sys.platform == "linux":  # elsewhere it would be the whole process
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                future, work = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # whoever waits for it raises it
                future.set_exception(error)
            del future, work  # they may hold much until the next piece comes
