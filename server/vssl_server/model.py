"""One served model: encoded images in, embeddings and refusals out."""

import asyncio
import base64
import binascii
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from vssl.bundle import Manifest
from vssl.preprocessing import ImageError, Limits, decode
from vssl_server import metrics
from vssl_server.batcher import Answer, Batcher, Infer, Pixels
from vssl_server.settings import Settings
from vssl_server.statistics import Statistics

Encoded = bytes | str
"""An image file's bytes, or the same in base64, with or without a data URI's head."""

DECODE_TOGETHER = 8
"""Images in one task of the decode pool: enough to make the hand-over cheap, few enough that requests take turns."""


@dataclass(frozen=True)
class Refusal:
    """Why one image has no embedding. `type` is a stable word: those of ImageError, and `invalid_base64`."""

    type: str
    message: str


@dataclass(frozen=True)
class Result:
    """`answer` holds the good images' rows in order; `refused` maps the other images' indices to their reason."""

    answer: Answer
    refused: Mapping[int, Refusal]


class BadImagesError(Exception):
    """Some of so many `images` were refused and the caller wants all or nothing."""

    def __init__(self, refused: Mapping[int, Refusal], images: int) -> None:
        super().__init__(f"{len(refused)} of {images} images were refused")
        self.refused, self.images = refused, images


class Model:
    """A bundle's manifest, its engine behind a batcher, and a share of the decode pool.

    Args:
        manifest: of the bundle that `infer` runs.
        infer: uint8 [N, S, S, 3] → Embeddings; the engine.
        settings: limits, batch and queue size.
        pool: where images are decoded; several models may share it.
    """

    def __init__(self, manifest: Manifest, infer: Infer, settings: Settings, pool: Executor) -> None:
        self.manifest, self._infer, self._pool = manifest, infer, pool
        self._limits = Limits(settings.max_body_bytes, settings.max_pixels)
        self._warm_sizes = sorted({1, (settings.batch_size + 1) // 2, settings.batch_size})
        self.batcher = Batcher(
            infer, settings.batch_size, settings.queue_images, warm_up=self._warm_up, observe=self._observe
        )
        self.statistics = Statistics()
        self._none = Answer(infer(self._blank(0)), 0.0, 0.0)
        metrics.QUEUE_IMAGES.labels(manifest.name).set_function(lambda: self.batcher.held)
        metrics.READY.labels(manifest.name).set_function(lambda: self.batcher.ready)

    async def embed(self, images: Sequence[Encoded], partial: bool) -> Result:
        """Decode and embed. Cancelling drops whatever has not been computed yet.

        Args:
            images: at least one.
            partial: embed the good ones even if others are refused.

        Raises:
            BadImagesError: an image was refused and `partial` is false.
            OverloadedError: the queue has no place for so many images.
            InferenceError: the model failed on these images.
            EngineStoppedError: the engine has ended.
        """
        started = time.monotonic()
        with self._failures(started), self.batcher.places(len(images)):
            decoded = await self._decode(images)
            refused = {index: result for index, result in enumerate(decoded) if isinstance(result, Refusal)}
            for refusal in refused.values():
                metrics.IMAGES.labels(self.manifest.name, refusal.type).inc()
            if refused and not partial:
                raise BadImagesError(refused, len(images))
            good = [result for result in decoded if not isinstance(result, Refusal)]
            return Result(await self._compute(good, started), refused)

    async def embed_pixels(self, pixels: Pixels) -> Result:
        """Embed at least one image that is uint8 [S, S, 3] already. Errors as `embed`, without BadImagesError."""
        started = time.monotonic()
        with self._failures(started), self.batcher.places(len(pixels)):
            return Result(await self._compute(list(pixels), started), {})

    async def _compute(self, images: Sequence[Pixels], started: float) -> Answer:
        answer = await asyncio.wrap_future(self.batcher.submit(images)) if images else self._none
        metrics.IMAGES.labels(self.manifest.name, "embedded").inc(len(images))
        metrics.QUEUE_SECONDS.labels(self.manifest.name).observe(answer.queue_seconds)
        self.statistics.succeeded(len(images), time.monotonic() - started, answer)
        return answer

    @contextmanager
    def _failures(self, started: float) -> Iterator[None]:
        try:
            yield
        except BaseException:  # a cancellation too
            self.statistics.fail.add(time.monotonic() - started)
            raise

    async def _decode(self, images: Sequence[Encoded]) -> list[Pixels | Refusal]:
        loop = asyncio.get_running_loop()
        groups = [images[start : start + DECODE_TOGETHER] for start in range(0, len(images), DECODE_TOGETHER)]
        decoded = await asyncio.gather(*(loop.run_in_executor(self._pool, self._decode_group, one) for one in groups))
        return [result for group in decoded for result in group]

    def _decode_group(self, images: Sequence[Encoded]) -> list[Pixels | Refusal]:
        return [self._decode_one(image) for image in images]

    def _decode_one(self, image: Encoded) -> Pixels | Refusal:
        try:
            data = from_base64(image) if isinstance(image, str) else image
            return decode(data, self.manifest.preprocessing, self._limits)
        except ImageError as error:
            return Refusal(error.type, str(error))
        except binascii.Error as error:
            return Refusal("invalid_base64", f"the data are not base64: {error}")

    def _warm_up(self) -> None:
        for images in self._warm_sizes:
            self._infer(self._blank(images))

    def _blank(self, images: int) -> Pixels:
        size = self.manifest.preprocessing.size
        return np.zeros((images, size, size, 3), np.uint8)

    def _observe(self, images: int, seconds: float) -> None:
        self.statistics.execution_count += 1
        metrics.BATCH_IMAGES.labels(self.manifest.name).observe(images)
        metrics.INFERENCE_SECONDS.labels(self.manifest.name).observe(seconds)


def from_base64(text: str) -> bytes:
    """Decode base64, bare or as a data URI, in the standard alphabet with its padding.

    Raises:
        binascii.Error: it is something else.
    """
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise binascii.Error("a data URI must look like data:image/png;base64,…")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # characters outside ASCII
        raise binascii.Error(str(error)) from error
