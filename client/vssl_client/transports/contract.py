"""A way to one server, for threads and for an event loop: one attempt at a time."""

from typing import Protocol

from vssl_client.exchange.steps import Batch
from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult


class Transport(Protocol):
    """For threads."""

    def model(self) -> ModelInfo:
        """Which model answers."""

    def embed(self, batch: Batch) -> EmbeddingResult:
        """Embed at least one image; a bad one has its error in its row."""

    def close(self) -> None:
        """Close the connections."""


class AsyncTransport(Protocol):
    """For an event loop."""

    async def model(self) -> ModelInfo:
        """Which model answers."""

    async def embed(self, batch: Batch) -> EmbeddingResult:
        """Embed at least one image; a bad one has its error in its row."""

    async def close(self) -> None:
        """Close the connections."""
