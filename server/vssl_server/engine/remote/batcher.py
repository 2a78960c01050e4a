"""The batcher of a front process: it hands decoded images to the process with the engine."""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path

from vssl.arrays import Pixels
from vssl_server.engine.health import PROBE_SECONDS
from vssl_server.engine.jobs import BatchResult, EngineStoppedError
from vssl_server.engine.remote.link import GONE, Link, RefusedError
from vssl_server.engine.remote.ring import Shape
from vssl_server.wire.capacity import Places

AGAIN_SECONDS = 0.2
"""Between two tries to reach the engine process."""

logger = logging.getLogger("vssl.server")


class RemoteHealth:
    """That of the engine is the supervisor's concern; a front ends only where the engine process refuses its bundle."""

    def __init__(self) -> None:
        self.refused: float | None = None
        """When it was refused first, while it is."""

    @property
    def unanswered(self) -> float:
        """Seconds since the bundle was refused; 0 while it is not."""
        return 0.0 if self.refused is None else time.monotonic() - self.refused


class RemoteBatcher:
    """A `Batching` whose engine runs in another process.

    It admits requests itself, so that no image is decoded in vain. The batches are made where the engine is.

    Args:
        path: of the engine process's socket.
        bundle: the id of the model's bundle.
        max_batch: images in one call of the engine.
        shape: of the ring; as many slots as images may hold a place.
    """

    def __init__(self, path: Path, bundle: str, max_batch: int, shape: Shape) -> None:
        self._path, self._bundle, self._shape = path, bundle, shape
        self.health = RemoteHealth()
        self.warm: Future[None] = Future()
        self.warm.set_running_or_notify_cancel()  # nobody who waits for it may cancel it for the others
        self._places = Places(shape.slots, max_batch)
        self._closing = threading.Event()
        self._link: Link | None = None
        self._thread: threading.Thread | None = None

    @property
    def ready(self) -> bool:
        """Whether the engine process is there and its engine can answer."""
        link = self._link
        return link is not None and link.ready and not self._closing.is_set()

    @property
    def in_flight(self) -> int:
        """Images that hold a place now."""
        return self._places.in_flight

    def start(self) -> None:
        """Connect, in a thread that then hears the answers."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def close(self, timeout: float | None = None) -> None:
        """Leave the engine process; what it has not answered fails. Wait `timeout` seconds at most for that."""
        self._closing.set()
        if self._link is not None:
            self._link.end()
        if self._thread is not None:
            self._thread.join(timeout)

    def admit(self, images: int, behind: bool = False) -> AbstractContextManager[None]:
        """Hold a place for each image of a request until it is answered; OverloadedError if too few are free."""
        return self._places.admit(images, behind)

    def submit(
        self,
        images: Sequence[Pixels],
        future: "Future[BatchResult] | None" = None,
        waited: float = 0.0,
        behind: bool = False,
    ) -> "Future[BatchResult]":
        """Queue at least one image [S, S, 3], as `Batcher.submit`.

        Raises:
            EngineStoppedError: the engine process is not there, or its engine fails.
            OverloadedError: cancelled requests still hold the slots.
        """
        if not images:
            raise ValueError("a request needs at least one image")
        link, answer = self._link, future or Future()
        if link is None or self._closing.is_set():
            raise EngineStoppedError(GONE)
        link.submit(images, answer, waited, behind)
        return answer

    def _run(self) -> None:
        told = ""
        while not self._closing.is_set():
            try:
                self._link = link = Link(self._path, self._bundle, self._shape)
            except OSError as error:
                if told != str(error):
                    told = str(error)
                    logger.error("the engine process can't be reached: %s", told)
                self._closing.wait(AGAIN_SECONDS)
                continue
            if self._closing.is_set():
                link.end()
            try:
                link.listen(self._is_warm)
            except RefusedError as error:
                self._refused(str(error))

    def _is_warm(self) -> None:
        self.health.refused = None
        if not self.warm.done():
            self.warm.set_result(None)

    def _refused(self, words: str) -> None:
        logger.error("%s", words)
        if not self.warm.done():
            self.warm.set_exception(EngineStoppedError(words))
        self.health.refused = self.health.refused or time.monotonic()
        self._closing.wait(PROBE_SECONDS)
