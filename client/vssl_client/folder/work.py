"""The work of a job: files of a source → what becomes of them, in threads here; `ray` does it on a cluster."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from typing import TypeVar

from vssl.sources.source import Source
from vssl_client.embedding.batches import MAX_BYTES, MAX_IMAGES, chunked, explained
from vssl_client.embedding.contract import Embedder
from vssl_client.embedding.pipeline import ordered
from vssl_client.folder.contract import Embed, Work
from vssl_client.folder.reading import ImageFile, Reader
from vssl_client.parts.rows import Rows

T = TypeVar("T")


def in_threads(source: Source, embedder: Embedder, embed: Embed[T]) -> Work[T]:
    """Work done here: as many batches at once as keep the embedder busy.

    Where reads wait for a network they run ahead of all batches: a batch that read its own files would leave the
    network idle while it is embedded.
    """
    reader = Reader(source, embedder.max_image_bytes())

    @contextmanager
    def ahead(todo: Iterator[list[str]]) -> Iterator[Iterator[T]]:
        with (
            closing(reader.read(chain.from_iterable(todo))) as files,
            ordered(lambda batch: embed(embedder, batch), _batches(files), embedder.in_flight) as done,
        ):
            yield done

    @contextmanager
    def by_chunk(todo: Iterator[list[str]]) -> Iterator[Iterator[T]]:
        with ordered(lambda paths: embed_paths(reader, embedder, paths, embed), todo, embedder.in_flight) as done:
            yield chain.from_iterable(done)

    return ahead if source.remote else by_chunk


def embed_paths(reader: Reader, embedder: Embedder, paths: list[str], embed: Embed[T]) -> list[T]:
    """Read and embed files of a source, holding about `MAX_BYTES` of them at a time.

    Raises:
        ClientError: they could not be embedded as a whole.
    """
    with closing(reader.read(paths)) as files:
        return [embed(embedder, batch) for batch in _batches(files)]


def _batches(files: Iterable[ImageFile]) -> Iterator[list[ImageFile]]:
    return chunked(files, MAX_IMAGES, lambda file: len(file.data), MAX_BYTES)


def embedded_rows(embedder: Embedder, files: list[ImageFile]) -> Rows:
    """The rows of a part."""
    images = [(file.data, file.problem) for file in files]
    return Rows(
        [file.path for file in files],
        [file.sha256 for file in files],
        [file.size for file in files],
        explained(embedder.embed_batch([data for data, _ in images]), images),
        [file.label for file in files],
    )
