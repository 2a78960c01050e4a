"""The work of a job: files of a source → rows, in threads here; `ray` does it on a cluster."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain

from vssl.sources.source import Source
from vssl_client.embedding.batches import MAX_BYTES, MAX_IMAGES, chunked, explained
from vssl_client.embedding.contract import Embedder
from vssl_client.embedding.pipeline import ordered
from vssl_client.folder.contract import Work
from vssl_client.folder.reading import ImageFile, Reader
from vssl_client.parts.rows import Rows, all_rows


def in_threads(source: Source, embedder: Embedder) -> Work:
    """Work done here: as many batches at once as keep the embedder busy.

    Where reads wait for a network they run ahead of all batches: a batch that read its own files would leave the
    network idle while it is embedded.
    """
    reader = Reader(source, embedder.max_image_bytes())
    if source.remote:
        return lambda todo: _read_ahead(reader, embedder, todo)
    return lambda todo: ordered(lambda paths: embed_files(reader, embedder, paths), todo, embedder.in_flight)


def embed_files(reader: Reader, embedder: Embedder, paths: list[str]) -> Rows:
    """Read and embed at least one file of a source, holding about `MAX_BYTES` of them at a time.

    Raises:
        ClientError: they could not be embedded as a whole.
    """
    with closing(reader.read(paths)) as files:
        return all_rows([_embedded(embedder, batch) for batch in _batches(files)])


@contextmanager
def _read_ahead(reader: Reader, embedder: Embedder, todo: Iterator[list[str]]) -> Iterator[Iterator[Rows]]:
    with (
        closing(reader.read(chain.from_iterable(todo))) as files,
        ordered(lambda batch: _embedded(embedder, batch), _batches(files), embedder.in_flight) as rows,
    ):
        yield rows


def _batches(files: Iterable[ImageFile]) -> Iterator[list[ImageFile]]:
    return chunked(files, MAX_IMAGES, lambda file: len(file.data), MAX_BYTES)


def _embedded(embedder: Embedder, files: list[ImageFile]) -> Rows:
    images = [(file.data, file.problem) for file in files]
    return Rows(
        [file.path for file in files],
        [file.sha256 for file in files],
        [file.size for file in files],
        explained(embedder.embed_batch([data for data, _ in images]), images),
        [file.label for file in files],
    )
