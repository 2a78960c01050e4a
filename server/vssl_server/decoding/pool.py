"""Threads that decode. Requests take turns, and the pixels that wait are limited."""

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from vssl_server.observed import metrics
from vssl_server.wire.capacity import OverloadedError

Task = Callable[[], object]

logger = logging.getLogger("vssl.server")


@dataclass(eq=False)
class Line:
    """One request's tasks, each with whether it is heavy; they begin in their order."""

    tasks: deque[tuple[Task, bool]] = field(default_factory=deque)
    running: int = 0


class Pool:
    """Runs tasks until the end of the `with` block, one of each request in turn.

    A request holds at most `threads` threads. One more thread takes a light task while all others work on heavy tasks,
    or on those of one request.

    Args:
        threads: tasks that run at once, beside the light one.
        max_pending_pixels: pixels that may be admitted at once.
    """

    def __init__(self, threads: int, max_pending_pixels: int = 2**30) -> None:
        self.max_pending_pixels, self._most = max_pending_pixels, threads
        self.pending_pixels = 0
        """Pixels that are admitted now."""
        self.waiting = 0
        """Tasks that no thread has begun."""
        self.alive = 0
        """Threads that are there to decode."""
        self._lines: deque[Line] = deque()
        self._running = self._heavy = 0
        self._held_by_one = self._closing = False
        self._changed = threading.Condition()
        # Daemons, as the engine's: a file that takes for ever must not keep a process alive that was interrupted twice.
        self._threads = [
            threading.Thread(target=self._work, name=f"decode-{n}", daemon=True) for n in range(threads + 1)
        ]

    def __enter__(self) -> Self:
        me = weakref.ref(self)
        metrics.DECODE_QUEUE_TASKS.set_function(lambda: pool.waiting if (pool := me()) else 0)
        metrics.PENDING_PIXELS.set_function(lambda: pool.pending_pixels if (pool := me()) else 0)
        for thread in self._threads:
            self.alive += 1
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

    def publish(self) -> None:
        """Store the gauges' values: other worker processes can't ask this one."""
        metrics.DECODE_QUEUE_TASKS.set(self.waiting)
        metrics.PENDING_PIXELS.set(self.pending_pixels)

    def submit(self, line: Line, task: Task, heavy: bool = False) -> None:
        """Queue a task of the request that `line` stands for. The task handles its own result and errors."""
        with self._changed:
            if not line.tasks:
                self._lines.append(line)
            line.tasks.append((task, heavy))
            self.waiting += 1
            if self._has_room(line, heavy):
                self._changed.notify()

    def admit(self, pixels: int) -> None:
        """Count pixels to be decoded, until `release`.

        Raises:
            OverloadedError: too many are admitted already.
        """
        with self._changed:
            if self.pending_pixels + pixels > self.max_pending_pixels:
                taken = f"{self.pending_pixels:,} of {self.max_pending_pixels:,} pixels are pending"
                raise OverloadedError(f"{taken}, the request has {pixels:,}", pixels / max(1, self.pending_pixels))
            self.pending_pixels += pixels

    def release(self, pixels: int) -> None:
        """Count pixels no more."""
        with self._changed:
            self.pending_pixels -= pixels

    def _has_room(self, line: Line, heavy: bool) -> bool:
        if line.running == self._most:
            return False
        return self._running < self._most or (self._running == self._most and self._held_up and not heavy)

    @property
    def _held_up(self) -> bool:
        return self._heavy == self._most or self._held_by_one

    def _work(self) -> None:
        try:
            self._run()
        finally:
            with self._changed:
                self.alive -= 1

    def _run(self) -> None:
        while found := self._take():
            line, task, heavy = found
            try:
                task()
            except BaseException as error:  # the thread must go on, whatever it was
                logger.critical("a task of the decoding threads failed", exc_info=error)
            with self._changed:
                if line.running == self._most:
                    self._held_by_one = False
                line.running -= 1
                self._running -= 1
                self._heavy -= heavy
            del found, line, task  # a thread that waits keeps no request's images

    def _take(self) -> tuple[Line, Task, bool] | None:
        """Wait for a task that may begin; None when the pool is closed and nothing waits."""
        with self._changed:
            while (line := self._next()) is None:
                if self._closing and not self._lines:
                    self._changed.notify_all()
                    return None
                self._changed.wait()
            self._lines.remove(line)
            task, heavy = line.tasks.popleft()
            if line.tasks:
                self._lines.append(line)  # others have their turn before its next task
            line.running += 1
            self.waiting -= 1
            self._running += 1
            self._heavy += heavy
            if line.running == self._most:
                self._held_by_one = True
            if self._lines and self._held_up:
                self._changed.notify()  # from now on a light one may begin beside them
            return line, task, heavy

    def _next(self) -> Line | None:
        return next((line for line in self._lines if self._has_room(line, line.tasks[0][1])), None)
