"""A folder of images into a gallery: like `vssl embed`, with a gallery in the place of parts."""

from collections.abc import Iterator, Mapping
from itertools import islice

from vssl.errors import UsageError
from vssl.sources.source import Source
from vssl_client.embedding.batches import MAX_IMAGES, chunked
from vssl_client.filling.contract import Filled, Target, Way, spec_of
from vssl_client.filling.describing import Known, check_known
from vssl_client.folder.contract import SHOWN_FAILURES, SILENT, Reporter, Summary
from vssl_client.galleries.blocking import Gallery

TOGETHER = 512
"""Paths that the gallery is asked for in one call."""


def add_images(
    source: Source,
    gallery: Gallery,
    way: Way,
    *,
    metadata: Mapping[str, Known] | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Filled:
    """Embed the images that the gallery does not have yet, by their paths, and put them into it.

    Stopped at any moment and run again, it goes on. Images that fail are tried again each time.

    Args:
        source: the images.
        gallery: of the encoder that embeds.
        way: what reads, embeds and writes.
        metadata: fields of each image by its path. Images that are there already keep theirs, without `overwrite`.
        overwrite: embed the images that are there already, too.
        reporter: hears how far the job is.

    Raises:
        EncoderMismatch: the gallery is of another encoder.
        UsageError: the source has no images.
        InvalidRows: a field of the metadata is none that the gallery takes; nothing was embedded.
        ClientError, GalleryError: what embeds, or the store, failed; what was written stays.
    """
    summary, known, info = Filled(), metadata or {}, gallery.info()
    spec = spec_of(info)
    if way.encoder_id is not None:
        spec.check_encoder(way.encoder_id, info.name)
    check_known(known, spec)
    unmatched = set(known)
    todo = _missing(source, gallery, overwrite, summary, unmatched, reporter)
    with way(todo, Target(spec, known)) as batches:
        for done in batches:
            summary.new += done.images
            summary.embedded += done.written
            summary.failed += len(done.failures)
            summary.failures += done.failures[: SHOWN_FAILURES - len(summary.failures)]
            reporter.advance(done.images, len(done.failures))
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
        there = set() if overwrite else {row.id for row in gallery.rows(some, [])}
        summary.embedded += len(there)
        reporter.advance(len(there), 0)
        yield from chunked([path for path in some if path not in there], MAX_IMAGES)
    if none:
        raise UsageError("the source has no images")
