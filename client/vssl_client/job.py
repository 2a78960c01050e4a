"""Embed every image of a source into a folder of parts; killed at any moment and run again, it goes on.

Rows are collected in the order of the source and written part by part, each part whole or not at all. What the parts
hold is done; everything else is done again. So nothing is lost and nothing is there twice, whenever the job ends.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vssl.errors import UsageError
from vssl.files import locked
from vssl.sources import Source, no_images
from vssl_client.done import DonePaths
from vssl_client.embedder import MAX_IMAGES, Embedder, embed_each
from vssl_client.errors import ModelChanged
from vssl_client.formats import Format, FormatName, open_format, parts_of
from vssl_client.parts import PartWriter
from vssl_client.pipeline import chunked, ordered
from vssl_client.rows import Origin, Rows, all_rows

SHOWN_FAILURES = 10

Work = Callable[[Iterator[list[str]]], AbstractContextManager[Iterator[Rows]]]
"""What reads and embeds the files of each chunk of paths, and gives their rows in order."""


@dataclass
class Summary:
    """Images with a row in the whole folder, those of earlier runs included; `new` counts those of this run.

    `failures` are the first few, as (path, reason). `passed_over` counts the source's other files by kind, and
    `unreadable` has the reason for each of its folders or shards that could not be read.
    """

    embedded: int = 0
    failed: int = 0
    new: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    passed_over: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, paths: Sequence[str], reasons: Sequence[str | None]) -> None:
        """Count rows, each with the reason why it failed, or None."""
        bad = [(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason is not None]
        self.failed += len(bad)
        self.embedded += len(paths) - len(bad)
        self.failures += bad[: SHOWN_FAILURES - len(self.failures)]


class Reporter:
    """Hears how far a job is; this one keeps it to itself."""

    def begin(self, done: int, failed: int) -> None:
        """The job begins, with what earlier runs have done: images with a row, and how many of them failed."""

    def advance(self, images: int, failed: int) -> None:
        """So many more images are done, so many of them failed."""


SILENT = Reporter()


def embed_source(
    source: Source,
    out: Path,
    embedder: Embedder,
    *,
    work: Work | None = None,
    format: FormatName = "parquet",
    overwrite: bool = False,
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
        reporter: hears how far the job is.

    Raises:
        UsageError: the source is empty; `out` holds something else, or embeddings of another model or source (without
            `overwrite`, which deletes them); another job is writing to it.
        ClientError: the embedder failed for good. What is finished stays, and the next run goes on from there.
        VsslError: a part of an earlier run can't be read.
        OSError: the source can't be listed, or `out` can't be written to.
    """
    if next(source.paths(), None) is None:
        raise no_images(source)
    model = embedder.model()
    origin = Origin(model.name, model.version, model.id, source.name, model.dimension)
    summary, written = Summary(), open_format(format)

    def in_threads(todo: Iterator[list[str]]) -> AbstractContextManager[Iterator[Rows]]:
        return ordered(lambda paths: embed_files(source, embedder, paths), todo, embedder.in_flight)

    with _opened(out, written, origin, overwrite) as parts:
        done = DonePaths(_finished(parts, written, summary))
        reporter.begin(summary.embedded + summary.failed, summary.failed)
        writer = PartWriter(out, written, origin, parts)
        todo = chunked((path for path in source.paths() if path not in done), MAX_IMAGES)
        with (work or in_threads)(todo) as batches:
            for rows in batches:
                reporter.advance(len(rows), len(rows) - int(rows.result.ok.sum()))
                if writer.add(rows):
                    _finish_part(writer, embedder, origin, summary)
            _finish_part(writer, embedder, origin, summary)
    summary.passed_over = dict(source.passed_over.counts.most_common())
    summary.unreadable = dict(source.passed_over.unreadable)
    return summary


def embed_files(source: Source, embedder: Embedder, paths: list[str]) -> Rows:
    """Read and embed some files of a source, at least one.

    Raises:
        ClientError: they could not be embedded as a whole.
    """
    files: dict[str, tuple[str, int]] = {}
    most = embedder.max_image_bytes()

    def read(path: str) -> bytes:
        data = source.read(path, most)
        files[path] = hashlib.sha256(data).hexdigest(), len(data)
        return data

    result = embed_each(embedder, paths, read)
    known = [files.get(path, (None, None)) for path in paths]
    return Rows(paths, [sha256 for sha256, _ in known], [size for _, size in known], result)


def _finish_part(writer: PartWriter, embedder: Embedder, origin: Origin, summary: Summary) -> None:
    """Write what is collected, if the model is still the one that the folder belongs to.

    The model is asked for before the first image and after the last one of each part, for there are servers whose
    answers carry its name and version, but not the id of its bundle.
    """
    if not writer.collected:
        return
    model = embedder.model()
    rows = all_rows(writer.collected)
    dimension = rows.result.embedding.shape[1] or origin.dimension
    bundle = rows.result.bundle_id or model.id
    found = (rows.result.model, rows.result.version, dimension, model.id, bundle)
    if found != (origin.model, origin.version, origin.dimension, origin.id, origin.id):
        raise ModelChanged(
            f"the server changed its model from {origin.model} version {origin.version} to {rows.result.model} version "
            f"{rows.result.version} (id {bundle[:12]}); start the old one again, or embed everything with --overwrite"
        )
    writer.write(rows)
    summary.new += len(rows)
    summary.add(rows.paths, rows.reasons)


@contextmanager
def _opened(out: Path, format: Format, origin: Origin, overwrite: bool) -> Iterator[list[Path]]:
    """Make `out` ours for a while, and give the parts that it holds already."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; name a folder")
    out.mkdir(parents=True, exist_ok=True)
    ours = f"part-*{format.SUFFIX}"
    foreign = [entry.name for entry in out.iterdir() if not entry.match(ours) and entry.name[0] not in "._"]
    if foreign:
        raise UsageError(f"{out}: holds something else ({min(foreign)}); name a new folder")
    with locked(out):
        for draft in out.glob(f".{ours}.*.tmp"):  # of a run that was killed
            draft.unlink()
        parts = parts_of(out, format.SUFFIX)
        for part in parts:
            if overwrite:
                part.unlink()
            else:
                _check_origin(part, format.read_origin(part), origin)
        yield [] if overwrite else parts


def _check_origin(part: Path, found: Origin, origin: Origin) -> None:
    if found.id != origin.id:
        raise UsageError(
            f"{part.parent}: holds embeddings of model {found.model} version {found.version} (id {found.id[:12]}), and "
            f"this is {origin.model} version {origin.version} (id {origin.id[:12]}); name a new folder, or --overwrite "
            "deletes them first"
        )
    if found.source != origin.source:
        raise UsageError(
            f"{part.parent}: holds embeddings of {found.source}, and this is {origin.source}; name a new folder, or "
            "--overwrite deletes them first"
        )


def _finished(parts: list[Path], format: Format, summary: Summary) -> Iterator[str]:
    for part in parts:
        paths, reasons = format.read_done(part)
        summary.add(paths, reasons)
        yield from paths
