"""A folder of images into a gallery: like `vssl embed`, with a gallery in the place of parts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from vssl.errors import UsageError
from vssl.sources.source import Source
from vssl_client.embedding.batches import MAX_BYTES, MAX_IMAGES, chunked, explained
from vssl_client.embedding.contract import Embedder
from vssl_client.embedding.pipeline import ordered
from vssl_client.folder.contract import SILENT, Reporter, Summary
from vssl_client.folder.reading import ImageFile, Reader
from vssl_client.galleries.rows import Fields, gallery_rows, picture
from vssl_gallery.gallery import Gallery

TOGETHER = 512
"""Rows that are written in one call: each call costs a commit."""


@dataclass(frozen=True)
class Added:
    """A batch of images on its way into a gallery: its rows, and path and reason of each image that has none."""

    images: int
    rows: pa.Table
    failures: list[tuple[str, str]]


def add_images(
    source: Source,
    gallery: Gallery,
    embedder: Embedder,
    *,
    metadata: Mapping[str, Fields] | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Summary:
    """Embed the images that the gallery does not have yet, by their paths, and put them into it.

    Stopped at any moment and run again, it goes on. Images that fail are tried again each time.

    Args:
        source: the images.
        gallery: of the embedder's encoder.
        embedder: tells the model, and embeds.
        metadata: fields of each image by its path.
        overwrite: embed the images that are there already, too.
        reporter: hears how far the job is.

    Raises:
        EncoderMismatch: the gallery is of another encoder.
        UsageError: the source has no images.
        ClientError, GalleryError: the embedder or the store failed; what was written stays.
    """
    encoder = embedder.model().encoder_id
    if encoder is None:
        raise UsageError("the server does not say of which encoder its model is; it is too old for galleries")
    gallery.check_encoder(encoder)
    summary, known = Summary(), metadata or {}
    reader = Reader(source, embedder.max_image_bytes())
    todo = _missing(source, gallery, overwrite, summary, reporter)
    waiting: list[pa.Table] = []

    def work(paths: list[str]) -> Added:
        return _embedded(reader, embedder, gallery, paths, [known.get(path, {}) for path in paths])

    with ordered(work, todo, embedder.in_flight) as batches:
        for added in batches:
            summary.new += added.images
            summary.failed += len(added.failures)
            summary.failures += added.failures[: 10 - len(summary.failures)]
            waiting.append(added.rows)
            if sum(rows.num_rows for rows in waiting) >= TOGETHER:
                summary.embedded += _put(gallery, waiting)
            reporter.advance(added.images, len(added.failures))
    summary.embedded += _put(gallery, waiting)
    summary.passed_over = dict(source.passed_over.counts.most_common())
    summary.unreadable = dict(source.passed_over.unreadable)
    return summary


def _missing(
    source: Source, gallery: Gallery, overwrite: bool, summary: Summary, reporter: Reporter
) -> Iterator[list[str]]:
    """The paths to embed, in batches. Those that the gallery has are counted as embedded."""
    paths: Iterable[str] = source.paths()
    rest = iter(paths)
    none = True
    while some := list(islice(rest, TOGETHER)):
        none = False
        there = set() if overwrite else set(gallery.rows(some)["id"].to_pylist())
        summary.embedded += len(there)
        reporter.advance(len(there), 0)
        yield from chunked([path for path in some if path not in there], MAX_IMAGES)
    if none:
        raise UsageError("the source has no images")


def _embedded(
    reader: Reader, embedder: Embedder, gallery: Gallery, paths: Sequence[str], fields: Sequence[Fields]
) -> Added:
    tables, failures, at = [], [], 0
    with closing(reader.read(paths)) as files:
        for batch in chunked(files, MAX_IMAGES, lambda file: len(file.data), MAX_BYTES):
            table, failed = _rows_of(batch, embedder, gallery, fields[at : at + len(batch)])
            tables.append(table)
            failures += failed
            at += len(batch)
    return Added(len(paths), pa.concat_tables(tables), failures)


def _rows_of(
    files: list[ImageFile], embedder: Embedder, gallery: Gallery, fields: Sequence[Fields]
) -> tuple[pa.Table, list[tuple[str, str]]]:
    images = [(file.data, file.problem) for file in files]
    result = explained(embedder.embed_batch([data for data, _ in images]), images)
    pictures = [picture(data, gallery.spec.keep_thumbnails) for data, _ in images]
    failures = [
        (file.path, error.reason) for file, error in zip(files, result.errors, strict=True) if error is not None
    ]
    return gallery_rows(files, pictures, result, fields, gallery.spec), failures


def _put(gallery: Gallery, waiting: list[pa.Table]) -> int:
    """Write the rows that wait; how many they were."""
    rows = pa.concat_tables(waiting) if waiting else None
    waiting.clear()
    if rows is None or not rows.num_rows:
        return 0
    gallery.add(rows)
    return int(rows.num_rows)
