"""Embed every image of a source into a folder of parts; killed at any moment and run again, it goes on.

Rows are collected in the order of the source and written part by part, each part whole or not at all. What the parts
hold is done; everything else is done again. So nothing is lost and nothing is there twice, whenever the job ends.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from vssl.errors import VsslError
from vssl.sources.source import Source, no_images
from vssl_client.embedding.batches import MAX_BYTES, MAX_IMAGES, chunked, explained
from vssl_client.embedding.contract import Embedder
from vssl_client.embedding.pipeline import ordered
from vssl_client.errors import ModelChanged
from vssl_client.folder.existing.done_paths import DonePaths
from vssl_client.folder.existing.earlier import Earlier
from vssl_client.folder.existing.out_folder import check_folder, checked_parts, opened
from vssl_client.folder.part_writer import PartWriter
from vssl_client.folder.reading import ImageFile, Reader
from vssl_client.parts.formats import Format, FormatName, open_format
from vssl_client.parts.rows import Origin, Rows, all_rows

SHOWN_FAILURES = 10

Work = Callable[[Iterator[list[str]]], AbstractContextManager[Iterator[Rows]]]
"""What reads and embeds the files of each chunk of paths, and gives their rows in order."""


@dataclass
class Summary:
    """Images with a row in the whole folder, those of earlier runs included; `new` counts those of this run.

    `failures` are the first few, as (path, reason). `changed` counts files, of those that were looked at, that are not
    what was embedded under their name, and `changes` names the first few. `passed_over` counts the source's other files
    by kind, and `unreadable` has the reason for each of its folders or shards that could not be read.
    """

    embedded: int = 0
    failed: int = 0
    new: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    changed: int = 0
    changes: list[str] = field(default_factory=list)
    passed_over: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, paths: Sequence[str], reasons: Sequence[str | None]) -> None:
        """Count rows, each with the reason why it failed, or None."""
        bad = [(paths[row], reason) for row, reason in enumerate(reasons) if reason is not None]
        self.failed += len(bad)
        self.embedded += len(paths) - len(bad)
        self.failures += bad[: SHOWN_FAILURES - len(self.failures)]


@dataclass(frozen=True)
class Plan:
    """What a job would do: images of the source, those with a row, those that failed, those to embed now."""

    images: int
    done: int
    failed: int
    to_embed: int


@dataclass(frozen=True)
class Choice:
    """What of a source is embedded, beside what has no row yet.

    Attributes:
        retry_failed: what failed, once more.
        changed: what has another content than it had; every file is read.
        limit: so many images at most.
        variance: False leaves it out.
    """

    retry_failed: bool = False
    changed: bool = False
    limit: int | None = None
    variance: bool = True


class Reporter:
    """Hears how far a job is; this one keeps it to itself."""

    def begin(self, done: int, failed: int) -> None:
        """The job begins, with what earlier runs have done: images with a row, and how many of them failed."""

    def advance(self, images: int, failed: int) -> None:
        """So many more images are done, so many of them failed."""


SILENT = Reporter()
EVERYTHING = Choice()


def embed_source(
    source: Source,
    out: Path,
    embedder: Embedder,
    *,
    work: Work | None = None,
    format: FormatName = "parquet",
    overwrite: bool = False,
    choice: Choice = EVERYTHING,
    reporter: Reporter = SILENT,
) -> Summary:
    """Embed what `out` does not hold yet, in memory that does not grow with the images.

    Args:
        source: the images.
        out: the folder for the parts.
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
    work = work or in_threads(source, embedder)
    with opened(out, written, origin, overwrite) as parts:
        earlier = _earlier(parts, written, source, embedder, summary, choice)
        done = _done(out, earlier)
        summary.changed, summary.changes = earlier.difference.count, earlier.difference.paths
        reporter.begin(summary.embedded + summary.failed, summary.failed)
        writer = PartWriter(out, written, origin, parts)
        finish = partial(_finish, writer, embedder, origin, summary, choice)
        _embed_again(earlier, origin, work, reporter, finish)
        left = None if choice.limit is None else choice.limit - summary.new
        todo = chunked(islice(done.missing(source.paths()), left), MAX_IMAGES)
        with work(todo) as batches:
            for rows in batches:
                _tell(reporter, rows)
                if writer.add(rows):
                    finish(all_rows(writer.collected))
            if writer.collected:
                finish(all_rows(writer.collected))
    summary.passed_over = dict(source.passed_over.counts.most_common())
    summary.unreadable = dict(source.passed_over.unreadable)
    return summary


