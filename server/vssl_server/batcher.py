"""Requests of any size in, batches for the engine out. No HTTP here.

The engine's thread pulls: as soon as it is free it takes everything that waits, up to one batch. A lone request waits
for no company, unless `max_wait` says so, and under load batches fill up by themselves. A request larger than a batch
is spread over several, between which the requests that wait have their turn; its answer is put together in its own
order.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from vssl.engine import Embeddings, concatenate

Pixels = npt.NDArray[np.uint8]
Infer = Callable[[Pixels], Embeddings]

logger = logging.getLogger("vssl.server")


class OverloadedError(Exception):
    """The queue has no place for so many images."""


class InferenceError(Exception):
    """The model failed on this request; others are not touched."""


class EngineStoppedError(Exception):
    """The engine's thread has ended; nothing will be answered any more."""


@dataclass(frozen=True)
class Answer:
    """A request's embeddings in its own order, the seconds until its first image was taken from the queue, and the
    seconds of the batches that it was part of.
    """

    embeddings: Embeddings
    queue_seconds: float
    inference_seconds: float


def settle(future: "Future[Answer]") -> bool:
    """Whether the result or the error may be set now: nobody has, and it was not cancelled, nor can be from here on."""
    try:
        return not future.done() and future.set_running_or_notify_cancel()
    except InvalidStateError:  # another thread has settled it since the question
        return False


@dataclass(eq=False)
class _Job:
    images: Sequence[Pixels]
    submitted: float
    future: "Future[Answer]"
    taken: int = 0
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0
    parts: list[Embeddings] = field(default_factory=list)

    def take(self, most: int) -> "_Part":
        if self.taken == 0:
            self.queue_seconds = time.monotonic() - self.submitted
        part = _Part(self, self.images[self.taken : self.taken + most])
        self.taken += len(part.images)
        return part

    def add(self, embeddings: Embeddings, seconds: float) -> None:
        self.parts.append(embeddings)
        self.inference_seconds += seconds
        if sum(map(len, self.parts)) == len(self.images) and settle(self.future):
            embeddings = self.parts[0] if len(self.parts) == 1 else concatenate(self.parts)
            self.future.set_result(Answer(embeddings, self.queue_seconds, self.inference_seconds))

    def fail(self, error: Exception) -> None:
        if settle(self.future):
            self.future.set_exception(error)


@dataclass(frozen=True)
class _Part:
    job: _Job
    images: Sequence[Pixels]


