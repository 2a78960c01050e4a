"""Embeddings by the content of the image file: a file that comes again is neither decoded nor embedded."""

import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from vssl.engine import OUTPUTS, Embeddings
from vssl_server.wire.images import Encoded, from_base64

OVERHEAD = 1024
"""Bytes of an entry beside its numbers: the key, three array heads, its place in the order."""


class Cache:
    """The rows used last, up to `capacity` bytes. Each loaded model has its own, so that none returns another's.

    Only the event loop may touch it.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity, self.bytes = capacity, 0
        self._rows: OrderedDict[bytes, Embeddings] = OrderedDict()

    def get(self, key: bytes | None) -> Embeddings | None:
        """The row of one image, or None."""
        if key is None or key not in self._rows:
            return None
        self._rows.move_to_end(key)
        return self._rows[key]

    def put(self, key: bytes | None, row: Embeddings) -> None:
        """Keep the row of one image; those that were unused for longest make room for it."""
        if key is None or key in self._rows or _size(row) > self.capacity:
            return
        # A copy: a view would keep its whole batch in memory.
        self._rows[key] = Embeddings(*(np.array(getattr(row, name)) for name in OUTPUTS))
        self.bytes += _size(row)
        while self.bytes > self.capacity:
            self.bytes -= _size(self._rows.popitem(last=False)[1])


def keys_of(images: Sequence[Encoded]) -> list[bytes | None]:
    """SHA-256 of each image file, however it was sent; None where it is not base64."""
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
