"""What waits for the engine: each request's images, what becomes of them, and how they can fail."""

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
    seconds of the batches that it was part of.
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
    parts: list[Embeddings] = field(default_factory=list)

    def take(self, most: int) -> "Part":
        """The next images, `most` at most, for a batch."""
        if self.taken == 0:
            self.queue_seconds = time.monotonic() - self.submitted
        part = Part(self, self.images[self.taken : self.taken + most])
        self.taken += len(part.images)
        return part

    def add(self, embeddings: Embeddings, seconds: float) -> None:
        """Add what a batch of so many seconds computed for it; the last part settles the future."""
        self.parts.append(embeddings)
        self.inference_seconds += seconds
        if sum(map(len, self.parts)) == len(self.images) and settle(self.future):
            embeddings = self.parts[0] if len(self.parts) == 1 else concatenate(self.parts)
            self.future.set_result(BatchResult(embeddings, self.queue_seconds, self.inference_seconds))

    def fail(self, error: Exception) -> None:
        """Fail the whole request."""
        fail(self.future, error)


@dataclass(frozen=True)
class Part:
    """The images that one batch takes of a job."""

    job: Job
    images: Sequence[Pixels]
