"""Answers by the content of the image file, so that a file that comes again is neither decoded nor embedded again."""

import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from vssl.engine import OUTPUTS, Embeddings
from vssl_server.wire.images import Encoded, from_base64

OVERHEAD = 1024
"""Bytes that an entry takes beside its numbers: the key, three array heads, its place in the order."""


class Cache:
    """The answers used last, up to a number of bytes; one for each loaded model, so that none ever gives another's.

    Only the event loop may touch it.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity, self.bytes = capacity, 0
        self._rows: OrderedDict[bytes, Embeddings] = OrderedDict()

    def get(self, key: bytes | None) -> Embeddings | None:
        """The answer for one image, or None."""
        if key is None or key not in self._rows:
            return None
        self._rows.move_to_end(key)
        return self._rows[key]

    def put(self, key: bytes | None, row: Embeddings) -> None:
        """Keep the answer for one image; those that were not used for longest make room for it."""
        if key is None or key in self._rows or _size(row) > self.capacity:
            return
        # A copy: a view would keep its whole batch in memory.
        self._rows[key] = Embeddings(*(np.array(getattr(row, name)) for name in OUTPUTS))
        self.bytes += _size(row)
        while self.bytes > self.capacity:
            self.bytes -= _size(self._rows.popitem(last=False)[1])


def keys_of(images: Sequence[Encoded]) -> list[bytes | None]:
    """SHA-256 of each image file, however it was sent; None for what is no base64."""
    return [_key(image) for image in images]


def _key(image: Encoded) -> bytes | None:
    try:
        data = from_base64(image) if isinstance(image, str) else image
    except binascii.Error:
        return None
    return hashlib.sha256(data).digest()


def _size(row: Embeddings) -> int:
    numbers: int = sum(getattr(row, name).nbytes for name in OUTPUTS)
    return numbers + OVERHEAD
