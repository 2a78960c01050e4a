"""Images embedded here, or by another server than the gallery's, and their rows written in few large calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa

from vssl.errors import UsageError
from vssl_client.embedding.batches import explained
from vssl_client.embedding.contract import Embedder
from vssl_client.filling.contract import Done, Failure, Target
from vssl_client.filling.describing import described
from vssl_client.folder.contract import Work
from vssl_client.folder.reading import ImageFile
from vssl_client.galleries.blocking import Gallery
from vssl_client.results.result import EmbeddingResult
from vssl_gallery.images import Picture, image_rows, picture

TOGETHER = 512
"""Rows that are written in one call: each call costs a commit."""


@dataclass(frozen=True)
class Embedded:
    """Some files of a source, without their bytes; the picture and the embedding of each; the files that failed; and
    the precision of the model, where it is known.
    """

    files: list[ImageFile]
    pictures: list[Picture]
    result: EmbeddingResult
    failures: list[Failure]
    precision: str | None = None


def embedded(embedder: Embedder, files: list[ImageFile], thumbnails: bool, precision: str | None) -> Embedded:
    """Embed a batch of files by a model of this precision, None where it is not known, and draw their thumbnails."""
    images = [(file.data, file.problem) for file in files]
    result = explained(embedder.embed_batch([data for data, _ in images]), images)
    failures = [(f.path, e.reason) for f, e in zip(files, result.errors, strict=True) if e is not None]
    good = [row for row, error in enumerate(result.errors) if error is None]
    pictures = [picture(files[row].data, thumbnails) for row in good]
    files = [replace(files[row], data=b"") for row in good]
    return Embedded(files, pictures, result[good], failures, precision)


class EmbedHere:
    """A `Way`: `work` embeds, and the rows are written to `gallery`.

    Raises:
        UsageError: what embeds does not say of which encoder it is.
    """

    def __init__(self, gallery: Gallery, encoder_id: str | None, work: Work[Embedded]) -> None:
        if encoder_id is None:
            raise UsageError("the server does not say of which encoder its model is; it is too old for galleries")
        self.encoder_id: str | None = encoder_id
        self._gallery, self._work = gallery, work

    @contextmanager
    def __call__(self, todo: Iterator[list[str]], target: Target) -> Iterator[Iterator[Done]]:
        """Each chunk in order; rows are written when there are many."""
        with self._work(todo) as batches:
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
    if not good:
        rows = None
    else:
        kept = target.spec.keep_thumbnails
        pictures = [(width, height, small if kept else None) for width, height, small in batch.pictures]
        rows = image_rows(
            [images[row] for row in good],
            [pictures[row] for row in good],
            batch.result[good],
            target.spec,
            batch.precision,
        )
    return rows, [(one.id, reason) for one, reason in zip(images, unfit, strict=True) if reason is not None]
