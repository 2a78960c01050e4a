"""A gallery for threads."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from vssl.errors import UsageError
from vssl_client.embedding.batches import MAX_BYTES, MAX_IMAGES, chunked
from vssl_client.embedding.contract import OnError
from vssl_client.embedding.pipeline import ordered
from vssl_client.galleries.answers import (
    Added,
    Classification,
    DuplicateGroup,
    GalleryInfo,
    GalleryMap,
    GalleryNames,
    Outlier,
    Row,
    SearchAnswer,
    Written,
)
from vssl_client.galleries.asked import (
    AddOptions,
    ClassifyOptions,
    ClassifyQuery,
    Item,
    SearchOptions,
    SearchQuery,
    Where,
    check_known,
    item,
)
from vssl_client.galleries.contract import GallerySteps, MapMethod, Run
from vssl_client.galleries.putting import joined
from vssl_client.inputs import ImageInput, check_list, weight
from vssl_gallery.store.contract import Progress, no_progress

if TYPE_CHECKING:
    import pyarrow as pa


class Gallery:
    """One gallery, at a server or in a store here; `Client.gallery` makes it. Threads may share it.

    Every method may raise a `GalleryError` of `vssl_gallery.errors`, the same one in both cases; over a server any
    `ClientError` too. A request is repeated as the client's are, if sending it twice does no harm.
    """

    def __init__(self, steps: GallerySteps, run: Run, in_flight: int) -> None:
        self._steps, self._run = steps, run
        self.in_flight = in_flight
        """Batches of images under way at once that keep what embeds busy."""

    @property
    def name(self) -> str:
        """As it was asked for: its own name, or an alias."""
        return self._steps.name

    @property
    def address(self) -> str:
        """Where it lies, without passwords."""
        return self._steps.address

    def names(self) -> GalleryNames:
        """All galleries of its place, and what each alias means."""
        return self._run(self._steps.names())

    def create(self, fields: Mapping[str, str] | None = None, *, keep_thumbnails: bool = True) -> GalleryInfo:
        """Make it, for the embeddings of the client's model, or of the server's first one.

        Args:
            fields: the type of each field of its own: `text`, `integer`, `number`, `boolean` or `time`.
            keep_thumbnails: keep a small picture of each image, drawn anew.

        Raises:
            GalleryExists: the name is taken.
        """
        return self._run(self._steps.create(fields or {}, keep_thumbnails))

    def drop(self) -> None:
        """Remove it with all that it holds."""
        self._run(self._steps.drop())

    def set_alias(self, alias: str) -> None:
        """Let an alias mean this gallery from now on, in one step."""
        self._run(self._steps.set_alias(alias))

    def drop_alias(self, alias: str) -> None:
        """Let an alias mean nothing."""
        self._run(self._steps.set_alias(alias, remove=True))

    def info(self) -> GalleryInfo:
        """Its state now."""
        return self._run(self._steps.info())

    def add(self, images: Iterable[ImageInput], *, on_error: OnError = "raise", **known: Unpack[AddOptions]) -> Added:
        """Embed images and write them, a batch at a time, each in place of the row that has its id.

        Args:
            images: as for `Client.embed`. An image's id is by default its path, or the SHA-256 of its bytes.
            on_error: `raise` the first ImageRejected, `return` it at its place, or `skip` the image. What was written
                stays, and the call may be repeated.
            **known: of each image: `ids`, `labels`, `meta` (any JSON), `fields` (by name).

        Raises:
            ImageRejected: an image can't be embedded, or what is known of it is nothing that the gallery takes (type
                `invalid_row`), and `on_error` is `raise`.
            EncoderMismatch: the gallery is of another encoder than the model.
            UsageError: a list is shorter or longer than the images.
        """
        check_list(images)
        check_known(images, known)
        items = (item(index, image, known) for index, image in enumerate(images))
        batches = chunked(items, MAX_IMAGES, lambda one: weight(one.image), MAX_BYTES)
        parts = []
        with ordered(self.put_images, batches, self.in_flight) as done:
            for part in done:
                parts.append(part)
        return joined(parts, on_error)

    def put_images(self, items: Sequence[Item]) -> Added:
        """Embed and write a batch of images, in one request; those that can't be have their error."""
        return self._run(self._steps.add(items))

    def put(self, rows: "pa.Table") -> Written:
        """Write images that are embedded already, as rows of `vssl_gallery.store.rows.schema`, in one write."""
        return self._run(self._steps.put(rows))

    def search(self, **query: Unpack[SearchOptions]) -> SearchAnswer:
        """The rows nearest to images, vectors or rows; `asked.SearchOptions` has the options.

        Raises:
            UsageError: not exactly one thing is asked.
            ImageRejected: an image can't be embedded.
        """
        return self._run(self._steps.search(SearchQuery(**query)))

    def classify(self, **query: Unpack[ClassifyOptions]) -> Classification:
        """A label for each image, vector or row, and the probability that it is right, or why there is none.

        Raises:
            UsageError: not exactly one thing is asked; the calibration has no such alpha or risk.
            ImageRejected: an image can't be embedded.
        """
        return self._run(self._steps.classify(ClassifyQuery(**query)))

    def rows(self, ids: Sequence[str], columns: Sequence[str] | None = None) -> list[Row]:
        """Rows by id, in their order, without those that are not there; by default all columns but vectors."""
        return self._run(self._steps.rows(ids, columns))

    def images(self, where: Where | None = None, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """All rows that match, by id, a page at a time."""
        after: str | None = None
        while True:
            page = self._run(self._steps.page(after, where, columns))
            yield from page.rows
            after = page.next
            if after is None:
                return

    def change(self, ids: Sequence[str], /, **values: Any) -> Written:  # noqa: ANN401 — a type for each field
        """Set `label` and fields of rows, such as `label="boot", year=2020`; None empties one.

        Rows that are not there are passed over: `rows` counts those that are.
        """
        return self._run(self._steps.change(ids, values))

    def delete(self, *, ids: Sequence[str] | None = None, where: Where | None = None, dry_run: bool = False) -> Written:
        """Delete rows by id, or those that match; with `dry_run` only count them.

        Raises:
            UsageError: both, or neither; an empty filter, which would mean all.
        """
        if (ids is None) == (where is None):
            raise UsageError("delete takes ids or where, one of the two")
        return self._run(self._steps.delete(ids, where, dry_run))

    def count(self, where: Where | None = None) -> int:
        """How many rows match."""
        return self._run(self._steps.counts(None, where))[None]

    def counts(self, by: str, where: Where | None = None) -> dict[Any, int]:
        """Rows by each value of a column of texts, integers or truths: 1,000 values at most, the commonest first."""
        return self._run(self._steps.counts(by, where))

    def duplicates(self, threshold: float = 0.98) -> list[DuplicateGroup]:
        """Groups of rows whose cosine is at least the threshold; of each, which to keep."""
        return self._run(self._steps.duplicates(threshold))

    def outliers(self, count: int = 100) -> list[Outlier]:
        """The rows farthest from all others, the most distant first."""
        return self._run(self._steps.outliers(count))

    def pick(self, count: int = 20, seed: int = 0) -> list[str]:
        """Ids of the rows to label next, the most useful first."""
        return self._run(self._steps.pick(count, seed))

    def map(self, method: MapMethod = "auto", progress: Progress = no_progress) -> GalleryMap:
        """Each row's place in two dimensions. `auto` is a map of `tsne` that a server keeps, else `pca`, at once."""
        return self._run(self._steps.map(method, progress))

    def calibrate(self, progress: Progress = no_progress) -> Mapping[str, Any]:
        """Learn from the labelled rows how likely a match is right: what was measured. A server's job is waited for."""
        return self._run(self._steps.calibrate(progress))

    def maintain(self, progress: Progress = no_progress) -> list[str]:
        """Compact, index, and erase what was deleted: what was done. A server's job is waited for."""
        return self._run(self._steps.maintain(progress))

    def snapshot(self, folder: str | PathLike[str], progress: Progress = no_progress) -> None:
        """Write it to a new folder, on the server's disk if it is a server's."""
        self._run(self._steps.snapshot(str(folder), progress))

    def restore(self, folder: str | PathLike[str], progress: Progress = no_progress) -> int:
        """Make it from a snapshot, on the server's disk if it is a server's; its rows."""
        return self._run(self._steps.restore(str(folder), progress))

    def export(self, out: str | PathLike[str], where: Where | None = None) -> int:
        """Write what is known of rows that match to a .csv, or with the vectors to a .parquet; how many.

        Raises:
            UsageError: the file has another ending.
        """
        return self._run(self._steps.export(Path(out), where))

    def close(self) -> None:
        """Let go of a store's files and connections; the client does so too when it is closed."""
        self._steps.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
