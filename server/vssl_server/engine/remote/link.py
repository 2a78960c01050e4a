"""A front's connection to the engine process: its slots, and the requests that are there now."""

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from vssl.arrays import Pixels
from vssl_server.decoding.futures import fail, succeed
from vssl_server.engine.jobs import BatchResult, EngineStoppedError, InferenceError
from vssl_server.engine.remote.channel import TooLongError, connect
from vssl_server.engine.remote.ring import Ring, Shape, new_memory
from vssl_server.wire.capacity import OverloadedError

GONE = "the engine process has ended; another takes its place"


class RefusedError(Exception):
    """The engine process does not run this bundle."""


@dataclass(frozen=True)
class Asked:
    """A request that is in the engine process, and the slots that it holds until the answer."""

    future: "Future[BatchResult]"
    slots: list[int]


class Link:
    """Lasts as long as both processes do; then whoever made it makes another one, with other memory.

    Args:
        path: of the engine process's socket.
        bundle: the id of the model's bundle.
        shape: of the ring.

    Raises:
        OSError: the engine process can't be reached.
    """

    def __init__(self, path: Path, bundle: str, shape: Shape) -> None:
        self._channel = connect(path)
        memory = new_memory(shape)
        try:
            self._ring = Ring(memory, shape)
            self._channel.send_hello(bundle, shape.slots, memory)
        except OSError:
            self._channel.close()
            raise
        finally:
            os.close(memory)
        self._free = list(reversed(range(shape.slots)))  # the last one first: few pages of the memory are ever used
        self._asked: dict[int, Asked] = {}
        self._ids = count()
        self._lock = threading.Lock()
        self._ended = False
        self.ready = False
        """Whether the engine process has said that the model can answer."""

    def submit(self, images: Sequence[Pixels], future: "Future[BatchResult]", waited: float, behind: bool) -> None:
        """Ask for the embeddings of at least one image [S, S, 3].

        Raises:
            EngineStoppedError: the engine process has ended, or can't answer.
            OverloadedError: too few slots are free.
        """
        with self._lock:
            if self._ended or not self.ready:
                raise EngineStoppedError(GONE)
            if len(images) > len(self._free):
                raise OverloadedError("what was cancelled is still in the engine")
            place = len(self._free) - len(images)
            slots, self._free[place:] = self._free[place:], []
            number = next(self._ids)
            self._asked[number] = Asked(future, slots)
        self._ring.put_images(slots, images)
        try:
            self._channel.send("submit", number, waited, behind, slots)
        except TooLongError:
            self._settled(number)
            raise OverloadedError("the request has too many images for one message") from None
        except OSError:
            raise EngineStoppedError(GONE) from None  # `listen` gives everything up
        # Weak references: the future keeps its callbacks.
        future.add_done_callback(partial(_cancel, weakref.ref(self), number))

    def listen(self, on_ready: Callable[[], None]) -> None:
        """Hand on what the engine process answers, until it ends; then all that it has not answered fails.

        Raises:
            RefusedError: it does not run this bundle.
        """
        try:
            while True:
                self._hear(on_ready)
        except EOFError:
            return
        finally:
            with self._lock:
                self._ended, self.ready = True, False
                lost, self._asked = list(self._asked.values()), {}
            self._channel.close()
            for asked in lost:
                fail(asked.future, EngineStoppedError(GONE))

    def end(self) -> None:
        """Let `listen` return."""
        self._channel.end()

    def _hear(self, on_ready: Callable[[], None]) -> None:
        match self._channel.receive():
            case ["state", ready]:
                self.ready = ready
                if ready:
                    on_ready()
            case ["done", number, queue_seconds, inference_seconds]:
                asked = self._asked[number]
                rows = self._ring.rows(asked.slots)
                self._settled(number)
                succeed(asked.future, BatchResult(rows, queue_seconds, inference_seconds))
            case ["failed", number, at_fault, words]:
                error = InferenceError(words) if at_fault else EngineStoppedError(words)
                fail(self._settled(number), error)
            case ["dropped", number]:
                self._settled(number)
            case ["refused", words]:
                raise RefusedError(words)

    def _settled(self, number: int) -> "Future[BatchResult]":
        """Free the slots of a request that the engine process has done with; its future."""
        with self._lock:
            asked = self._asked.pop(number)
            self._free += asked.slots
        return asked.future

    def cancel(self, number: int) -> None:
        """Nobody waits for this request any more. Its slots are free when the engine process has said so."""
        if number in self._asked:
            with suppress(OSError):
                self._channel.send("cancel", number)


def _cancel(link: "weakref.ref[Link]", number: int, future: "Future[BatchResult]") -> None:
    if future.cancelled() and (owner := link()) is not None:
        owner.cancel(number)
