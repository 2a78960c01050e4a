"""Encoded images → pixels in a pool of threads, and from there straight into the batcher's queue.

The event loop hands a request over and hears of it again when it is answered: every hand-over between threads costs
as much as decoding a small image. So one small image is decoded in the loop's own thread; the engine's thread, which
computes without Python's lock, would wait for it once an image.
"""

import base64
import binascii
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from vssl.preprocessing import ImageError, Limits, Preprocessing, decode
from vssl_server.batcher import Answer, Pixels
from vssl_server.pool import Pool

Encoded = bytes | str
"""An image file's bytes, or the same in base64, with or without a data URI's head."""

SMALL = Limits(max_bytes=8 * 1024, max_pixels=128 * 128)
"""An image that is decoded in about the time that it takes to hand it from one thread to another."""

AVIF = b"ftyp"
"""Bytes 4 to 8 of an AVIF. Its header may say too little (docs/serving.md), so it is never small."""

TOGETHER = 64 * 1024
"""Bytes of files in one task of the pool: small images take turns at Python's lock, so that more threads gain nothing,
while each large one is decoded by a thread of its own.
"""

Queue = Callable[[Sequence[Pixels], "Future[Answer]", float], object]


@dataclass(frozen=True)
class Refusal:
    """Why one image has no embedding. `type` is a stable word: those of ImageError, and `invalid_base64`."""

    type: str
    message: str


class BadImagesError(Exception):
    """Some of so many `images` were refused and the caller wants all or nothing."""

    def __init__(self, refused: dict[int, Refusal], images: int) -> None:
        super().__init__(f"{len(refused)} of {images} images were refused")
        self.refused, self.images = refused, images


class Decoding:
    """One request's images: the last of its tasks in the pool to end queues the good images.

    `answer` is the future that `queue` gets with the good images and the seconds that they waited for a thread, or a
    BadImagesError where one was refused and `all_or_none` is true. Cancelling it drops what has not been decoded or
    computed yet.
    """

    def __init__(
        self, images: Sequence[Encoded], preprocessing: Preprocessing, limits: Limits, queue: Queue, all_or_none: bool
    ) -> None:
        self.images, self.all_or_none = images, all_or_none
        self.answer: Future[Answer] = Future()
        self.refused: dict[int, Refusal] = {}
        self.seconds = 0.0
        """From the first task's start to the last one's end."""
        self._preprocessing, self._limits, self._queue = preprocessing, limits, queue
        self._small = Limits(SMALL.max_bytes, min(SMALL.max_pixels, limits.max_pixels))
        self._decoded: list[Pixels | Refusal | None] = [None] * len(images)
        self._left = len(images)
        self._started: float | None = None
        self._handed_over = time.monotonic()
        self._lock = threading.Lock()

    def start(self, pool: Pool) -> None:
        """Decode one small image here and now; hand all else to a pool."""
        if len(self.images) == 1 and len(self.images[0]) <= SMALL.max_bytes:
            self._run(0, 1, pool)
            return
        start = size = 0
        for stop, image in enumerate(self.images, 1):
            size += len(image)
            if size >= TOGETHER or stop == len(self.images):
                pool.submit(partial(self._run, start, stop))
                start, size = stop, 0

    def _run(self, start: int, stop: int, pool: Pool | None = None) -> None:
        """Decode some images; with a `pool` only small ones, and leave it the others."""
        self._started = self._started or time.monotonic()
        try:
            for index in range(start, stop):
                if self.answer.done():  # nobody waits any more
                    return
                decoded = self._decode(self.images[index], self._small if pool else self._limits)
                if pool and isinstance(decoded, Refusal) and decoded.type == "too_many_pixels":
                    pool.submit(partial(self._run, start, stop))
                    return
                self._decoded[index] = decoded
            with self._lock:
                self._left -= stop - start
                if self._left:
                    return
            self._finish()
        except BaseException as error:
            if not self.answer.done():
                self.answer.set_exception(error)

    def _finish(self) -> None:
        self.seconds = time.monotonic() - (self._started or 0.0)
        good = [one for one in self._decoded if not isinstance(one, Refusal) and one is not None]
        self.refused.update({index: one for index, one in enumerate(self._decoded) if isinstance(one, Refusal)})
        if self.refused and self.all_or_none:
            raise BadImagesError(self.refused, len(self.images))
        self._queue(good, self.answer, (self._started or 0.0) - self._handed_over)

    def _decode(self, image: Encoded, limits: Limits) -> Pixels | Refusal:
        try:
            data = from_base64(image) if isinstance(image, str) else image
            if limits is self._small and data[4:8] == AVIF:
                raise ImageError("too_many_pixels", "perhaps")
            return decode(data, self._preprocessing, limits)
        except ImageError as error:
            return Refusal(error.type, str(error))
        except binascii.Error as error:
            return Refusal("invalid_base64", f"the data are not base64: {error}")


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
