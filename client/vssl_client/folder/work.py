"""The work of a job: files of a source → rows, in threads here; `ray` does it on a cluster."""

from contextlib import closing

from vssl.sources.source import Source
from vssl_client.embedding.batches import MAX_BYTES, MAX_IMAGES, chunked, explained
from vssl_client.embedding.contract import Embedder
from vssl_client.embedding.pipeline import ordered
from vssl_client.folder.contract import Work
from vssl_client.folder.reading import ImageFile, Reader
from vssl_client.parts.rows import Rows, all_rows


def in_threads(source: Source, embedder: Embedder) -> Work:
    """Work done here: as many batches at once as keep the embedder busy."""
    reader = Reader(source, embedder.max_image_bytes())
    return lambda todo: ordered(lambda paths: embed_files(reader, embedder, paths), todo, embedder.in_flight)


def embed_files(reader: Reader, embedder: Embedder, paths: list[str]) -> Rows:
    """Read and embed at least one file of a source, holding about `MAX_BYTES` of them at a time.

    Raises:
        ClientError: they could not be embedded as a whole.
    """

    def embed(files: list[ImageFile]) -> Rows:
        images = [(file.data, file.problem) for file in files]
        return Rows(
            [file.path for file in files],
            [file.sha256 for file in files],
            [file.size for file in files],
            explained(embedder.embed_batch([data for data, _ in images]), images),
            [file.label for file in files],
        )

    with closing(reader.read(paths)) as files:
        return all_rows([embed(batch) for batch in chunked(files, MAX_IMAGES, lambda file: len(file.data), MAX_BYTES)])
