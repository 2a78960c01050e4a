"""One served model: encoded images in, embeddings and refusals out."""

import asyncio
import os
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from vssl.arrays import Pixels
from vssl.bundle.manifest import Manifest
from vssl.engine import Embeddings, concatenate
from vssl.images.decoding import Limits
from vssl_server.decoding.futures import settle
from vssl_server.decoding.pool import Pool
from vssl_server.decoding.request import BadImagesError, Decoding, Refusal
from vssl_server.engine.batcher import Answer, Batcher, EngineStoppedError, Infer
from vssl_server.engine.cache import Cache, keys_of
from vssl_server.engine.opening import ServedEngine
from vssl_server.engine.statistics import Statistics
from vssl_server.observed import metrics
from vssl_server.observed.tracing import stages
from vssl_server.settings import Settings
from vssl_server.wire.images import Encoded

MUCH = 256 * 1024
"""Bytes of images whose hashes take long enough to be made in a thread."""


@dataclass(frozen=True)
class Result:
    """`answer` holds the good images' rows in order; `refused` maps the other images' indices to their reason."""

    answer: Answer
    refused: Mapping[int, Refusal]


class Model:
    """A bundle's manifest, its engine behind a batcher, and a share of the decode pool.

    Args:
        manifest: of the bundle that `infer` runs.
        infer: uint8 [N, S, S, 3] → Embeddings; the engine.
        settings: limits, batch and queue size.
        pool: where images are decoded; several models may share it.
    """

    def __init__(self, manifest: Manifest, infer: Infer, settings: Settings, pool: Pool) -> None:
        self.manifest, self._pool = manifest, pool
        self._labels = (manifest.name, manifest.version)
        self.why = infer.why if isinstance(infer, ServedEngine) else ""
        """What was decided about the engine's threads, where anything was."""
        self._engine = (infer.provider, infer.precision, infer.threads) if isinstance(infer, ServedEngine) else None
        self._limits = Limits(settings.max_body_bytes, settings.max_pixels)
        self._max_pixels = settings.max_request_pixels
        self.statistics = Statistics()
        self.metrics = metrics.ModelMetrics(manifest.name)
        size = manifest.preprocessing.size
        # What the engine's thread calls knows nothing of this model: a cycle would keep an unloaded engine in memory.
        self.batcher = Batcher(
            infer,
            settings.batch_size,
            settings.queue_images,
            warm_up=partial(_warm_up, infer, size, settings.batch_size),
            observe=partial(_observe, self.statistics, self.metrics),
            stall_seconds=2 * settings.deadline_seconds,
            max_wait=settings.max_wait_seconds,
            probe=_blank(1, size),
        )
        self._cache = Cache(settings.cache_bytes) if settings.cache_bytes else None
        self._none = Answer(infer(_blank(0, size)), 0.0, 0.0)

    def show(self) -> None:
        """Let the gauges of its name and version tell of this model, as long as it is there."""
        me = weakref.ref(self)
        metrics.QUEUE_IMAGES.labels(*self._labels).set_function(lambda: model.held if (model := me()) else 0)
        metrics.READY.labels(*self._labels).set_function(lambda: model.ready if (model := me()) else 0)
        if self._engine is not None:
            provider, precision, threads = self._engine
            metrics.MODEL.labels(*self._labels, provider, precision).set(1)
            for batch, count in threads.items():
                metrics.ENGINE_THREADS.labels(*self._labels, batch).set(count)

    def publish(self) -> None:
        """Write down what the gauges tell, for other processes can't ask."""
        metrics.QUEUE_IMAGES.labels(*self._labels).set(self.held)
        metrics.READY.labels(*self._labels).set(self.ready)
        self._pool.publish()

    def hide(self) -> None:
        """Remove the gauges of its name and version; a worker's end with it."""
        if metrics.FOLDER in os.environ:
            return
        for gauge in (metrics.QUEUE_IMAGES, metrics.READY):
            gauge.remove(*self._labels)
        if self._engine is not None:
            provider, precision, threads = self._engine
            metrics.MODEL.remove(*self._labels, provider, precision)
            for batch in threads:
                metrics.ENGINE_THREADS.remove(*self._labels, batch)

    @property
    def held(self) -> int:
        """Images that are decoding, waiting or in the engine now."""
        return self.batcher.held

    @property
    def ready(self) -> bool:
        """Whether it can answer: there are threads that decode, and the engine is warm and neither fails nor hangs."""
        return self.batcher.ready and self._pool.alive > 0

    def _check(self) -> None:
        if not self.ready:
            raise EngineStoppedError(f"{self.manifest.name} can't answer now")

    async def embed(self, images: Sequence[Encoded], partial: bool) -> Result:
        """Decode and embed. Cancelling drops whatever has not been computed yet.

        Args:
            images: at least one.
            partial: embed the good ones even if others are refused.

        Raises:
            BadImagesError: an image was refused and `partial` is false.
            TooManyPixelsError: the images have too many pixels in all.
            OverloadedError: the queue has no place for so many images, or too many pixels are pending.
            InferenceError: the model failed on these images.
            EngineStoppedError: the engine has ended, fails or hangs.
        """
        if self._cache is None:
            return await self._embed(images, partial)
        much = sum(map(len, images)) > MUCH
        keys = await asyncio.to_thread(keys_of, images) if much else keys_of(images)
        rows = [self._cache.get(key) for key in keys]
        unknown = [index for index, row in enumerate(rows) if row is None]
        self._count_known([row for row in rows if row is not None])
        result = Result(self._none, {})
        if unknown:
            try:
                result = await self._embed([images[index] for index in unknown], partial)
            except BadImagesError as error:
                raise BadImagesError(_placed(error.refused, unknown), len(images)) from None
        refused = _placed(result.refused, unknown)
        for row, index in enumerate(index for index in unknown if index not in refused):
            rows[index] = found = result.answer.embeddings[row : row + 1]
            self._cache.put(keys[index], found)
        embeddings = concatenate([self._none.embeddings, *(row for row in rows if row is not None)])
        return Result(replace(result.answer, embeddings=embeddings), refused)

    async def _embed(self, images: Sequence[Encoded], partial: bool) -> Result:
        self._check()
        started = time.monotonic()
        with self._failures(started), self.batcher.places(len(images)):
            work = Decoding(
                images,
                self.manifest.preprocessing,
                self._limits,
                self._max_pixels,
                self._pool,
                self._queue,
                all_or_none=not partial,
            )
            await asyncio.sleep(0)  # what came with this request is read first: the same work on end is faster
            work.start()
            try:
                answer = await asyncio.wrap_future(work.answer)
            finally:
                for refusal in work.refused.values():
                    metrics.IMAGES.labels(self.manifest.name, refusal.type).inc()
            self.metrics.decode_seconds.observe(work.seconds)
            self._count(answer, started)
            stages(started, decode=work.seconds, queue=answer.queue_seconds, inference=answer.inference_seconds)
            return Result(answer, work.refused)

    async def embed_pixels(self, pixels: Pixels) -> Result:
        """Embed at least one image that is uint8 [S, S, 3] already. Errors as `embed`, without BadImagesError."""
        self._check()
        started = time.monotonic()
        with self._failures(started), self.batcher.places(len(pixels)):
            answer = await asyncio.wrap_future(self.batcher.submit(list(pixels)))
            self._count(answer, started)
            stages(started, queue=answer.queue_seconds, inference=answer.inference_seconds)
            return Result(answer, {})

    def _queue(self, images: Sequence[Pixels], future: "Future[Answer]", waited: float) -> None:
        if images:
            self.batcher.submit(images, future, waited)
        elif settle(future):
            future.set_result(self._none)

    def _count(self, answer: Answer, started: float) -> None:
        images = len(answer.embeddings)
        self.metrics.embedded.inc(images)
        self.metrics.queue_seconds.observe(answer.queue_seconds)
        for uncertainty in answer.embeddings.uncertainty.tolist():
            self.metrics.uncertainty.observe(uncertainty)
        self.statistics.succeeded(images, time.monotonic() - started, answer)

    def _count_known(self, rows: Sequence[Embeddings]) -> None:
        self.metrics.cached.inc(len(rows))
        for row in rows:
            self.metrics.uncertainty.observe(float(row.uncertainty[0]))

    @contextmanager
    def _failures(self, started: float) -> Iterator[None]:
        try:
            yield
        except BaseException:  # a cancellation too
            self.statistics.fail.add(time.monotonic() - started)
            raise


def _warm_up(infer: Infer, size: int, batch_size: int) -> None:
    # On a GPU each power of two is a size of its own (`vssl.engine.bucket`).
    powers = [2**power for power in range(batch_size.bit_length())]
    for images in sorted({*powers, batch_size}):
        infer(_blank(images, size))


def _blank(images: int, size: int) -> Pixels:
    return np.zeros((images, size, size, 3), np.uint8)


def _observe(statistics: Statistics, series: metrics.ModelMetrics, images: int, seconds: float) -> None:
    statistics.execution_count += 1
    series.batch_images.observe(images)
    series.inference_seconds.observe(seconds)


def _placed(refused: Mapping[int, Refusal], places: Sequence[int]) -> dict[int, Refusal]:
    return {places[index]: refusal for index, refusal in refused.items()}