class Batcher:
    """Owns the engine: one thread calls `infer`, any thread may `submit`.

    Args:
        infer: uint8 [N, S, S, 3] → the embeddings of N images.
        max_batch: images in one call of `infer`.
        capacity: images that may hold a place at once (see `places`).
        warm_up: called once in the engine's thread before the first batch.
        observe: called after each batch with its images and its seconds.
        max_wait: seconds that a free engine waits for a batch to fill, from when it finds work; 0: it never waits.
        stall_seconds: a call of `infer` that takes longer counts as hung: not `ready` until it returns.
    """

    def __init__(
        self,
        infer: Infer,
        max_batch: int,
        capacity: int,
        warm_up: Callable[[], object] = lambda: None,
        observe: Callable[[int, float], None] = lambda images, seconds: None,
        stall_seconds: float = math.inf,
        max_wait: float = 0.0,
    ) -> None:
        self._infer, self._max_batch, self._capacity, self._max_wait = infer, max_batch, capacity, max_wait
        self._warm_up, self._observe, self._stall_seconds = warm_up, observe, stall_seconds
        self._called: float | None = None
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._places = threading.Lock()
        self._batch: list[_Part] = []
        self._held = 0
        self._closing = self._stopped = False
        self.warm: Future[None] = Future()
        """Done when the engine is warm, or holds an EngineStoppedError that says why it never will be."""
        self.warm.set_running_or_notify_cancel()  # nobody who waits for it may cancel it for the others
        # A daemon: an engine that hangs must not keep a process from ending that was told twice to end.
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether the engine is warm, its thread alive, and the call that it is in not hung."""
        return self.warm.done() and not self._stopped and not self._closing and not self._hangs

    @property
    def _hangs(self) -> bool:
        called = self._called
        return called is not None and time.monotonic() - called > self._stall_seconds

    @property
    def held(self) -> int:
        """Images that hold a place now."""
        return self._held

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread.start()

    def close(self, timeout: float | None = None) -> None:
        """Answer what waits, then end the thread; wait `timeout` seconds at most for that."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)

    @contextmanager
    def places(self, images: int) -> Iterator[None]:
        """Hold a place for each image of a request, from before it is decoded until it is answered.

        Raises:
            OverloadedError: too few places are free.
        """
        with self._places:
            if self._held + images > self._capacity:
                raise OverloadedError(f"{self._held} of {self._capacity} places are taken, the request needs {images}")
            self._held += images
        try:
            yield
        finally:
            with self._places:
                self._held -= images

    def submit(
        self, images: Sequence[Pixels], future: "Future[Answer] | None" = None, waited: float = 0.0
    ) -> "Future[Answer]":
        """Queue at least one image [S, S, 3]. Cancelling the future drops what has not been computed yet.

        The caller may bring the future, so that the images can be decoded for somebody who waits for it already, and
        the seconds that the request has `waited` before.

        The future's errors are InferenceError and EngineStoppedError.

        Raises:
            EngineStoppedError: at once, if the engine has ended.
        """
        if not images:
            raise ValueError("a request needs at least one image")
        job = _Job(images, time.monotonic() - waited, future or Future())
        with self._changed:
            if self._closing or self._stopped:
                raise EngineStoppedError("the engine has stopped")
            self._jobs.append(job)
            self._changed.notify()
        job.future.add_done_callback(partial(self._forget, job))
        return job.future

    def _forget(self, job: _Job, _: "Future[Answer]") -> None:
        # Cancelled or failed with images still waiting: they must not be computed, nor their pixels stay in memory.
        if job.taken < len(job.images):
            with self._changed, suppress(ValueError):
                self._jobs.remove(job)

    def _run(self) -> None:
        try:
            self._warm_up()
        except BaseException as error:
            self._stop()
            failure = EngineStoppedError(f"the engine could not be warmed up: {error}")
            failure.__cause__ = error
            self.warm.set_exception(failure)
            return
        self.warm.set_result(None)
        try:
            while self._take():
                self._compute(self._batch)
        except BaseException as error:
            logger.critical("the engine's thread has ended", exc_info=error)
        finally:
            self._stop()

    def _stop(self) -> None:
        with self._changed:
            self._stopped = True
            lost = {*self._jobs, *(part.job for part in self._batch)}
        for job in lost:
            job.fail(EngineStoppedError("the engine has stopped"))

    def _take(self) -> bool:
        """Wait for work, then take what is there, in turn, up to one batch. False when it is time to end."""
        with self._changed:
            self._batch, waited = [], False
            while not (self._jobs and waited) and not self._closing:
                self._changed.wait_for(lambda: self._jobs or self._closing)
                if self._max_wait:
                    self._changed.wait_for(lambda: self._closing or self._waiting >= self._max_batch, self._max_wait)
                waited = True  # meanwhile the work may have been cancelled
            room = self._max_batch
            while self._jobs and room:
                job = self._jobs[0]
                self._batch.append(job.take(room))
                room -= len(self._batch[-1].images)
                self._jobs.popleft()
                if job.taken < len(job.images):
                    self._jobs.append(job)  # others have their turn before its next batch
            return bool(self._batch)

    @property
    def _waiting(self) -> int:
        """Images of all jobs that have not been taken; the lock is held."""
        return sum(len(job.images) - job.taken for job in self._jobs)

    def _compute(self, batch: list[_Part]) -> None:
        """Answer a batch. If it fails, each of its requests gets another try alone, and only the culprit fails."""
        try:
            embeddings, seconds = self._timed(np.stack([image for part in batch for image in part.images]))
        except Exception as error:
            if len(batch) > 1:
                for part in batch:
                    self._compute([part])
            else:
                logger.error("the model failed on a request of %d images", len(batch[0].images), exc_info=error)
                batch[0].job.fail(InferenceError(f"the model failed on this request: {error}"))
            return
        start = 0
        for part in batch:
            stop = start + len(part.images)
            part.job.add(embeddings[start:stop], seconds)
            start = stop

    def _timed(self, images: Pixels) -> tuple[Embeddings, float]:
        started = self._called = time.monotonic()
        try:
            embeddings = _checked(self._infer(images), len(images))
        finally:
            self._called = None
        seconds = time.monotonic() - started
        self._observe(len(images), seconds)
        return embeddings, seconds


def _checked(embeddings: Embeddings, images: int) -> Embeddings:
    """An answer of another length would give rows to the wrong images; a NaN would reach the client as null."""
    arrays = (embeddings.embedding, embeddings.variance, embeddings.uncertainty)
    if any(len(array) != images for array in arrays):
        raise ValueError(f"the model answered {[len(array) for array in arrays]} rows for {images} images")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("the model's answer holds numbers that are not finite")
    return embeddings
