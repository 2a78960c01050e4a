"""A folder of images into a gallery: like `vssl embed`, with a gallery in the place of parts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

import pyarrow as pa

from vssl.errors import UsageError
from vssl.sources.source import Source
from vssl_client.embedding.batches import MAX_BYTES, MAX_IMAGES, chunked, explained
from vssl_client.embedding.contract import Embedder
from vssl_client.embedding.pipeline import ordered
from vssl_client.folder.contract import SHOWN_FAILURES, SILENT, Reporter, Summary
from vssl_client.folder.reading import ImageFile, Reader
from vssl_client.galleries.rows import Fields, check_fields_of, gallery_rows, picture, unfit
from vssl_gallery.gallery import Gallery

TOGETHER = 512
"""Rows that are written in one call: each call costs a commit."""


@dataclass(frozen=True)
class Added:
    """A batch of images on its way into a gallery: its rows, and path and reason of each image that has none."""

    images: int
    rows: pa.Table
    failures: list[tuple[str, str]]


@dataclass
class Filled(Summary):
    """What a job did, and the paths in the metadata that no image of the source has."""

    unmatched: list[str] = field(default_factory=list)


def add_images(
    source: Source,
    gallery: Gallery,
    embedder: Embedder,
    *,
    metadata: Mapping[str, Fields] | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Filled:
    """Embed the images that the gallery does not have yet, by their paths, and put them into it.

    Stopped at any moment and run again, it goes on. Images that fail are tried again each time.

    Args:
        source: the images.
        gallery: of the embedder's encoder.
        embedder: tells the model, and embeds.
        metadata: fields of each image by its path. Images that are there already keep theirs, without `overwrite`.
        overwrite: embed the images that are there already, too.
        reporter: hears how far the job is.

    Raises:
        EncoderMismatch: the gallery is of another encoder.
        UsageError: the source has no images.
        InvalidRows: a field of the metadata is none that the gallery takes; nothing was embedded.
        ClientError, GalleryError: the embedder or the store failed; what was written stays.
    """
    encoder = embedder.model().encoder_id
    if encoder is None:
        raise UsageError("the server does not say of which encoder its model is; it is too old for galleries")
    gallery.check_encoder(encoder)
    summary, known = Filled(), metadata or {}
    check_fields_of(known, gallery.spec)
    reader = Reader(source, embedder.max_image_bytes())
    unmatched = set(known)
    todo = _missing(source, gallery, overwrite, summary, unmatched, reporter)
    waiting: list[pa.Table] = []

    def work(paths: list[str]) -> Added:
        return _embedded(reader, embedder, gallery, paths, [known.get(path, {}) for path in paths])

    with ordered(work, todo, embedder.in_flight) as batches:
        for added in batches:
            summary.new += added.images
            summary.failed += len(added.failures)
            summary.failures += added.failures[: SHOWN_FAILURES - len(summary.failures)]
            waiting.append(added.rows)
            if sum(rows.num_rows for rows in waiting) >= TOGETHER:
                summary.embedded += _put(gallery, waiting)
            reporter.advance(added.images, len(added.failures))
    summary.embedded += _put(gallery, waiting)
    summary.unmatched = sorted(unmatched)
    summary.passed_over = dict(source.passed_over.counts.most_common())
    summary.unreadable = dict(source.passed_over.unreadable)
    return summary


def _missing(
    source: Source, gallery: Gallery, overwrite: bool, summary: Summary, unmatched: set[str], reporter: Reporter
) -> Iterator[list[str]]:
    """The paths to embed, in batches. Those that the gallery has are counted as embedded; `unmatched` loses all."""
    rest = iter(source.paths())
    none = True
    while some := list(islice(rest, TOGETHER)):
        none = False
        unmatched.difference_update(some)
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
    """The rows of those that can be rows, and path and reason of each of the others."""
    images = [(file.data, file.problem) for file in files]
    result = explained(embedder.embed_batch([data for data, _ in images]), images)
    reasons = [
        unfit(file, known) if error is None else error.reason
        for file, known, error in zip(files, fields, result.errors, strict=True)
    ]
    good = [row for row, reason in enumerate(reasons) if reason is None]
    kept = [files[row] for row in good]
    pictures = [picture(file.data, gallery.spec.keep_thumbnails) for file in kept]
    rows = gallery_rows(kept, pictures, result[good], [fields[row] for row in good], gallery.spec)
    return rows, [(file.path, reason) for file, reason in zip(files, reasons, strict=True) if reason is not None]


def _put(gallery: Gallery, waiting: list[pa.Table]) -> int:
    """Write the rows that wait; how many they were."""
    rows = pa.concat_tables(waiting) if waiting else None
    waiting.clear()
    if rows is None or not rows.num_rows:
        return 0
    gallery.add(rows)
    return int(rows.num_rows)
