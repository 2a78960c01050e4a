"""Images in any of their forms → results in order, several batches at a time: what `Client.embed` and `.stream` do."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from vssl_client.embedding.batches import MAX_BYTES, MAX_IMAGES, chunked, embed_each, read_within
from vssl_client.embedding.contract import Embedder, OnError
from vssl_client.embedding.pipeline import ordered
from vssl_client.inputs import ImageInput, Snapshot, check_list, name_of, snapshot, weight
from vssl_client.results.assembly import all_failed_by, joined
from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult


def embed_images(embedder: Embedder, images: Iterable[ImageInput], on_error: OnError = "raise") -> EmbeddingResult:
    """Embed images; their rows come back in one result.

    Raises:
        ImageRejected: an image can't be embedded and `on_error` is `raise`.
        ClientError: a batch as a whole could not be embedded.
        TypeError: `images` holds something that is not an image.
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


def no_rows(model: ModelInfo) -> EmbeddingResult:
    """The result of no images, in the model's shape."""
    return all_failed_by([], model)
