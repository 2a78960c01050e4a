"""Batches of bounded size: items grouped by number and weight, and images read as their batch is taken."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Generic, TypeVar

from vssl.images.decoding import ImageError
from vssl_client.embedding.contract import Embedder
from vssl_client.errors import ImageRejected
from vssl_client.inputs import Snapshot, encoded
from vssl_client.results.assembly import joined
from vssl_client.results.result import EmbeddingResult

MAX_IMAGES = 64
"""Images in one batch: enough to share the cost of a request, few enough for batches to take turns."""
MAX_BYTES = 8 * 2**20
"""Encoded bytes in one batch; a single larger image goes alone."""

T = TypeVar("T")


class Chunks(Generic[T]):
    """Lists of up to `max_items` that weigh up to `max_weight` together; a heavier item stands alone.

    `rest` is the list that is not full yet.
    """

    def __init__(self, max_items: int, max_weight: int) -> None:
        self.rest: list[T] = []
        self._max_items, self._max_weight, self._weight = max_items, max_weight, 0

    def add(self, item: T, weight: int) -> list[T]:
        """Take one more item. Give the list that is full because the item does not fit into it, or an empty one."""
        full: list[T] = []
        if self.rest and (len(self.rest) == self._max_items or self._weight + weight > self._max_weight):
            full, self.rest, self._weight = self.rest, [], 0
        self.rest.append(item)
        self._weight += weight
        return full


def chunked(
    items: Iterable[T], max_items: int, weigh: Callable[[T], int] = lambda _: 0, max_weight: int = 0
) -> Iterator[list[T]]:
    """`items` in `Chunks`."""
    chunks: Chunks[T] = Chunks(max_items, max_weight)
    for item in items:
        if full := chunks.add(item, weigh(item)):
            yield full
    if chunks.rest:
        yield chunks.rest


Read = tuple[bytes, ImageRejected | None]
"""An image, and why it could not be read."""


def read_batches(items: Iterable[T], read: Callable[[T], bytes]) -> Iterator[list[Read]]:
    """Batches of bounded size, read as they are taken. What `read` refuses is an empty image with its error."""
    return chunked((_attempt(item, read) for item in items), MAX_IMAGES, lambda pair: len(pair[0]), MAX_BYTES)


def explained(result: EmbeddingResult, batch: list[Read]) -> EmbeddingResult:
    """The result of a batch, with our reason for each image that could not be read."""
    return replace(result, errors=[ours or theirs for (_, ours), theirs in zip(batch, result.errors, strict=True)])


def embed_each(embedder: Embedder, items: Iterable[T], read: Callable[[T], bytes]) -> EmbeddingResult:
    """Read and embed at least one item, holding no more than about `MAX_BYTES` of encoded images at a time.

    An item that `read` refuses with ImageError or OSError has its error in its row.

    Raises:
        ClientError: a batch as a whole could not be embedded.
    """
    return joined(
        [explained(embedder.embed_batch([image for image, _ in batch]), batch) for batch in read_batches(items, read)]
    )


def read_within(image: Snapshot, max_bytes: Callable[[], int]) -> bytes:
    """The bytes of an image file. The limit is asked for only if the image is over the usual one.

    Raises:
        ImageError, OSError: as for `encoded`.
        ClientError: the server does not tell its limit.
    """
    try:
        return encoded(image)
    except ImageError as error:
        if error.type != "too_many_bytes":
            raise
    return encoded(image, max_bytes())


def _attempt(item: T, read: Callable[[T], bytes]) -> Read:
    # An unreadable item goes on as an empty image: it keeps its row, and `explained` replaces the error it gets there.
    try:
        return read(item), None
    except ImageError as error:
        return b"", ImageRejected(error.type, str(error))
    except OSError as error:
        return b"", ImageRejected("unreadable", error.strerror or str(error))
