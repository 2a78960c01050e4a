"""One served model: encoded images in, embeddings and refusals out."""

import asyncio
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from vssl.arrays import Pixels
from vssl.bundle.manifest import Manifest
from vssl.engine import Embeddings, concatenate
from vssl.images.decoding import Limits
from vssl.uncertainty.familiarity import References
from vssl_server.decoding.pool import Pool
from vssl_server.decoding.request import BadImagesError, Decoder, Refusal
from vssl_server.engine.batcher import Batcher, Infer
from vssl_server.engine.batching import Batching
from vssl_server.engine.cache import Cache, keys_of
from vssl_server.engine.opening import LoadedLater, ServedEngine
from vssl_server.engine.pipeline import EmbedResult, Pipeline
from vssl_server.engine.remote.batcher import RemoteBatcher
from vssl_server.engine.statistics import Statistics
from vssl_server.observed import metrics
from vssl_server.observed.request_log import note
from vssl_server.settings import Settings
from vssl_server.wire.images import Encoded

HASH_IN_THREAD_BYTES = 256 * 1024
"""Hashing so many bytes of images takes long enough for a thread."""


class Model:
    """A bundle's manifest, its engine behind a batcher, and a share of the decode pool.

    Args:
        manifest: of the bundle that `infer` runs.
        infer: uint8 [N, S, S, 3] → Embeddings; the engine, what loads it, or what hands images to another process's.
        settings: limits, batch and queue size.
        pool: where images are decoded; several models may share it.
        references: of the bundle, where it keeps some.
    """

    def __init__(
        self,
        manifest: Manifest,
        infer: Infer | RemoteBatcher,
        settings: Settings,
        pool: Pool,
        references: References | None = None,
    ) -> None:
        self.manifest, self.references, self._pool = manifest, references, pool
        self._labels = (manifest.name, manifest.version)
        self._loaded = infer if isinstance(infer, LoadedLater) else None
        self.statistics = Statistics()
        self.metrics = metrics.ModelMetrics(manifest.name)
        size = manifest.preprocessing.size
        self.batcher: Batching
        if isinstance(infer, RemoteBatcher):
            self.batcher = infer
        else:
            self.batcher = new_batcher(infer, size, settings, self.statistics, self.metrics)
        limits = Limits(settings.max_body_bytes, settings.max_pixels)
        decoder = Decoder(manifest.preprocessing, limits, settings.max_request_pixels, pool)
        nothing = no_rows(manifest.outputs.dimension)
        self._pipeline = Pipeline(manifest.name, decoder, self.batcher, nothing, self.statistics, self.metrics)
        self._cache = Cache(settings.cache_bytes) if settings.cache_bytes else None

    @property
    def name(self) -> str:
        """Of the bundle."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """Of the bundle."""
        return self.manifest.version

    @property
    def _engine(self) -> ServedEngine | None:
        """None until it is loaded, or where it is in another process."""
        return None if self._loaded is None else self._loaded.engine

    @property
    def why(self) -> str:
        """How the engine's threads were chosen, as a sentence; empty where nothing was."""
        return "" if self._engine is None else self._engine.why

    @property
    def precision(self) -> str | None:
        """Of the engine's model; None until it is loaded, or where it is in another process."""
        return None if self._engine is None else self._engine.precision

    def show(self) -> None:
        """Let the gauges of its name and version show this model, as long as it exists; what runs it, once that is
        loaded.
        """
        me = weakref.ref(self)
        metrics.QUEUE_IMAGES.labels(*self._labels).set_function(lambda: model.in_flight if (model := me()) else 0)
        metrics.READY.labels(*self._labels).set_function(lambda: model.ready if (model := me()) else 0)
        self.batcher.warm.add_done_callback(lambda _: model._show_engine() if (model := me()) else None)

    def _show_engine(self) -> None:
        if self._engine is not None:
            show_engine(self._engine, *self._labels)

    def publish(self) -> None:
        """Store the gauges' values: other worker processes can't ask this one."""
        metrics.QUEUE_IMAGES.labels(*self._labels).set(self.in_flight)
        metrics.READY.labels(*self._labels).set(self.ready)
        self._pool.publish()

    def hide(self) -> None:
        """Remove the gauges of its name and version; a worker's end with it."""
        if metrics.FOLDER in os.environ:
            return
        for gauge in (metrics.QUEUE_IMAGES, metrics.READY):
            gauge.remove(*self._labels)
        if self._engine is not None:
            metrics.MODEL.remove(*self._labels, self._engine.provider, self._engine.precision)
            for batch in self._engine.threads:
                metrics.ENGINE_THREADS.remove(*self._labels, batch)

    @property
    def in_flight(self) -> int:
        """Images that are decoding, waiting or in the engine now."""
        return self.batcher.in_flight

    @property
    def ready(self) -> bool:
        """Whether it can answer: there are threads that decode, and the engine is warm and neither fails nor hangs."""
        return self._pipeline.ready

    async def embed(self, images: Sequence[Encoded], partial: bool, behind: bool = False) -> EmbedResult:
        """Decode and embed. Cancelling drops whatever has not been computed yet.

        Args:
            images: at least one.
            partial: embed the good ones even if others are refused.
            behind: let all other requests go before it.

        Raises:
            BadImagesError, TooManyPixelsError, OverloadedError, InferenceError, EngineStoppedError: as the pipeline.
        """
        if self._cache is None:
            result = await self._pipeline.embed(images, not partial, behind)
        else:
            result = await self._embed_unknown(self._cache, images, partial, behind)
        return _noted(result)

    async def embed_pixels(self, pixels: Pixels) -> EmbedResult:
        """Embed at least one image that is uint8 [S, S, 3] already. Errors as `embed`, without BadImagesError."""
        return _noted(await self._pipeline.embed_pixels(pixels))

    async def _embed_unknown(self, cache: Cache, images: Sequence[Encoded], partial: bool, behind: bool) -> EmbedResult:
        """Embed the images that the cache does not know, and take the rows of the others from there."""
        large = sum(map(len, images)) > HASH_IN_THREAD_BYTES
        keys = await asyncio.to_thread(keys_of, images) if large else keys_of(images)
        rows = [cache.get(key) for key in keys]
        unknown = [index for index, row in enumerate(rows) if row is None]
        self._count_cached([row for row in rows if row is not None])
        nothing = self._pipeline.nothing.embeddings
        result = EmbedResult(nothing, {}, 0.0, 0.0)
        if unknown:
            try:
                result = await self._pipeline.embed([images[index] for index in unknown], not partial, behind)
            except BadImagesError as error:
                raise BadImagesError(_placed(error.refused, unknown), len(images)) from None
        refused = _placed(result.refused, unknown)
        for row, index in enumerate(index for index in unknown if index not in refused):
            rows[index] = computed = result.embeddings[row : row + 1]
            cache.put(keys[index], computed)
        embeddings = concatenate([nothing, *(row for row in rows if row is not None)])
        return replace(result, embeddings=embeddings, refused=refused)

    def _count_cached(self, rows: Sequence[Embeddings]) -> None:
        self.metrics.cached.inc(len(rows))
        for row in rows:
            self.metrics.uncertainty.observe(float(row.uncertainty[0]))


