"""Embed every image of a source into a folder of parts; killed at any moment and run again, it goes on.

Rows are collected in the order of the source and written part by part, each part whole or not at all. What the parts
hold is done; everything else is done again. So nothing is lost and nothing appears twice, whenever the job ends.
"""

from collections.abc import Iterator
from itertools import islice

from vssl.errors import VsslError
from vssl.objects.path import AnyPath
from vssl.sources.source import Source, no_images
from vssl_client.embedding.batches import MAX_IMAGES, chunked
from vssl_client.embedding.contract import Embedder
from vssl_client.folder.checked_writer import CheckedWriter
from vssl_client.folder.contract import EVERYTHING, SILENT, Choice, Plan, Reporter, Summary, Work
from vssl_client.folder.existing.done_paths import DonePaths
from vssl_client.folder.existing.earlier import Earlier
from vssl_client.folder.existing.out_folder import check_folder, checked_parts, is_there, opened
from vssl_client.folder.part_writer import PartWriter
from vssl_client.folder.reading import Reader
from vssl_client.folder.work import embedded_rows, in_threads
from vssl_client.formats.columns import Origin
from vssl_client.formats.contract import Format, FormatName, open_format
from vssl_client.parts.rows import Rows, all_rows


def embed_source(
    source: Source,
    out: AnyPath,
    embedder: Embedder,
    *,
    work: Work[Rows] | None = None,
    format: FormatName = "parquet",
    overwrite: bool = False,
    choice: Choice = EVERYTHING,
    reporter: Reporter = SILENT,
) -> Summary:
    """Embed what `out` does not hold yet, in memory that does not grow with the images.

    Args:
        source: the images.
        out: the folder for the parts, in a store too.
        embedder: tells the model, and embeds in threads here.
        work: embeds with the embedder's model elsewhere, in place of the threads.
        format: what new parts are written in.
        overwrite: first delete the parts that `out` holds.
        choice: what else to embed, and how much.
        reporter: hears how far the job is.

    Raises:
        UsageError: the source is empty; `out` holds something else, or embeddings of another model or source (without
            `overwrite`, which deletes them); another job is writing to it.
        ClientError: the embedder failed for good. What is finished stays, and the next run goes on from there.
        VsslError: a part of an earlier run can't be read.
        OSError: the source can't be listed, or `out` can't be written to.
    """
    origin = _origin(source, embedder)
    summary, written = Summary(), open_format(format)
    work = work or in_threads(source, embedder, embedded_rows)
    with opened(out, written, origin, overwrite) as parts:
        earlier = _earlier(parts, written, source, embedder, summary, choice)
        done = _done(out, earlier)
        summary.changed, summary.changes = earlier.difference.count, earlier.difference.paths
        reporter.begin(summary.embedded + summary.failed, summary.failed)
        writer = CheckedWriter(PartWriter(out, written, origin, parts), embedder, origin, summary, choice.variance)
        _embed_again(earlier, work, reporter, writer)
        left = None if choice.limit is None else choice.limit - summary.new
        todo = chunked(islice(done.missing(source.paths()), left), MAX_IMAGES)
        with work(todo) as batches:
            for rows in batches:
                _report(reporter, rows)
                writer.add(rows)
            writer.finish()
    summary.passed_over = dict(source.passed_over.counts.most_common())
    summary.unreadable = dict(source.passed_over.unreadable)
    return summary


def plan(
    source: Source,
    out: AnyPath,
    embedder: Embedder,
    *,
    format: FormatName = "parquet",
    overwrite: bool = False,
    choice: Choice = EVERYTHING,
) -> Plan:
    """What `embed_source` would do; nothing is written.

    Raises:
        UsageError: as there.
        VsslError: a part of an earlier run can't be read.
    """
    origin = _origin(source, embedder)
    summary, written = Summary(), open_format(format)
    check_folder(out, written)
    parts = checked_parts(out, written, origin) if is_there(out) and not overwrite else []
    earlier = _earlier(parts, written, source, embedder, summary, choice)
    done = _done(out, earlier)
    images = 0

    def counted() -> Iterator[str]:
        nonlocal images
        for path in source.paths():
            images += 1
            yield path

    again = sum(len(some.rows) for some in earlier.again)
    to_embed = again + sum(1 for _ in done.missing(counted()))
    if choice.limit is not None:
        to_embed = min(to_embed, choice.limit)
    return Plan(images, summary.embedded + summary.failed + again, summary.failed, to_embed)


def _origin(source: Source, embedder: Embedder) -> Origin:
    if next(source.paths(), None) is None:
        raise no_images(source)
    model = embedder.model()
    return Origin(model.name, model.version, model.id, source.name, model.dimension, model.encoder_id)


def _earlier(
    parts: list[AnyPath], format: Format, source: Source, embedder: Embedder, summary: Summary, choice: Choice
) -> Earlier:
    reader = Reader(source, embedder.max_image_bytes())
    return Earlier(parts, format, source, reader, summary.add, choice.retry_failed, choice.changed, choice.limit)


def _done(out: AnyPath, earlier: Earlier) -> DonePaths:
    done = DonePaths(earlier.paths())
    if done.repeated:
        raise VsslError(
            f"{out}: {done.repeated:,} images have more than one row; is a part there twice, under two names? "
            "Move the copy out of the folder"
        )
    return done


def _embed_again(earlier: Earlier, work: Work[Rows], reporter: Reporter, writer: CheckedWriter) -> None:
    """Embed rows of earlier parts again. Each of these parts is written anew, whole, or stays as it was."""

    def paths() -> Iterator[list[str]]:
        for again in earlier.again:
            found = earlier.format.read_part(again.part, ["path"])["path"]
            yield from chunked((found[row] for row in again.rows), MAX_IMAGES)

    if not earlier.again:
        return
    with work(paths()) as batches:
        waiting: list[Rows] = []
        for again in earlier.again:
            while sum(map(len, waiting)) < len(again.rows):
                waiting.append(next(batches))
                _report(reporter, waiting[-1])
            together = all_rows(waiting)
            fresh, rest = together[: len(again.rows)], together[len(again.rows) :]
            writer.rewrite(again.part, again.rows, fresh)
            waiting = [rest] if len(rest) else []


def _report(reporter: Reporter, rows: Rows) -> None:
    reporter.advance(len(rows), len(rows) - int(rows.result.ok.sum()))
