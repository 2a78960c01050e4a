"""The engine process's end of the connections: requests of all fronts go into the batchers of their models."""

import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from vssl_server.engine.batcher import Batcher
from vssl_server.engine.jobs import BatchResult, EngineStoppedError, InferenceError
from vssl_server.engine.remote.channel import Channel
from vssl_server.engine.remote.ring import Ring, Shape

AGAIN_SECONDS = 0.2
"""Between two tries to accept a connection."""

logger = logging.getLogger("vssl.server")


@dataclass(frozen=True)
class Model:
    """A batcher, and what its images and embeddings measure."""

    batcher: Batcher
    size: int
    dimension: int


class Fronts:
    """Accepts connections for as long as the process lives.

    Args:
        models: by the ids of their bundles.
    """

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models
        self._fronts: set[Front] = set()
        self._changed = threading.Condition()

    def accept(self, listener: socket.socket) -> None:
        """Serve whoever connects, each in a thread, until the listener is closed."""
        while True:
            try:
                sock, _ = listener.accept()
            except OSError as error:
                if error.errno in (errno.EBADF, errno.EINVAL):  # it was closed, or shut down
                    return
                logger.error("a front process can't connect yet: %s", error)
                time.sleep(AGAIN_SECONDS)  # too many open files, such as pass
                continue
            threading.Thread(target=self._serve, args=(Channel(sock),), name="front", daemon=True).start()

    def tell(self) -> None:
        """Tell each front whether its model can answer, where that has changed."""
        with self._changed:
            fronts = list(self._fronts)
        for front in fronts:
            front.tell()

    def wait(self, seconds: float) -> bool:
        """Whether all fronts are gone within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._fronts, seconds)

    def _serve(self, channel: Channel) -> None:
        try:
            bundle, slots, memory = channel.receive_hello()
        except EOFError:
            channel.close()
            return
        try:
            model = self._models.get(bundle)
            if model is None:
                with suppress(OSError):
                    channel.send("refused", "the bundle is not the engine process's: it was changed since the start")
                channel.close()
                return
            front = Front(channel, Ring(memory, Shape(slots, model.size, model.dimension)), model.batcher)
        finally:
            os.close(memory)
        with self._changed:
            self._fronts.add(front)
        try:
            front.serve()
        finally:
            with self._changed:
                self._fronts.discard(front)
                self._changed.notify_all()


class Front:
    """One front's connection for one model: its slots, and its requests in the batcher."""

    def __init__(self, channel: Channel, ring: Ring, batcher: Batcher) -> None:
        self._channel, self._ring, self._batcher = channel, ring, batcher
        self._asked: dict[int, Future[BatchResult]] = {}
        self._told: bool | None = None
        self._telling = threading.Lock()

    def serve(self) -> None:
        """Do what the front asks until it is gone; then nothing of it is computed any more."""
        self.tell()
        try:
            while True:
                match self._channel.receive():
                    case ["submit", number, waited, behind, slots]:
                        self._submit(number, waited, behind, slots)
                    case ["cancel", number]:
                        if (future := self._asked.get(number)) is not None:
                            future.cancel()
        except EOFError:
            pass
        finally:
            for future in list(self._asked.values()):
                future.cancel()
            self._channel.close()

    def tell(self) -> None:
        """Tell the front whether the model can answer, unless it knows."""
        with self._telling:
            ready = self._batcher.ready
            if ready != self._told:
                self._told = ready
                self._send("state", ready)

    def _submit(self, number: int, waited: float, behind: bool, slots: list[int]) -> None:
        future: Future[BatchResult] = Future()
        self._asked[number] = future
        try:
            self._batcher.submit(self._ring.images(slots), future, waited, behind)
        except EngineStoppedError as error:
            future.set_exception(error)
        future.add_done_callback(partial(self._answer, number, slots))

    def _answer(self, number: int, slots: list[int], future: "Future[BatchResult]") -> None:
        """Say what became of a request, in the thread that knows it first: the engine's, or the front's."""
        self._asked.pop(number, None)
        if future.cancelled():
            self._send("dropped", number)
        elif (error := future.exception()) is not None:
            self._send("failed", number, isinstance(error, InferenceError), str(error)[:1000])
        else:
            result = future.result()
            self._ring.put_rows(slots, result.embeddings)
            self._send("done", number, result.queue_seconds, result.inference_seconds)

    def _send(self, *message: object) -> None:
        with suppress(OSError):  # then the front is gone, and `serve` hears of it
            self._channel.send(*message)
