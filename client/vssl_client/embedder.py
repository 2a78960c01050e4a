"""What embeds images, seen from the client: a server, or an engine in this process, through one narrow door."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal, Protocol, TypeVar

from vssl.preprocessing import ImageError
from vssl_client.errors import ImageRejected
from vssl_client.inputs import ImageInput, check_list, encoded, name_of, snapshot, weight
from vssl_client.pipeline import chunked, ordered
from vssl_client.result import EmbeddingResult, ModelInfo, all_failed, joined

MAX_IMAGES = 64
"""Images in one batch: enough that the cost of a request is shared, few enough that batches take turns."""
MAX_BYTES = 8 * 2**20
"""Encoded bytes in one batch; a single larger image goes alone."""

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

    def embed_batch(self, images: Sequence[bytes]) -> EmbeddingResult:
        """Embed at least one encoded image. One that can't be embedded has its error in its row.

        Raises:
            ClientError: the batch as a whole could not be embedded.
        """


def embed_images(
    embedder: Embedder, images: Iterable[ImageInput], on_error: Literal["raise", "return"] = "raise"
) -> EmbeddingResult:
    """Embed images in any of their forms, several batches at a time; what `Client.embed` does, for any embedder.

    Raises:
        ImageRejected: an image can't be embedded and `on_error` is `raise`.
        ClientError: a batch as a whole could not be embedded.
        TypeError: `images` holds something that is no image at all.
    """
    check_list(images)
    inputs = (snapshot(image, index) for index, image in enumerate(images))
    chunks = chunked(inputs, MAX_IMAGES, weight, MAX_BYTES)
    results: list[EmbeddingResult] = []
    done = 0
    with ordered(lambda chunk: (chunk, embed_each(embedder, chunk, encoded)), chunks, embedder.in_flight) as batches:
        for chunk, result in batches:
            for row, error in enumerate(result.errors):
                if error is not None:
                    error.index, error.name = done + row, name_of(chunk[row])
                    if on_error == "raise":
                        raise error
            done += len(chunk)
            results.append(result)
    if any(result.ok.any() for result in results):
        return joined(results)
    model = embedder.model()
    errors = [error for result in results for error in result.errors]
    return all_failed(errors, model.name, model.version, model.dimension)


def embed_each(embedder: Embedder, items: Iterable[T], read: Callable[[T], bytes]) -> EmbeddingResult:
    """Read and embed at least one item, holding no more than about `MAX_BYTES` of encoded images at a time.

    An item that `read` refuses with ImageError or OSError has its error in its row.

    Raises:
        ClientError: a batch as a whole could not be embedded.
    """
    images = (_attempt(item, read) for item in items)
    results = []
    for batch in chunked(images, MAX_IMAGES, lambda pair: len(pair[0]), MAX_BYTES):
        result = embedder.embed_batch([image for image, _ in batch])
        errors = [ours or theirs for (_, ours), theirs in zip(batch, result.errors, strict=True)]
        results.append(replace(result, errors=errors))
    return joined(results)


def _attempt(item: T, read: Callable[[T], bytes]) -> tuple[bytes, ImageRejected | None]:
    # An item that can't be read goes on as an empty image: it keeps its row, and our reason replaces the one it gets.
    try:
        return read(item), None
    except ImageError as error:
        return b"", ImageRejected(error.type, str(error))
    except OSError as error:
        return b"", ImageRejected("unreadable", error.strerror or str(error))
