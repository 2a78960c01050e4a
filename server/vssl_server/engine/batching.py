"""What a pipeline needs of a batcher, wherever its engine runs."""

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Protocol

from vssl.arrays import Pixels
from vssl_server.engine.jobs import BatchResult


class EngineHealth(Protocol):
    """Whether there is hope without a new start."""

    @property
    def unanswered(self) -> float:
        """Seconds since the engine began to fail or to hang for good; 0 while it does neither."""


class Batching(Protocol):
    """Images in, embeddings out: `Batcher` in this process, `RemoteBatcher` over another one."""

    warm: "Future[None]"

    @property
    def health(self) -> EngineHealth:
        """Of the engine."""

    @property
    def ready(self) -> bool:
        """Whether it can answer now."""

    @property
    def in_flight(self) -> int:
        """Images that hold a place now."""

    def start(self) -> None:
        """Begin to work, in a thread."""

    def close(self, timeout: float | None = None) -> None:
        """End the thread; wait `timeout` seconds at most for that."""

    def admit(self, images: int, behind: bool = False) -> AbstractContextManager[None]:
        """Hold a place for each image of a request until it is answered; OverloadedError if too few are free."""

    def submit(
        self,
        images: Sequence[Pixels],
        future: "Future[BatchResult] | None" = None,
        waited: float = 0.0,
        behind: bool = False,
    ) -> "Future[BatchResult]":
        """Queue at least one image [S, S, 3], as `Batcher.submit`."""
