"""What embeds images, seen from the client: a server, or an engine in this process, through one narrow door."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, Protocol, TypeVar

import numpy as np

from vssl.images.decoding import ImageError
from vssl_client.embedding.pipeline import chunked, ordered
from vssl_client.errors import ImageRejected
from vssl_client.inputs import ImageInput, Snapshot, check_list, encoded, name_of, snapshot, weight
from vssl_client.results.assembly import all_failed, joined
from vssl_client.results.results import EmbeddingResult, ModelInfo

MAX_IMAGES = 64
"""Images in one batch: enough that the cost of a request is shared, few enough that batches take turns."""
MAX_BYTES = 8 * 2**20
"""Encoded bytes in one batch; a single larger image goes alone."""

OnError = Literal["raise", "skip", "return"]
"""What becomes of an image that can't be embedded: an exception, nothing, or a row with its error."""

T = TypeVar("T")


class Embedder(Protocol):
    """Embeds batches of encoded images; may be called from many threads."""

    @property
    def in_flight(self) -> int:
        """How many batches under way at once keep it busy."""

    def model(self) -> ModelInfo:
        """The model that answers now.

        Raises:
            ClientError: the server does not say.
        """

    def max_image_bytes(self) -> int:
        """Encoded bytes of the largest image that it takes.

        Raises:
            ClientError: the server does not say.
        """

    def embed_batch(self, images: Sequence[bytes]) -> EmbeddingResult:
        """Embed at least one encoded image. One that can't be embedded has its error in its row.

        Raises:
            ClientError: the batch as a whole could not be embedded.
        """


def embed_images(embedder: Embedder, images: Iterable[ImageInput], on_error: OnError = "raise") -> EmbeddingResult:
    """Embed images in any of their forms, several batches at a time; what `Client.embed` does, for any embedder.

    Raises:
        ImageRejected: an image can't be embedded and `on_error` is `raise`.
        ClientError: a batch as a whole could not be embedded.
        TypeError: `images` holds something that is no image at all.
    """
    results = list(stream_images(embedder, images, on_error))
    return joined(results) if results else no_rows(embedder.model())


def stream_images(
    embedder: Embedder, images: Iterable[ImageInput], on_error: OnError = "raise"
) -> Iterator[EmbeddingResult]:
    """The same for any number of images, a batch at a time, in memory that does not grow."""
    check_list(images)
    return _stream(embedder, images, on_error)


def _stream(embedder: Embedder, images: Iterable[ImageInput], on_error: OnError) -> Iterator[EmbeddingResult]:
    inputs = (snapshot(image, index) for index, image in enumerate(images))
    chunks = chunked(inputs, MAX_IMAGES, weight, MAX_BYTES)
    done = 0

    def read(image: Snapshot) -> bytes:
        return read_within(image, embedder.max_image_bytes)

    with ordered(lambda chunk: (chunk, embed_each(embedder, chunk, read)), chunks, embedder.in_flight) as batches:
        for chunk, result in batches:
            yield placed(result, chunk, done, on_error)
            done += len(chunk)


def placed(result: EmbeddingResult, images: Sequence[Snapshot], first: int, on_error: OnError) -> EmbeddingResult:
    """A batch's result among all: its first image is number `first`; errors are raised, kept, or left out.

    Raises:
        ImageRejected: an image has no embedding and `on_error` is `raise`.
    """
    for row, error in enumerate(result.errors):
        if error is not None:
            error.index, error.name = first + row, name_of(images[row])
            if on_error == "raise":
                raise error
    result = replace(result, index=np.arange(first, first + len(images)), names=[name_of(image) for image in images])
    return result[result.ok] if on_error == "skip" else result


def read_within(image: Snapshot, max_bytes: Callable[[], int]) -> bytes:
    """The bytes of an image file. How large one may be is asked only where that matters.

    Raises:
        ImageError, OSError: as for `encoded`.
        ClientError: the server does not say how large it may be.
    """
    try:
        return encoded(image)
    except ImageError as error:
        if error.type != "too_many_bytes":
            raise
    return encoded(image, max_bytes())


def no_rows(model: ModelInfo) -> EmbeddingResult:
    """The result of no images, in the model's shape."""
    return all_failed([], model.name, model.version, model.dimension, model.id)


def embed_each(embedder: Embedder, items: Iterable[T], read: Callable[[T], bytes]) -> EmbeddingResult:
    """Read and embed at least one item, holding no more than about `MAX_BYTES` of encoded images at a time.

    An item that `read` refuses with ImageError or OSError has its error in its row.

    Raises:
        ClientError: a batch as a whole could not be embedded.
    """
    return joined(
        [explained(embedder.embed_batch([image for image, _ in batch]), batch) for batch in read_batches(items, read)]
    )


Read = tuple[bytes, ImageRejected | None]
"""An image, and why it could not be read."""


def read_batches(items: Iterable[T], read: Callable[[T], bytes]) -> Iterator[list[Read]]:
    """Batches of bounded size, read as they are taken."""
    return chunked((_attempt(item, read) for item in items), MAX_IMAGES, lambda pair: len(pair[0]), MAX_BYTES)


def explained(result: EmbeddingResult, batch: list[Read]) -> EmbeddingResult:
    """The result of a batch, with our reason for each image that could not be read."""
    return replace(result, errors=[ours or theirs for (_, ours), theirs in zip(batch, result.errors, strict=True)])


def _attempt(item: T, read: Callable[[T], bytes]) -> Read:
    # An item that can't be read goes on as an empty image: it keeps its row, and our reason replaces the one it gets.
    try:
        return read(item), None
    except ImageError as error:
        return b"", ImageRejected(error.type, str(error))
    except OSError as error:
        return b"", ImageRejected("unreadable", error.strerror or str(error))
