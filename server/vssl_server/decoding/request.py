"""Encoded images → pixels in a pool of threads, and from there straight into the batcher's queue.

Each hand-over between threads costs as much as decoding a small image. So the event loop hands a request over once, and
hears of it again when it is answered; a single small image it decodes itself.
"""

import binascii
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from PIL import Image

from vssl.arrays import Pixels
from vssl.images.decoding import (
    ImageError,
    Limits,
    Preprocessing,
    decode,
    decodes_in_python,
    open_guarded,
    to_pixels,
    work,
)
from vssl_server.decoding.futures import fail
from vssl_server.decoding.pool import Line, Pool
from vssl_server.wire.capacity import OverloadedError
from vssl_server.wire.errors import clipped
from vssl_server.wire.images import Encoded, from_base64

IN_PLACE = Limits(max_bytes=8 * 1024, max_pixels=128 * 128)
"""Decoding such an image takes about as long as handing it to another thread."""

HEIF = b"ftyp"
"""Bytes 4 to 8 of AVIF and HEIC. The header may say too little (docs/serving.md), so none is decoded in place."""

TASK_BYTES = 64 * 1024
"""Bytes of files in one task of the pool. Small images take turns at Python's lock, so more threads gain nothing; each
large one is a task of its own.
"""

LIGHT_PIXELS, LIGHT_BYTES = 2**20, 2**19
"""Such an image is decoded in 20 ms or less. A larger one is a heavy task of its own."""

R = TypeVar("R")
Submit = Callable[[Sequence[Pixels], Future[R], float], object]


@dataclass(frozen=True)
class Refusal:
    """Why one image has no embedding. `type` is a stable word: those of ImageError, and `invalid_base64`.

    The message has at most 200 characters, as an answer may hold one for each image.
    """

    type: str
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", clipped(self.message, 200))


class BadImagesError(Exception):
    """Some of the request's `images` were refused, and the caller wants all or nothing."""

    def __init__(self, refused: dict[int, Refusal], images: int) -> None:
        super().__init__(f"{len(refused)} of {images} images were refused")
        self.refused, self.images = refused, images


class TooManyPixelsError(Exception):
    """The images of one request have too many pixels in all."""


@dataclass(frozen=True)
class Decoder:
    """How the images of a model are decoded, and where.

    Args:
        preprocessing: of the model.
        limits: of each image.
        max_pixels: of all images of a request together.
        pool: where they are decoded.
    """

    preprocessing: Preprocessing
    limits: Limits
    max_pixels: int
    pool: Pool


