"""Images embedded here, or by another server than the gallery's, and their rows written in few large calls."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa

from vssl.errors import UsageError
from vssl.sources.source import Source
from vssl_client.embedding.batches import MAX_BYTES, MAX_IMAGES, chunked, explained
from vssl_client.embedding.contract import Embedder
from vssl_client.embedding.pipeline import ordered
from vssl_client.filling.contract import Done, Failure, Target
from vssl_client.filling.describing import described
from vssl_client.folder.reading import ImageFile, Reader
from vssl_client.galleries.blocking import Gallery
from vssl_client.results.assembly import joined
from vssl_client.results.result import EmbeddingResult
from vssl_gallery.images import Picture, image_rows, picture

TOGETHER = 512
"""Rows that are written in one call: each call costs a commit."""


@dataclass(frozen=True)
class Embedded:
    """Some files of a source, without their bytes; the picture and the embedding of each; and the files that failed."""

    files: list[ImageFile]
    pictures: list[Picture]
    result: EmbeddingResult | None
    failures: list[Failure]


Work = Callable[[Iterator[list[str]], bool], AbstractContextManager[Iterator[Embedded]]]
"""Reads and embeds the files of each chunk of paths, in order, with thumbnails or without."""


def embed_files(reader: Reader, embedder: Embedder, paths: Sequence[str], thumbnails: bool) -> Embedded:
    """Read and embed files, no more than about `MAX_BYTES` of them at a time."""
    files, pictures, failures = [], [], []
    results: list[EmbeddingResult] = []
    with closing(reader.read(paths)) as every:
        for batch in chunked(every, MAX_IMAGES, lambda file: len(file.data), MAX_BYTES):
            images = [(file.data, file.problem) for file in batch]
            result = explained(embedder.embed_batch([data for data, _ in images]), images)
            failures += [(f.path, e.reason) for f, e in zip(batch, result.errors, strict=True) if e is not None]
            good = [row for row, error in enumerate(result.errors) if error is None]
            results.append(result[good])
            pictures += [picture(batch[row].data, thumbnails) for row in good]
            files += [replace(batch[row], data=b"") for row in good]
    return Embedded(files, pictures, joined(results) if files else None, failures)


def threads(source: Source, embedder: Embedder) -> Work:
    """The work in threads of this process."""
    reader = Reader(source, embedder.max_image_bytes())

    def work(todo: Iterator[list[str]], thumbnails: bool) -> AbstractContextManager[Iterator[Embedded]]:
        return ordered(lambda paths: embed_files(reader, embedder, paths, thumbnails), todo, embedder.in_flight)

    return work


class EmbedHere:
    """A `Way`: `work` embeds, and the rows are written to `gallery`.

    Raises:
        UsageError: what embeds does not say of which encoder it is.
    """

    def __init__(self, gallery: Gallery, encoder_id: str | None, work: Work) -> None:
        if encoder_id is None:
            raise UsageError("the server does not say of which encoder its model is; it is too old for galleries")
        self.encoder_id: str | None = encoder_id
        self._gallery, self._work = gallery, work

    @contextmanager
    def __call__(self, todo: Iterator[list[str]], target: Target) -> Iterator[Iterator[Done]]:
        """Each chunk in order; rows are written when there are many."""
        with self._work(todo, target.spec.keep_thumbnails) as batches:
            yield self._written(batches, target)

    def _written(self, batches: Iterator[Embedded], target: Target) -> Iterator[Done]:
        waiting: list[pa.Table] = []
        for batch in batches:
            rows, unfit = rows_of(batch, target)
            waiting += [] if rows is None else [rows]
            full = sum(rows.num_rows for rows in waiting) >= TOGETHER
            failures = batch.failures + unfit
            yield Done(len(batch.files) + len(batch.failures), self._put(waiting) if full else 0, failures)
        yield Done(0, self._put(waiting), [])

    def _put(self, waiting: list[pa.Table]) -> int:
        """Write the rows that wait; how many they were."""
        if not waiting:
            return 0
        rows = pa.concat_tables(waiting)
        waiting.clear()
        self._gallery.put(rows)
        return int(rows.num_rows)


def rows_of(batch: Embedded, target: Target) -> tuple[pa.Table | None, list[Failure]]:
    """The rows of the images that the gallery can hold, if any, and the others."""
    images = [described(file, target.known.get(file.path, {}), target.spec) for file in batch.files]
    unfit = [one.unfit(target.spec) for one in images]
    good = [row for row, reason in enumerate(unfit) if reason is None]
    if batch.result is None or not good:
        rows = None
    else:
        pictures = [batch.pictures[row] for row in good]
        rows = image_rows([images[row] for row in good], pictures, batch.result[good], target.spec)
    return rows, [(one.id, reason) for one, reason in zip(images, unfit, strict=True) if reason is not None]
