"""Threads for work that blocks or takes long. They never keep the process alive, as those of an executor would."""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

NICE = 10
"""How much the thread steps back for others, where the system can do that for a single thread."""


class Worker:
    """Runs what is submitted, in order. Its threads begin with the first piece.

    numpy's matrix products may use more cores than the one of a thread: they come in blocks of a few dozen
    milliseconds, and a search waits for one of them at most.

    Args:
        name: of the threads.
        threads: how many pieces run at once.
        nice: whether they step back for others.
    """

    def __init__(self, name: str, threads: int = 1, nice: bool = True) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = [
            threading.Thread(target=self._run, args=(nice,), name=name, daemon=True) for _ in range(threads)
        ]
        self._begun = self._closed = False

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run it after all that was submitted before. After `close` it is cancelled at once."""
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                future.cancel()
                return future
            if not self._begun:
                self._begun = True
                for thread in self._threads:
                    thread.start()
            self._waiting.append((future, work))
            self._changed.notify()
        return future

    def close(self, timeout: float) -> bool:
        """Cancel what waits, and wait so many seconds for what runs; whether all has ended."""
        with self._changed:
            self._closed = True
            for future, _ in self._waiting:
                future.cancel()
            self._waiting.clear()
            self._changed.notify_all()
        end = time.monotonic() + timeout
        for thread in self._threads if self._begun else ():
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, nice: bool) -> None:
        if nice and sys.platform == "linux":  # elsewhere it would be the whole process
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
