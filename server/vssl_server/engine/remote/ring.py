"""Slots of one size in memory that two processes share. A slot holds an image's pixels, then its embedding."""

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vssl.arrays import Pixels
from vssl.engine import Embeddings

LINE = 64
"""Bytes of a line of the processor's cache: no slot shares one with another."""


@dataclass(frozen=True)
class Shape:
    """How many slots, for images of `size` × `size` pixels and embeddings of `dimension` numbers."""

    slots: int
    size: int
    dimension: int

    @property
    def slot_bytes(self) -> int:
        """The larger of an image and its row, in whole lines."""
        return -(-max(3 * self.size**2, 4 * (2 * self.dimension + 1)) // LINE) * LINE


class Ring:
    """The slots behind a descriptor, which may be closed afterwards.

    The memory is taken page by page as slots are used for the first time, and is gone when both processes have dropped
    it, however they end.
    """

    def __init__(self, descriptor: int, shape: Shape) -> None:
        memory = mmap.mmap(descriptor, shape.slots * shape.slot_bytes)
        self._dimension = shape.dimension
        self._pixels: Pixels = np.ndarray(
            (shape.slots, shape.size, shape.size, 3), np.uint8, memory, 0, (shape.slot_bytes, 3 * shape.size, 3, 1)
        )
        self._rows = np.ndarray((shape.slots, 2 * shape.dimension + 1), np.float32, memory, 0, (shape.slot_bytes, 4))

    def put_images(self, slots: Sequence[int], images: Sequence[Pixels]) -> None:
        """Copy images [S, S, 3] into these slots."""
        for slot, image in zip(slots, images, strict=True):
            self._pixels[slot] = image

    def images(self, slots: Sequence[int]) -> list[Pixels]:
        """The images in these slots, not copied."""
        return [self._pixels[slot] for slot in slots]

    def put_rows(self, slots: Sequence[int], rows: Embeddings) -> None:
        """Write the rows of N embeddings in place of the images in these N slots."""
        places, dimension = list(slots), self._dimension
        self._rows[places, :dimension] = rows.embedding
        self._rows[places, dimension:-1] = rows.variance
        self._rows[places, -1] = rows.uncertainty

    def rows(self, slots: Sequence[int]) -> Embeddings:
        """A copy of the rows in these slots."""
        rows, dimension = self._rows[list(slots)], self._dimension
        parts = rows[:, :dimension], rows[:, dimension:-1], rows[:, -1]
        return Embeddings(*(np.ascontiguousarray(part) for part in parts))


def new_memory(shape: Shape) -> int:
    """The descriptor of memory without a name, for so many slots."""
    descriptor = os.memfd_create("vssl-ring", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, shape.slots * shape.slot_bytes)
    return descriptor