class Decoding(Generic[R]):
    """One request's images. All headers are read first, which tells how much work they are; then they are decoded, a
    few small ones or one large one in a task of the pool, and the last task to end submits the good images.

    Whoever waits for the request owns `future`. It fails here with a BadImagesError where an image was refused and
    `all_or_none` is true, with a TooManyPixelsError, and with an OverloadedError where too many pixels are pending;
    otherwise it is handed on with the images. Cancelling it drops what has not been decoded.

    Args:
        decoder: of the model.
        images: at least one, as they were sent.
        future: the request's result.
        submit: gets the good images, the future, and the seconds that the images waited for a thread.
        all_or_none: one bad image fails the request.
    """

    def __init__(
        self,
        decoder: Decoder,
        images: Sequence[Encoded],
        future: "Future[R]",
        submit: Submit[R],
        all_or_none: bool,
    ) -> None:
        self.images, self.all_or_none = images, all_or_none
        self.refused: dict[int, Refusal] = {}
        self.seconds = 0.0
        """From the first task's start to the last one's end."""
        self._decoder, self._pool, self._line = decoder, decoder.pool, Line()
        self._future, self._submit = future, submit
        self._opened: dict[int, Image.Image] = {}
        self._decoded: list[Pixels | None] = [None] * len(images)
        self._admitted: list[int] = []
        """Pixels that have a place in the pool."""
        self._tasks_left = 0
        self._started: float | None = None
        self._handed_over = time.monotonic()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Decode one small image here and now; hand all else to the pool."""
        if len(self.images) == 1 and len(self.images[0]) <= IN_PLACE.max_bytes:
            self._guarded(self._in_place)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        # The first callback of the future: whoever hears of the result finds the place free. It is no method of `self`,
        # as a cycle would keep the images.
        self._future.add_done_callback(partial(_give_back, self._pool, self._admitted))
        self._schedule(self._measure)

    def _schedule(self, work: Callable[[], None], heavy: bool = False) -> None:
        self._pool.submit(self._line, partial(self._guarded, work), heavy)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do some work, unless nobody waits for it any more. Its errors are the request's."""
        self._started = self._started or time.monotonic()
        if self._future.done():
            return
        try:
            work()
        except (BadImagesError, TooManyPixelsError, OverloadedError) as error:
            # Its traceback knows of this object, which holds the future: a cycle would keep the images.
            fail(self._future, error.with_traceback(None))
        except BaseException as error:
            fail(self._future, error)

    def _in_place(self) -> None:
        image = self.images[0]
        try:
            data = from_base64(image) if isinstance(image, str) else image
            if data[4:8] == HEIF:
                raise ImageError("too_many_pixels", "perhaps")
            small = Limits(IN_PLACE.max_bytes, min(IN_PLACE.max_pixels, self._decoder.limits.max_pixels))
            self._decoded[0] = decode(data, self._decoder.preprocessing, small)
        except (ImageError, binascii.Error) as error:
            if isinstance(error, ImageError) and error.type == "too_many_pixels":
                self._hand_over()
                return
            self.refused[0] = _refusal(error)
        self._finish()

    def _measure(self) -> None:
        """Read all headers, admit the pixels, then decode."""
        light: list[int] = []
        tasks: list[tuple[list[int], bool]] = []
        total = size = pixels = 0
        for index, image in enumerate(self.images):
            if self._future.done():
                return
            try:
                data = from_base64(image) if isinstance(image, str) else image
                opened = self._opened[index] = open_guarded(data, self._decoder.limits)
            except (ImageError, binascii.Error) as error:
                self.refused[index] = _refusal(error)
                continue
            pixels_drawn = work(opened, data, self._decoder.preprocessing)
            total += pixels_drawn
            if total > self._decoder.max_pixels:
                raise TooManyPixelsError(
                    f"the request's images have over {self._decoder.max_pixels:,} pixels in all; send several requests"
                )
            if pixels_drawn > LIGHT_PIXELS or len(data) > LIGHT_BYTES or decodes_in_python(opened):
                tasks.append(([index], True))
                continue
            light.append(index)
            size, pixels = size + len(data), pixels + pixels_drawn
            if size >= TASK_BYTES or pixels >= LIGHT_PIXELS:
                tasks.append((light, False))
                light, size, pixels = [], 0, 0
        if light:
            tasks.append((light, False))
        self._pool.admit(total)
        self._admitted.append(total)
        if self._future.done():  # cancelled meanwhile
            _give_back(self._pool, self._admitted)
            return
        self._begin(tasks)

    def _begin(self, tasks: Sequence[tuple[list[int], bool]]) -> None:
        self._tasks_left = len(tasks)
        match tasks:
            case []:
                self._finish()
            case [(images, False)]:  # this thread's turn is enough for it
                self._draw(images)
            case _:
                for images, heavy in tasks:
                    self._schedule(partial(self._draw, images), heavy)

    def _draw(self, images: Sequence[int]) -> None:
        for index in images:
            if self._future.done():
                return
            try:
                with self._opened.pop(index) as opened:
                    self._decoded[index] = to_pixels(opened, self._decoder.preprocessing)
            except ImageError as error:
                self.refused[index] = _refusal(error)
        with self._lock:
            self._tasks_left -= 1
            if self._tasks_left:
                return
        self._finish()

    def _finish(self) -> None:
        self.seconds = time.monotonic() - (self._started or 0.0)
        self.refused = dict(sorted(self.refused.items()))
        if self.refused and self.all_or_none:
            raise BadImagesError(self.refused, len(self.images))
        good = [one for one in self._decoded if one is not None]
        self._submit(good, self._future, (self._started or 0.0) - self._handed_over)


def _give_back(pool: Pool, admitted: list[int], _: "Future[Any] | None" = None) -> None:
    with suppress(IndexError):  # two threads may come here at once
        pool.release(admitted.pop())


def _refusal(error: ImageError | binascii.Error) -> Refusal:
    if isinstance(error, ImageError):
        return Refusal(error.type, str(error))
    return Refusal("invalid_base64", f"the data are not base64: {error}")