def new_batcher(
    infer: Infer, size: int, settings: Settings, statistics: Statistics, series: metrics.ModelMetrics
) -> Batcher:
    """The batcher of an engine for images of `size` × `size` pixels, which counts its calls."""
    # What the engine's thread calls knows nothing of a model: a cycle would keep an unloaded engine in memory.
    return Batcher(
        infer,
        settings.batch_size,
        settings.queue_images,
        warm_up=partial(_warm_up, infer, size, settings.batch_size),
        pulling=infer.share if isinstance(infer, LoadedLater) else None,
        observe=partial(_observe, statistics, series),
        stall_seconds=2 * settings.deadline_seconds,
        max_wait=settings.max_wait_seconds,
        probe=_blank(1, size),
    )


def show_engine(engine: ServedEngine, name: str, version: str) -> None:
    """Let the metrics say what runs a model."""
    metrics.MODEL.labels(name, version, engine.provider, engine.precision).set(1)
    for batch, count in engine.threads.items():
        metrics.ENGINE_THREADS.labels(name, version, batch).set(count)


def _noted(result: EmbedResult) -> EmbedResult:
    """The result, of which the log of requests now knows."""
    note(len(result.embeddings) + len(result.refused), result.queue_seconds, result.inference_seconds)
    return result


def _warm_up(infer: Infer, size: int, batch_size: int) -> None:
    # On a GPU each power of two is a batch size of its own (`vssl.engine.bucket`).
    powers = [2**power for power in range(batch_size.bit_length())]
    for images in sorted({*powers, batch_size}):
        infer(_blank(images, size))


def no_rows(dimension: int) -> Embeddings:
    """The embeddings of no image."""
    none = np.zeros((0, dimension), np.float32)
    return Embeddings(none, none, np.zeros(0, np.float32))


def _blank(images: int, size: int) -> Pixels:
    return np.zeros((images, size, size, 3), np.uint8)


def _observe(statistics: Statistics, series: metrics.ModelMetrics, images: int, seconds: float) -> None:
    statistics.execution_count += 1
    series.batch_images.observe(images)
    series.inference_seconds.observe(seconds)


def _placed(refused: Mapping[int, Refusal], places: Sequence[int]) -> dict[int, Refusal]:
    return {places[index]: refusal for index, refusal in refused.items()}
