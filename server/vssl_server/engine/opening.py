"""The engine of a served model, with as many threads as leave room for the rest of a request's work."""

import math
import threading
import time
from collections.abc import Callable

import numpy as np

from vssl.arrays import Pixels
from vssl.bundle.manifest import Precision
from vssl.bundle.reading import Bundle
from vssl.engine import Embeddings, Engine
from vssl.errors import VsslError
from vssl.memory import cores
from vssl_server.engine.jobs import Pulling

SMALL_MODEL_SECONDS = 0.0005
"""One thread's time for one image; HTTP and decoding take about as long."""

BATCHES_UNDER_WAY = 2
"""On a GPU: one is copied and unpacked while the other is computed."""


class ServedEngine:
    """A bundle's engine, perhaps with fewer threads for a batch that is not full.

    Where each core can compute a few images for itself, as many threads may `share` it, each with a few images of its
    own. A single image while no other is there gets all cores.

    Args:
        every: the engine for a batch of `size` images.
        size: images of a full batch.
        some: that for the others.
        threads: of both, in that order.
        why: a sentence on how the threads were chosen; empty where nothing was.
    """

    def __init__(self, every: Engine, size: int, some: Engine, threads: tuple[int, int], why: str = "") -> None:
        self._every, self._size, self._some, self.why = every, size, some, why
        self.precision = every.precision
        self._lock, self._running, self._shared = threading.Lock(), 0, False
        self.threads = dict(zip(("full", "part"), threads, strict=True))
        """Threads of a call, by whether the batch is full."""

    def __call__(self, images: Pixels) -> Embeddings:
        """Embed uint8 images [N, S, S, 3]."""
        if not self._shared:
            return (self._some if len(images) < self._size else self._every)(images)
        with self._lock:
            alone = self._running > 0 or len(images) > 1
            self._running += 1
        try:
            return self._every.alone(images) if alone else self._every(images)
        finally:
            with self._lock:
                self._running -= 1

    def share(self) -> Pulling:
        """How it is called from now on: by as many threads as have cores, or a GPU's two batches, for themselves."""
        if self._every.on_gpu:
            return Pulling(BATCHES_UNDER_WAY, self._size, shared=False)
        self._shared = self._every is self._some and self._every.divides
        return Pulling(self._every.cores, self._every.part_of(self._size)) if self._shared else Pulling(1, self._size)

    @property
    def provider(self) -> str:
        """Of ONNX Runtime, the one that really runs the model."""
        return self._every.providers[0].removesuffix("ExecutionProvider").lower()


class LoadedLater:
    """An engine that its first call opens, which is the warm-up in the engine's thread: the server listens meanwhile.

    Args:
        open: how.
    """

    def __init__(self, open: Callable[[], ServedEngine]) -> None:
        self._open = open
        self.engine: ServedEngine | None = None
        """None until it is loaded."""

    def __call__(self, images: Pixels) -> Embeddings:
        """Embed uint8 images [N, S, S, 3]."""
        if self.engine is None:
            self.engine = self._open()
        return self.engine(images)

    def share(self) -> Pulling:
        """As the engine's own, once it is loaded."""
        assert self.engine is not None
        return self.engine.share()


def open_engine(
    bundle: Bundle, threads: int, full: int, small: bool | None = None, precision: Precision | None = None
) -> ServedEngine:
    """The bundle's engine with so many threads; 0 chooses by the model: all cores for a large one.

    With a small model, HTTP and decoding are half of a request's work and need cores too. So the engine gets half of
    the cores, but all for a batch of `full` images: then everything waits for the engine. `small` says whether it is
    such a model; None: a timing decides. `precision` names one of the bundle's models; None: by the provider.

    Raises:
        UsageError: the bundle has no such precision.
    """
    if threads:
        engine = Engine(bundle, threads, precision)
        return ServedEngine(engine, full, engine, (threads, threads))
    engine = Engine(bundle, 1, precision)  # works in the calling thread, so that this thread's time is all of it
    most = cores()
    if most == 1 or engine.providers != ["CPUExecutionProvider"]:
        return ServedEngine(engine, full, engine, (1, 1))
    every, half, found = Engine(bundle, 0, engine.precision), most // 2, ""
    if small is None:
        taken = seconds_an_image(engine)
        small, found = taken < SMALL_MODEL_SECONDS, f" ({taken * 1000:.2g} ms an image with one thread)"
    if not small:
        why = f"{bundle.manifest.name} is no small model{found}: all {most} cores for each batch"
        return ServedEngine(every, full, every, (most, most), why)
    why = f"{bundle.manifest.name} is a small model{found}: {half} of {most} cores for a batch, all for one of {full}"
    return ServedEngine(every, full, engine if half == 1 else Engine(bundle, half, engine.precision), (most, half), why)


def seconds_an_image(engine: Engine) -> float:
    """One thread's time for one image; 0 if the model can't run, which the warm-up will report."""
    image = np.zeros((1, engine.size, engine.size, 3), np.uint8)
    least = math.inf
    try:
        for _ in range(10):  # the first calls are slow, and on a busy machine others too
            started = time.thread_time()
            engine(image)
            taken = time.thread_time() - started
            least = min(least, taken)
            if taken < SMALL_MODEL_SECONDS or taken > 10 * SMALL_MODEL_SECONDS:
                break
    except VsslError:
        return 0.0
    return least
