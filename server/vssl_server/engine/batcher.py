"""Requests of any size in, batches for the engine out. No HTTP here.

The engine's thread pulls: as soon as it is free it takes everything that waits, up to one batch. A lone request does
not wait for others, unless `max_wait` says so. Under load batches fill by themselves. A request larger than a batch is
spread over several, and other requests have their turn in between. Its result is put together in its own order.

Where each core computes a few images for itself, there is a thread for each, and they share what waits. No core waits
for the end of another's batch then. A GPU has two: one's batch is on its way while the other's is computed.
"""

import logging
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from functools import partial
from itertools import chain

import numpy as np

from vssl.arrays import Pixels
from vssl.engine import Embeddings
from vssl_server.engine import health
from vssl_server.engine.health import Health, checked
from vssl_server.engine.jobs import BatchResult, EngineStoppedError, InferenceError, Job, Part, Pulling
from vssl_server.wire.capacity import Places

Infer = Callable[[Pixels], Embeddings]

FAILS = "the engine fails; it is tried again from time to time"

logger = logging.getLogger("vssl.server")


class Batcher:
    """Owns the engine: its threads call `infer`, any thread may `submit`.

    A request that is submitted `behind` waits while any other is there, and such requests never hold more than a part
    of the places: who fills a gallery does not keep those waiting who search it.

    Args:
        infer: uint8 [N, S, S, 3] → the embeddings of N images.
        max_batch: images in one call of `infer`.
        capacity: images that may hold a place at once (see `admit`).
        warm_up: called once in the engine's thread before the first batch.
        pulling: asked once, when the engine is warm; without it one thread takes whole batches.
        observe: called after each batch with its images and its seconds.
        max_wait: seconds that a free engine waits for a batch to fill, once there is work; 0: it never waits. Where it
            waits, one thread takes whole batches.
        stall_seconds: a call of `infer` that takes longer counts as hung: not `ready` until it returns.
        probe: images that every engine can embed. After a few failed calls the engine must embed them; while it fails
            on them, it is not `ready` and all requests fail. Without a probe only the requests are ever at fault.
    """

    def __init__(
        self,
        infer: Infer,
        max_batch: int,
        capacity: int,
        *,
        warm_up: Callable[[], object] = lambda: None,
        pulling: Callable[[], Pulling] | None = None,
        observe: Callable[[int, float], None] = lambda images, seconds: None,
        stall_seconds: float = math.inf,
        max_wait: float = 0.0,
        probe: Pixels | None = None,
    ) -> None:
        self._infer, self._max_batch, self._max_wait = infer, max_batch, max_wait
        self._warm_up, self._observe, self._probe = warm_up, observe, probe
        self._asked, self._pulling = None if max_wait else pulling, Pulling(1, max_batch)
        self.health = Health(stall_seconds)
        self._jobs: deque[Job] = deque()
        self._jobs_behind: deque[Job] = deque()
        self._changed = threading.Condition()
        self._places = Places(capacity, max_batch)
        self._batches: dict[int, list[Part]] = {}  # what each thread has in the engine
        self._recovering = threading.Lock()
        self._closing = self._stopped = False
        self.warm: Future[None] = Future()
        """Done when the engine is warm, or holds an EngineStoppedError that says why it never will be."""
        self.warm.set_running_or_notify_cancel()  # nobody who waits for it may cancel it for the others
        self._thread: threading.Thread | None = None

    @property
    def ready(self) -> bool:
        """Whether the engine is warm, its threads alive, and it neither fails nor hangs."""
        alive = self.warm.done() and not self._stopped and not self._closing
        return alive and not self.health.failed and not self.health.hangs

    @property
    def in_flight(self) -> int:
        """Images that hold a place now."""
        return self._places.in_flight

    def start(self) -> None:
        """Start the engine's thread."""
        # A daemon: an engine that hangs must not keep a process alive that was interrupted twice.
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def close(self, timeout: float | None = None) -> None:
        """Answer what waits, then end the thread; wait `timeout` seconds at most for that."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)

    def admit(self, images: int, behind: bool = False) -> AbstractContextManager[None]:
        """Hold a place for each image of a request until it is answered; OverloadedError if too few are free."""
        return self._places.admit(images, behind)

    def submit(
        self,
        images: Sequence[Pixels],
        future: "Future[BatchResult] | None" = None,
        waited: float = 0.0,
        behind: bool = False,
    ) -> "Future[BatchResult]":
        """Queue at least one image [S, S, 3]. Cancelling the future drops what has not been computed yet.

        The caller may bring a future that somebody awaits already, and the seconds that the request has `waited`
        before.

        The future's errors are InferenceError and EngineStoppedError.

        Raises:
            EngineStoppedError: at once, if the engine has ended or fails.
        """
        if not images:
            raise ValueError("a request needs at least one image")
        job = Job(images, time.monotonic() - waited, future or Future())
        with self._changed:
            if self._closing or self._stopped:
                raise EngineStoppedError("the engine has stopped")
            if self.health.failed:
                raise EngineStoppedError(FAILS)
            (self._jobs_behind if behind else self._jobs).append(job)
            self._changed.notify()
        # Weak references: the future keeps its callbacks, and would keep the job's pixels and the engine in a cycle.
        job.future.add_done_callback(partial(_forget, weakref.ref(self), weakref.ref(job)))
        return job.future

    def _run(self) -> None:
        others: list[threading.Thread] = []
        try:
            self._warm_up()
            if self._asked is not None:
                self._pulling = self._asked()
            for _ in range(1, self._pulling.threads):
                others.append(threading.Thread(target=self._pull, name="engine", daemon=True))
                others[-1].start()
        except BaseException as error:
            self._stop()
            # Without the error itself: its traceback would keep the engine in memory.
            self.warm.set_exception(EngineStoppedError(f"the engine could not be warmed up: {error}"))
            return
        self.warm.set_result(None)
        self._pull()
        for thread in others:
            thread.join()
        self._stop()

    def _pull(self) -> None:
        """What each thread does until the batcher closes. One that ends with an error ends them all."""
        try:
            while batch := self._take():
                self._compute(batch)
                del batch  # a thread that waits keeps no request's images
                if self.health.suspect and self._probe is not None:
                    self._recover(self._probe)
        except BaseException as error:
            logger.critical("the engine's thread has ended", exc_info=error)
            self._stop()

    def _recover(self, probe: Pixels) -> None:
        """Try the probe until the engine embeds it or the batcher closes. All requests fail meanwhile."""
        with self._recovering:  # one thread tries
            while self.health.suspect:
                try:
                    with self.health.call():
                        checked(self._infer(probe), len(probe))
                except Exception as error:
                    if not self.health.failed:
                        logger.error("the engine fails, on a blank image too", exc_info=error)
                    self.health.condemn()
                    self._lose(FAILS)
                else:
                    logger.warning("the engine answers a blank image")
                    return
                with self._changed:
                    if self._changed.wait_for(lambda: self._closing or self._stopped, health.PROBE_SECONDS):
                        return

    def _stop(self) -> None:
        if not self._closing:
            self.health.condemn()
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._lose("the engine has stopped")

    def _lose(self, why: str) -> None:
        """Fail all requests that wait or are in the engine."""
        with self._changed:
            computing = (part.job for batch in self._batches.values() for part in batch)
            lost = {*self._jobs, *self._jobs_behind, *computing}
            self._jobs.clear()
            self._jobs_behind.clear()
        for job in lost:
            job.fail(EngineStoppedError(why))

    def _take(self) -> list[Part]:
        """Wait for work, then take this thread's share of it, in turn. Nothing when it is time to end."""
        with self._changed:
            batch, waited = list[Part](), False
            self._batches[threading.get_ident()] = batch
            while not (self._queue and waited) and not self._closing and not self._stopped:
                self._changed.wait_for(lambda: self._queue or self._closing or self._stopped)
                if self._max_wait:
                    self._changed.wait_for(lambda: self._closing or self._is_full(), self._max_wait)
                waited = True  # meanwhile the work may have been cancelled
            room, threads = self._pulling.images, self._pulling.threads
            if self._pulling.shared:
                room = -(-self._waiting(threads * room) // threads)
            while (queue := self._queue) and room and not self._stopped:
                job = queue.popleft()
                batch.append(job.take(room))
                room -= len(batch[-1].images)
                if job.taken < len(job.images):
                    queue.append(job)  # others have their turn before its next batch
            if self._queue:
                self._changed.notify()  # another thread may take the rest
            return batch

    @property
    def _queue(self) -> deque[Job]:
        """From which the next job is taken; empty where there is none. The lock is held."""
        return self._jobs or self._jobs_behind

    def _is_full(self) -> bool:
        """Whether a whole batch waits; the lock is held."""
        return self._waiting(self._max_batch) == self._max_batch

    def _waiting(self, most: int) -> int:
        """Images of all jobs that have not been taken, counted up to so many; the lock is held."""
        count = 0
        for job in chain(self._jobs, self._jobs_behind):
            count += len(job.images) - job.taken
            if count >= most:
                return most
        return count

    def _compute(self, batch: list[Part]) -> None:
        """Compute a batch. If it fails, each of its requests gets another try alone, and only the culprit fails."""
        started = time.monotonic()
        try:
            images = np.stack([image for part in batch for image in part.images])
            with self.health.call():
                embeddings = checked(self._infer(images), len(images))
        except Exception as error:
            if len(batch) > 1:
                for part in batch:
                    self._compute([part])
            else:
                logger.error("the model failed on a request of %d images", len(batch[0].images), exc_info=error)
                batch[0].job.fail(InferenceError(f"the model failed on this request: {error}"))
            return
        ended, start = time.monotonic(), 0
        self._observe(len(images), ended - started)
        for part in batch:
            stop = start + len(part.images)
            part.job.add(part, embeddings[start:stop], started, ended)
            start = stop


def _forget(batcher: "weakref.ref[Batcher]", job: "weakref.ref[Job]", _: "Future[BatchResult]") -> None:
    """Drop what has not been taken of a job that is cancelled or failed, and its pixels."""
    owner, waiting = batcher(), job()
    if owner is not None and waiting is not None and waiting.taken < len(waiting.images):
        with owner._changed:
            for queue in (owner._jobs, owner._jobs_behind):
                with suppress(ValueError):
                    queue.remove(waiting)
