"""A request's way from images to embeddings: admitted, decoded, submitted to the batcher, counted.

Each request has one future. It is made, awaited and cancelled here. Whoever comes to the request's end settles it: a
decoding thread with an error, or the engine's thread with the embeddings. So no thread waits for another, and the event
loop hears of a request twice: when it comes, and when it is answered.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from vssl.arrays import Pixels
from vssl.engine import Embeddings
from vssl_server.decoding.futures import succeed
from vssl_server.decoding.request import Decoder, Decoding, Refusal
from vssl_server.engine.batching import Batching
from vssl_server.engine.jobs import BatchResult, EngineStoppedError
from vssl_server.engine.statistics import Statistics
from vssl_server.observed.metrics import ModelMetrics
from vssl_server.observed.tracing import stages
from vssl_server.wire.images import Encoded


@dataclass(frozen=True)
class EmbedResult:
    """What came of a request: `embeddings` holds the good images' rows in order, `refused` maps the indices of the
    others to their reasons. The times are those of `BatchResult`.
    """

    embeddings: Embeddings
    refused: Mapping[int, Refusal]
    queue_seconds: float
    inference_seconds: float


class Pipeline:
    """Of one model. It knows its parts and nothing of the model: a cycle would keep an unloaded engine in memory.

    Args:
        name: of the model.
        decoder: encoded images → pixels.
        batcher: pixels → embeddings.
        no_images: the embeddings of no image.
        statistics: counts the requests.
        metrics: of the model.
    """

    def __init__(
        self,
        name: str,
        decoder: Decoder,
        batcher: Batching,
        no_images: Embeddings,
        statistics: Statistics,
        metrics: ModelMetrics,
    ) -> None:
        self.name, self.decoder, self.batcher = name, decoder, batcher
        self.nothing = BatchResult(no_images, 0.0, 0.0)
        self._statistics, self._metrics = statistics, metrics

    @property
    def ready(self) -> bool:
        """Whether it can answer: there are threads that decode, and the engine is warm and neither fails nor hangs."""
        return self.batcher.ready and self.decoder.pool.alive > 0

    async def embed(self, images: Sequence[Encoded], all_or_none: bool, behind: bool = False) -> EmbedResult:
        """Decode and embed at least one image. Cancelling drops whatever has not been computed yet.

        Args:
            images: at least one.
            all_or_none: embed none if one is refused.
            behind: let all other requests go before it.

        Raises:
            BadImagesError: an image was refused and `all_or_none` is true.
            TooManyPixelsError: the images have too many pixels in all.
            OverloadedError: the queue has no place for so many images, or too many pixels are pending.
            InferenceError: the model failed on these images.
            EngineStoppedError: the engine has ended, fails or hangs.
        """
        started = time.monotonic()
        with self._admitted(len(images), started, behind):
            future: Future[BatchResult] = Future()
            submit = self._submit_behind if behind else self._submit
            decoding = Decoding(self.decoder, images, future, submit, all_or_none)
            await asyncio.sleep(0)  # read first what came with this request: the same work in one go is faster
            decoding.start()
            try:
                batch = await asyncio.wrap_future(future)
            finally:
                refused, seconds = decoding.refused, decoding.seconds
                for refusal in refused.values():
                    self._metrics.refused(refusal.type)
                del future, decoding  # they hold the error, which knows of this call: a cycle would keep the images
            self._metrics.decode_seconds.observe(seconds)
            return self._counted(batch, refused, started, decode=seconds)

    async def embed_pixels(self, pixels: Pixels) -> EmbedResult:
        """Embed at least one image that is uint8 [S, S, 3] already. Errors as `embed`, without BadImagesError."""
        started = time.monotonic()
        with self._admitted(len(pixels), started):
            batch = await asyncio.wrap_future(self.batcher.submit(list(pixels)))
            return self._counted(batch, {}, started)

    def _submit(self, images: Sequence[Pixels], future: "Future[BatchResult]", waited: float) -> None:
        """What a decoded request does next, in whatever thread that is."""
        if images:
            self.batcher.submit(images, future, waited)
        else:
            succeed(future, self.nothing)

    def _submit_behind(self, images: Sequence[Pixels], future: "Future[BatchResult]", waited: float) -> None:
        if images:
            self.batcher.submit(images, future, waited, behind=True)
        else:
            succeed(future, self.nothing)

    @contextmanager
    def _admitted(self, images: int, started: float, behind: bool = False) -> Iterator[None]:
        """Hold places for a request that came at `started`, and count it as failed where it does not end well."""
        if not self.ready:
            raise EngineStoppedError(f"{self.name} can't answer now")
        try:
            with self.batcher.admit(images, behind):
                yield
        except BaseException:  # a cancellation too
            self._statistics.fail.add(time.monotonic() - started)
            raise

    def _counted(
        self, batch: BatchResult, refused: Mapping[int, Refusal], started: float, **seconds: float
    ) -> EmbedResult:
        images = len(batch.embeddings)
        self._metrics.embedded.inc(images)
        self._metrics.queue_seconds.observe(batch.queue_seconds)
        for uncertainty in batch.embeddings.uncertainty.tolist():
            self._metrics.uncertainty.observe(uncertainty)
        self._statistics.succeeded(images, time.monotonic() - started, batch)
        stages(started, **seconds, queue=batch.queue_seconds, inference=batch.inference_seconds)
        return EmbedResult(batch.embeddings, refused, batch.queue_seconds, batch.inference_seconds)
