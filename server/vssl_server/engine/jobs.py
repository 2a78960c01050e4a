"""What waits for the engine: each request's images, what becomes of them, and how they can fail."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from vssl.arrays import Pixels
from vssl.engine import Embeddings, concatenate
from vssl_server.decoding.futures import fail, settle


class InferenceError(Exception):
    """The model failed on this request; others are not touched."""


class EngineStoppedError(Exception):
    """The engine answers nothing: it has ended, fails, or hangs."""


@dataclass(frozen=True)
class BatchResult:
    """A request's embeddings in its own order, the seconds until its first image was taken from the queue, and the
    seconds that some of it was in the engine.
    """

    embeddings: Embeddings
    queue_seconds: float
    inference_seconds: float


@dataclass(eq=False)
class Job:
    """One request in the queue. Its `future` gets the BatchResult when all of its images are computed."""

    images: Sequence[Pixels]
    submitted: float
    future: "Future[BatchResult]"
    taken: int = 0
    """Images that are in a batch, or were."""
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0
    parts: dict[int, Embeddings] = field(default_factory=dict)
    """What is computed, by the place of its first image."""
    ended: float = 0.0
    """When the last of these was computed."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, most: int) -> "Part":
        """The next images, `most` at most, for a batch."""
        if self.taken == 0:
            self.queue_seconds = time.monotonic() - self.submitted
        part = Part(self, self.taken, self.images[self.taken : self.taken + most])
        self.taken += len(part.images)
        return part

    def add(self, part: "Part", embeddings: Embeddings, started: float, ended: float) -> None:
        """Add what a batch from one moment to another computed for a part; the last part settles the future."""
        with self.lock:  # another thread may come with another part
            self.inference_seconds += max(0.0, ended - max(started, self.ended))
            self.parts[part.first], self.ended = embeddings, max(ended, self.ended)
            complete = sum(map(len, self.parts.values())) == len(self.images)
        if complete and settle(self.future):
            parts = [self.parts[first] for first in sorted(self.parts)]
            embeddings = parts[0] if len(parts) == 1 else concatenate(parts)
            self.future.set_result(BatchResult(embeddings, self.queue_seconds, self.inference_seconds))

    def fail(self, error: Exception) -> None:
        """Fail the whole request."""
        fail(self.future, error)


@dataclass(frozen=True)
class Part:
    """The images that one batch takes of a job, and the place of the first."""

    job: Job
    first: int
    images: Sequence[Pixels]


@dataclass(frozen=True)
class Pulling:
    """How images are taken from the queue: by so many threads, each so many at once at most. They share what waits, or
    each takes all that it may.
    """

    threads: int
    images: int
    shared: bool = True
