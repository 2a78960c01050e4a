"""A bundle in this process as a transport: for callers that need no server."""

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from vssl.bundle.default import default_bundle
from vssl.bundle.manifest import Precision
from vssl.bundle.reading import open_bundle
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.exchange.steps import Batch, Pixels
from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult


class InProcess:
    """A bundle in this process as a `Transport` of `Client`.

    Args:
        bundle: its location; None for the default model.
        precision: which of its models to run.
        max_bytes: encoded bytes of the largest image to decode.

    Raises:
        UsageError: no such bundle or precision, onnxruntime is not installed, or this installation has no such model.
        BundleError: the bundle can't be trusted, or its model can't be loaded.
    """

    def __init__(self, bundle: Path | None, precision: Precision, max_bytes: int) -> None:
        self._embedder = LocalEmbedder(open_bundle(bundle or default_bundle()), 0, precision, max_bytes)
        if bundle is None:
            logging.getLogger("vssl.client").info("no address given: the default model runs in this process")

    def model(self) -> ModelInfo:
        """What the manifest says."""
        return self._embedder.model()

    def embed(self, batch: Batch) -> EmbeddingResult:
        """Embed at least one image."""
        if isinstance(batch, Pixels):
            return self._embedder.embed_pixels(batch.array)
        return self._embedder.embed_batch(batch)

    def close(self) -> None:
        """End the engine's thread."""
        self._embedder.close()


class Late:
    """The same, opened when it is first asked: for who may not need it."""

    def __init__(self, open: Callable[[], InProcess]) -> None:
        self._open, self._lock = open, threading.Lock()
        self._opened: InProcess | None = None

    def model(self) -> ModelInfo:
        """What the manifest says."""
        return self._now().model()

    def embed(self, batch: Batch) -> EmbeddingResult:
        """Embed at least one image."""
        return self._now().embed(batch)

    def close(self) -> None:
        """End the engine's thread, if there is one."""
        if self._opened is not None:
            self._opened.close()

    def _now(self) -> InProcess:
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened


class AsyncInProcess:
    """The same for `AsyncClient`: it loads the model on first use, and decodes and waits in threads."""

    def __init__(self, bundle: Path | None, precision: Precision, max_bytes: int) -> None:
        self._open = partial(InProcess, bundle, precision, max_bytes)
        self._opening: asyncio.Task[InProcess] | None = None

    async def model(self) -> ModelInfo:
        """What the manifest says."""
        return (await self._opened()).model()

    async def embed(self, batch: Batch) -> EmbeddingResult:
        """Embed at least one image."""
        return await asyncio.to_thread((await self._opened()).embed, batch)

    async def close(self) -> None:
        """End the engine's thread."""
        if self._opening is not None and not (await asyncio.wait([self._opening]))[0].pop().exception():
            self._opening.result().close()

    async def _opened(self) -> InProcess:
        if self._opening is None:
            self._opening = asyncio.create_task(asyncio.to_thread(self._open))
        return await asyncio.shield(self._opening)  # a caller that gives up must not cancel it for the others
