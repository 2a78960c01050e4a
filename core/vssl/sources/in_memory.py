"""A whole set of images decoded into memory as one array."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from vssl.arrays import Int64s, Pixels
from vssl.errors import UsageError
from vssl.images.decoding import DEFAULT_LIMITS, ImageError, Preprocessing, decode
from vssl.images.names import printable
from vssl.memory import cores, memory_bytes
from vssl.sources.source import Source, no_images

_CHUNK = 256
"""Images in one task: a thread switch costs as much as a small image."""

SHOWN = 5
"""Unreadable files that are named; the rest are counted."""

Allocate = Callable[[int, int], Pixels]
"""A number of images and the side of each → memory for them, uint8 [N, S, S, 3]."""

logger = logging.getLogger("vssl.sources.in_memory")


@dataclass(frozen=True)
class ImageSet:
    """Decoded images, in the order of their source.

    Attributes:
        pixels: uint8 [N, S, S, 3].
        paths: N paths relative to the source.
        labels: class of each image [N], or None where they do not lie in class folders.
        classes: names of the classes; empty without labels.
        failures: (path, reason) of every file that could not be read.
    """

    pixels: Pixels
    paths: list[str]
    labels: Int64s | None
    classes: list[str]
    failures: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def all_equal(self) -> bool:
        """Whether all images are the same picture; at least one image."""
        return all(np.array_equal(image, self.pixels[0]) for image in self.pixels)


def warn_of_missing(source: Source, images: ImageSet) -> None:
    """Log what a source left out: files that were passed over, and files that could not be read."""
    lines = [source.passed_over.as_text(), source.passed_over.unreadable_as_text()]
    lines += [f"skipped {path}: {reason}" for path, reason in images.failures[:SHOWN]]
    if len(images.failures) > SHOWN:
        lines.append(f"skipped {len(images.failures) - SHOWN:,} images more")
    for line in lines:
        if line is not None:
            logger.warning("%s: %s", printable(source.name), printable(line))


def new_pixels(count: int, size: int) -> Pixels:
    """Memory of this process for so many images, uint8 [N, S, S, 3]."""
    return np.empty((count, size, size, 3), np.uint8)


def load_images(
    source: Source, preprocessing: Preprocessing, paths: Sequence[str] | None = None, allocate: Allocate = new_pixels
) -> ImageSet:
    """Decode every image of a source (or those named by `paths`) on all cores; bad files are listed, not fatal.

    Raises:
        UsageError: the source holds no image that can be read, or more than fits into memory.
    """
    wanted = list(source.paths()) if paths is None else list(paths)
    if not wanted:
        raise no_images(source)
    _check_room(len(wanted), preprocessing.size)
    pixels = allocate(len(wanted), preprocessing.size)
    reasons: list[str | None] = [None] * len(wanted)

    def work(start: int) -> None:
        for index in range(start, min(start + _CHUNK, len(wanted))):
            try:
                pixels[index] = decode(source.read(wanted[index], DEFAULT_LIMITS.max_bytes), preprocessing)
            except (ImageError, OSError) as error:
                reasons[index] = str(error)

    pool = ThreadPoolExecutor(cores())
    try:
        list(pool.map(work, range(0, len(wanted), _CHUNK)))
    finally:
        pool.shutdown(cancel_futures=True)
    good = [index for index, reason in enumerate(reasons) if reason is None]
    failures = [(wanted[i], reason) for i, reason in enumerate(reasons) if reason is not None]
    if not good:
        raise UsageError(f"{source.name}: none of {len(wanted)} files can be read; {failures[0][0]}: {failures[0][1]}")
    kept = [wanted[index] for index in good]
    labelled = source.labels(kept)
    labels, classes = (None, []) if labelled is None else (np.array(labelled[0]), labelled[1])
    return ImageSet(_closed_up(pixels, good), kept, labels, classes, failures)


def _closed_up(pixels: Pixels, good: list[int]) -> Pixels:
    """The rows `good`, moved up in place: `pixels[good]` would copy a set that may fill the memory."""
    if len(good) == len(pixels):
        return pixels
    for place, row in enumerate(good):
        if place != row:
            pixels[place] = pixels[row]
    return pixels[: len(good)]


def _check_room(count: int, size: int) -> None:
    needed, available = count * size * size * 3, memory_bytes()
    if needed > available * 0.8:
        raise UsageError(
            f"{count:,} images at {size} px need {needed / 2**30:.1f} GiB of {available / 2**30:.1f} GiB of memory; "
            "use fewer images or a smaller size"
        )
