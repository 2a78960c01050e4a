"""A gallery for event loops: each method as that of `Gallery`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from vssl.errors import UsageError
from vssl_client.embedding.batches import MAX_BYTES, MAX_IMAGES, Chunks
from vssl_client.embedding.contract import OnError
from vssl_client.embedding.pipeline import ordered_async
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
from vssl_client.galleries.contract import GallerySteps, MapMethod, RunAsync
from vssl_client.galleries.putting import joined
from vssl_client.inputs import ImageInput, check_list, is_light, weight
from vssl_gallery.store.contract import Progress, no_progress

if TYPE_CHECKING:
    import pyarrow as pa


class AsyncGallery:
    """`Gallery` for one event loop; `AsyncClient.gallery` makes it. Threads read files and wait for a store."""

    def __init__(self, steps: GallerySteps, run: RunAsync, in_flight: int) -> None:
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

    async def names(self) -> GalleryNames:
        """As `Gallery.names`."""
        return await self._run(self._steps.names())

    async def create(self, fields: Mapping[str, str] | None = None, *, keep_thumbnails: bool = True) -> GalleryInfo:
        """As `Gallery.create`."""
        return await self._run(self._steps.create(fields or {}, keep_thumbnails))

    async def drop(self) -> None:
        """As `Gallery.drop`."""
        await self._run(self._steps.drop())

    async def set_alias(self, alias: str) -> None:
        """As `Gallery.set_alias`."""
        await self._run(self._steps.set_alias(alias))

    async def drop_alias(self, alias: str) -> None:
        """As `Gallery.drop_alias`."""
        await self._run(self._steps.set_alias(alias, remove=True))

    async def info(self) -> GalleryInfo:
        """As `Gallery.info`."""
        return await self._run(self._steps.info())

    async def add(
        self,
        images: Iterable[ImageInput] | AsyncIterable[ImageInput],
        *,
        on_error: OnError = "raise",
        **known: Unpack[AddOptions],
    ) -> Added:
        """As `Gallery.add`; `images` may come asynchronously."""
        if not isinstance(images, AsyncIterable):
            check_list(images)
        check_known(images, known)
        parts = []
        async with aclosing(ordered_async(self._add, _batches(images, known), self.in_flight)) as done:
            async for part in done:
                parts.append(part)
        return joined(parts, on_error)

    async def _add(self, items: list[Item]) -> Added:
        return await self._run(self._steps.add(items))

    async def put(self, rows: "pa.Table") -> Written:
        """As `Gallery.put`."""
        return await self._run(self._steps.put(rows))

    async def search(self, **query: Unpack[SearchOptions]) -> SearchAnswer:
        """As `Gallery.search`."""
        return await self._run(self._steps.search(SearchQuery(**query)))

    async def classify(self, **query: Unpack[ClassifyOptions]) -> Classification:
        """As `Gallery.classify`."""
        return await self._run(self._steps.classify(ClassifyQuery(**query)))

    async def rows(self, ids: Sequence[str], columns: Sequence[str] | None = None) -> list[Row]:
        """As `Gallery.rows`."""
        return await self._run(self._steps.rows(ids, columns))

    async def images(self, where: Where | None = None, columns: Sequence[str] | None = None) -> AsyncIterator[Row]:
        """As `Gallery.images`."""
        after: str | None = None
        while True:
            page = await self._run(self._steps.page(after, where, columns))
            for row in page.rows:
                yield row
            after = page.next
            if after is None:
                return

    async def change(self, ids: Sequence[str], /, **values: Any) -> Written:  # noqa: ANN401 — a type for each field
        """As `Gallery.change`."""
        return await self._run(self._steps.change(ids, values))

    async def delete(
        self, *, ids: Sequence[str] | None = None, where: Where | None = None, dry_run: bool = False
    ) -> Written:
        """As `Gallery.delete`."""
        if (ids is None) == (where is None):
            raise UsageError("delete takes ids or where, one of the two")
        return await self._run(self._steps.delete(ids, where, dry_run))

    async def count(self, where: Where | None = None) -> int:
        """As `Gallery.count`."""
        return (await self._run(self._steps.counts(None, where)))[None]

    async def counts(self, by: str, where: Where | None = None) -> dict[Any, int]:
        """As `Gallery.counts`."""
        return await self._run(self._steps.counts(by, where))

    async def duplicates(self, threshold: float = 0.98) -> list[DuplicateGroup]:
        """As `Gallery.duplicates`."""
        return await self._run(self._steps.duplicates(threshold))

    async def outliers(self, count: int = 100) -> list[Outlier]:
        """As `Gallery.outliers`."""
        return await self._run(self._steps.outliers(count))

    async def pick(self, count: int = 20, seed: int = 0) -> list[str]:
        """As `Gallery.pick`."""
        return await self._run(self._steps.pick(count, seed))

    async def map(self, method: MapMethod = "auto", progress: Progress = no_progress) -> GalleryMap:
        """As `Gallery.map`."""
        return await self._run(self._steps.map(method, progress))

    async def calibrate(self, progress: Progress = no_progress) -> Mapping[str, Any]:
        """As `Gallery.calibrate`."""
        return await self._run(self._steps.calibrate(progress))

    async def maintain(self, progress: Progress = no_progress) -> list[str]:
        """As `Gallery.maintain`."""
        return await self._run(self._steps.maintain(progress))

    async def snapshot(self, folder: str | PathLike[str], progress: Progress = no_progress) -> None:
        """As `Gallery.snapshot`."""
        await self._run(self._steps.snapshot(str(folder), progress))

    async def restore(self, folder: str | PathLike[str], progress: Progress = no_progress) -> int:
        """As `Gallery.restore`."""
        return await self._run(self._steps.restore(str(folder), progress))

    async def export(self, out: str | PathLike[str], where: Where | None = None) -> int:
        """As `Gallery.export`."""
        return await self._run(self._steps.export(Path(out), where))

    async def close(self) -> None:
        """As `Gallery.close`."""
        await asyncio.to_thread(self._steps.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _batches(
    images: Iterable[ImageInput] | AsyncIterable[ImageInput], known: AddOptions
) -> AsyncGenerator[list[Item], None]:
    chunks: Chunks[Item] = Chunks(MAX_IMAGES, MAX_BYTES)
    index = 0
    async for image in each(images):
        # Copying an opened picture decodes it.
        one = item(index, image, known) if is_light(image) else await asyncio.to_thread(item, index, image, known)
        index += 1
        if full := chunks.add(one, weight(one.image)):
            yield full
    if chunks.rest:
        yield chunks.rest


async def each(images: Iterable[ImageInput] | AsyncIterable[ImageInput]) -> AsyncGenerator[ImageInput, None]:
    """Each of them, however they come."""
    if isinstance(images, AsyncIterable):
        async for image in images:
            yield image
    else:
        for image in images:
            yield image
