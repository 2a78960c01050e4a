"""A TritonTransport in an event loop in a thread of its own: for callers that wait, and loops that must stay free."""

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


class _Elsewhere:
    def __init__(self, transport: TritonTransport) -> None:
        self.transport = transport
        self._loop = asyncio.new_event_loop()
        # A daemon: an answer that never comes must not keep the process from ending.
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


class Blocking(_Elsewhere):
    """For threads that wait."""

    def model(self) -> ModelInfo:
        """As `TritonTransport.model`."""
        return self.begin(self.transport.model()).result()

    def embed(self, batch: Batch) -> EmbeddingResult:
        """As `TritonTransport.embed`."""
        return self.begin(self.transport.embed(batch)).result()

    def close(self) -> None:
        """Close the connections and end the threads."""
        self.end()


class Apart(_Elsewhere):
    """For an event loop: tritonclient packs its bodies in the loop that it runs in, which is not free meanwhile."""

    async def model(self) -> ModelInfo:
        """As `TritonTransport.model`."""
        return await asyncio.wrap_future(self.begin(self.transport.model()))

    async def embed(self, batch: Batch) -> EmbeddingResult:
        """As `TritonTransport.embed`."""
        return await asyncio.wrap_future(self.begin(self.transport.embed(batch)))

    async def close(self) -> None:
        """Close the connections and end the threads."""
        await asyncio.to_thread(self.end)
