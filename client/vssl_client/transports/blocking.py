"""A TritonTransport in an event loop of its own thread: for threads that wait, and for loops that must stay free."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from vssl_client.exchange.steps import Batch
from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult
from vssl_client.transports.triton import TritonTransport

R = TypeVar("R")


class _LoopInThread:
    def __init__(self, transport: TritonTransport) -> None:
        self.transport = transport
        self._loop = asyncio.new_event_loop()
        # A daemon, so an answer that never comes can't keep the process alive.
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, R]) -> Future[R]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def end(self) -> None:
        if self._loop.is_closed():
            return
        self.begin(self.transport.close()).result()
        self.begin(self._loop.shutdown_default_executor()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class BlockingTriton(_LoopInThread):
    """A `Transport`: for threads that wait."""

    def model(self) -> ModelInfo:
        """As `TritonTransport.model`."""
        return self.begin(self.transport.model()).result()

    def embed(self, batch: Batch) -> EmbeddingResult:
        """As `TritonTransport.embed`."""
        return self.begin(self.transport.embed(batch)).result()

    def close(self) -> None:
        """Close the connections and end the threads."""
        self.end()


class TritonInThread(_LoopInThread):
    """An `AsyncTransport`: tritonclient would block the caller's loop while it packs bodies."""

    async def model(self) -> ModelInfo:
        """As `TritonTransport.model`."""
        return await asyncio.wrap_future(self.begin(self.transport.model()))

    async def embed(self, batch: Batch) -> EmbeddingResult:
        """As `TritonTransport.embed`."""
        return await asyncio.wrap_future(self.begin(self.transport.embed(batch)))

    async def close(self) -> None:
        """Close the connections and end the threads."""
        await asyncio.to_thread(self.end)