def plan(
    source: Source,
    out: Path,
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
    parts = checked_parts(out, written, origin) if out.exists() and not overwrite else []
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


def in_threads(source: Source, embedder: Embedder) -> Work:
    """The work done here: as many batches at once as keep the embedder busy."""
    reader = Reader(source, embedder.max_image_bytes())
    return lambda todo: ordered(lambda paths: embed_files(reader, embedder, paths), todo, embedder.in_flight)


def embed_files(reader: Reader, embedder: Embedder, paths: list[str]) -> Rows:
    """Read and embed some files of a source, at least one, holding about `MAX_BYTES` of them at a time.

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


def _origin(source: Source, embedder: Embedder) -> Origin:
    if next(source.paths(), None) is None:
        raise no_images(source)
    model = embedder.model()
    return Origin(model.name, model.version, model.id, source.name, model.dimension)


def _earlier(
    parts: list[Path], format: Format, source: Source, embedder: Embedder, summary: Summary, choice: Choice
) -> Earlier:
    reader = Reader(source, embedder.max_image_bytes())
    return Earlier(parts, format, source, reader, summary.add, choice.retry_failed, choice.changed, choice.limit)


def _done(out: Path, earlier: Earlier) -> DonePaths:
    done = DonePaths(earlier.paths())
    if done.repeated:
        raise VsslError(
            f"{out}: {done.repeated:,} images have more than one row; is a part there twice, under two names? "
            "Move the copy out of the folder"
        )
    return done


def _embed_again(
    earlier: Earlier, origin: Origin, work: Work, reporter: Reporter, finish: Callable[[Rows, Path, list[int]], None]
) -> None:
    """Embed rows that are there once more, and write their parts anew, each whole or as it was."""

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
                _tell(reporter, waiting[-1])
            together = all_rows(waiting)
            fresh, rest = together[: len(again.rows)], together[len(again.rows) :]
            finish(fresh, again.part, again.rows)
            waiting = [rest] if len(rest) else []


def _tell(reporter: Reporter, rows: Rows) -> None:
    reporter.advance(len(rows), len(rows) - int(rows.result.ok.sum()))


def _finish(
    writer: PartWriter,
    embedder: Embedder,
    origin: Origin,
    summary: Summary,
    choice: Choice,
    rows: Rows,
    part: Path | None = None,
    places: list[int] | None = None,
) -> None:
    """Write rows as the next part, or in their places in an earlier one, if the model is still the folder's.

    The model is asked for before the first image and after the last one of each part, for there are servers whose
    answers carry its name and version, but not the id of its bundle.
    """
    model = embedder.model()
    dimension = rows.result.embedding.shape[1] or origin.dimension
    bundle = rows.result.bundle_id or model.id
    found = (rows.result.model, rows.result.version, dimension, model.id, bundle)
    if found != (origin.model, origin.version, origin.dimension, origin.id, origin.id):
        raise ModelChanged(
            f"the server changed its model from {origin.model} version {origin.version} to {rows.result.model} version "
            f"{rows.result.version} (id {bundle[:12]}); start the old one again, or embed everything with --overwrite"
        )
    if not choice.variance:
        blank = np.full_like(rows.result.variance, np.nan)
        rows = replace(rows, result=replace(rows.result, variance=blank))
    if part is None or places is None:
        writer.write(rows)
    else:
        writer.rewrite(part, places, rows)
    summary.new += len(rows)
    summary.add(rows.paths, rows.reasons)
