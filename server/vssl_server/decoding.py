"""Encoded images → pixels in a pool of threads, and from there straight into the batcher's queue.

The event loop hands a request over and hears of it again when it is answered: every hand-over between threads costs
as much as decoding a small image.
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

SHORT = 16 * 1024
"""Bytes of a file that is decoded in less time than it takes to wake a thread for it."""

Queue = Callable[[Sequence[Pixels], "Future[Answer]"], object]

TOGETHER = 8
"""Images in one task of the pool: enough to make the hand-over cheap, few enough that requests take turns."""


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

    `answer` is the future that `queue` gets with the good images, or a BadImagesError where one was refused and
    `all_or_none` is true. Cancelling it drops what has not been decoded or computed yet.
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
        self._decoded: list[Pixels | Refusal | None] = [None] * len(images)
        self._left = len(images)
        self._started: float | None = None
        self._lock = threading.Lock()

    def start(self, pool: Pool) -> None:
        """Hand the images to a pool."""
        for start in range(0, len(self.images), TOGETHER):
            short = len(self.images) == 1 and len(self.images[0]) <= SHORT
            pool.submit(partial(self._run, start), short)

    def _run(self, start: int) -> None:
        self._started = self._started or time.monotonic()
        stop = min(start + TOGETHER, len(self.images))
        try:
            for index in range(start, stop):
                if self.answer.done():  # nobody waits any more
                    return
                self._decoded[index] = self._decode(self.images[index])
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
        self._queue(good, self.answer)

    def _decode(self, image: Encoded) -> Pixels | Refusal:
        try:
            data = from_base64(image) if isinstance(image, str) else image
            return decode(data, self._preprocessing, self._limits)
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
