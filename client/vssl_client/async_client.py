"""The SDK for event loops: images in, arrays out, and the loop stays free."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import httpx2

from vssl_client.client_base import ClientBase
from vssl_client.embedding.batches import MAX_BYTES, MAX_IMAGES, Chunks, explained, read_batches, read_within
from vssl_client.embedding.contract import OnError
from vssl_client.embedding.pipeline import ordered_async
from vssl_client.embedding.stream import no_rows, placed
from vssl_client.exchange.course import Course
from vssl_client.exchange.splitting import split
from vssl_client.exchange.steps import AskEmbeddings, AskModel, Decode, Here, Pause, Send, Split, Step, Steps
from vssl_client.galleries.looping import AsyncGallery, each
from vssl_client.inputs import ImageInput, Snapshot, check_list, decode_all, is_light, snapshot, weight
from vssl_client.results.assembly import joined
from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult
from vssl_client.transports.blocking import TritonInThread
from vssl_client.transports.contract import AsyncTransport
from vssl_client.transports.http import AsyncHttpTransport
from vssl_client.transports.triton import TritonTransport

if TYPE_CHECKING:
    from vssl.bundle.manifest import Precision  # imports pydantic, which only a bundle here needs

R = TypeVar("R")
AnyIterable = Iterable[ImageInput] | AsyncIterable[ImageInput]


class AsyncClient(ClientBase[AsyncTransport, httpx2.AsyncClient]):
    """`Client` for one event loop; close it, or use it in an `async with` statement.

    >>> import asyncio
    >>> async def main():
    ...     async with AsyncClient(url) as client:
    ...         result = await client.embed(["cat.png", "dog.png"])
    ...         async for batch in client.stream(["cat.png"] * 100):
    ...             print(len(batch))
    ...     return result.embedding.shape
    >>> asyncio.run(main())
    64
    36
    (2, 16)
    """

    async def model(self) -> ModelInfo:
        """As `Client.model`."""
        return await self._run(self._model_steps())

    async def embed(self, images: AnyIterable, *, on_error: OnError = "raise") -> EmbeddingResult:
        """As `Client.embed`; `images` may come asynchronously. Threads read files and encode pixels.

        A plain iterator runs in the loop: use an asynchronous one if it takes long.
        """
        results = [result async for result in self.stream(images, on_error=on_error)]
        return joined(results) if results else no_rows(await self.model())

    def stream(self, images: AnyIterable, *, on_error: OnError = "raise") -> AsyncIterator[EmbeddingResult]:
        """As `Client.stream`."""
        if not isinstance(images, AsyncIterable):
            check_list(images)
        return self._stream(images, on_error)

    async def embed_batch(self, images: Sequence[bytes]) -> EmbeddingResult:
        """As `Client.embed_batch`."""
        return await self._run(self._embed_steps(images))

    async def max_image_bytes(self) -> int:
        """As `Client.max_image_bytes`."""
        return await self._run(self._max_bytes_steps())

    def gallery(self, name: str, *, at: str | os.PathLike[str] | None = None) -> AsyncGallery:
        """As `Client.gallery`; its methods are awaited."""
        return AsyncGallery(self._gallery_steps(name, at), self._run, self.in_flight)

    async def close(self) -> None:
        """Close the connections. Later requests are a UsageError."""
        self._closed = True
        for gallery in self._galleries:
            await asyncio.to_thread(gallery.close)
        for transport in self._transports:
            await transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _in_process(self, precision: "Precision") -> AsyncTransport:
        from vssl_client.transports.in_process import AsyncInProcess  # start-up time: it imports pydantic

        return AsyncInProcess(self._bundle, precision, self._max_bytes_here)

    def _connected(self, url: str) -> AsyncTransport:
        if self._options.transport == "http":
            return AsyncHttpTransport(url, self._options, self._line, self._http_client)
        return TritonInThread(TritonTransport(url, self._options))

    def _place(self) -> AbstractAsyncContextManager[Any]:
        return asyncio.Semaphore(self._options.connections)

    async def _stream(self, images: AnyIterable, on_error: OnError) -> AsyncGenerator[EmbeddingResult, None]:
        done = 0
        async with aclosing(ordered_async(self._embed_each, _chunks(images), self.in_flight)) as batches:
            async for chunk, result in batches:
                yield placed(result, chunk, done, on_error)
                done += len(chunk)

    async def _embed_each(self, chunk: list[Snapshot]) -> tuple[list[Snapshot], EmbeddingResult]:
        loop = asyncio.get_running_loop()

        def max_bytes() -> int:
            return asyncio.run_coroutine_threadsafe(self.max_image_bytes(), loop).result()

        batches = read_batches(chunk, lambda image: read_within(image, max_bytes))
        results = []
        while batch := await asyncio.to_thread(next, batches, None):
            results.append(explained(await self.embed_batch([image for image, _ in batch]), batch))
        return chunk, joined(results)

    async def _run(self, steps: Steps[R]) -> R:
        """Take one step after another to the end."""
        self._check_open()
        course = Course(steps)
        for turn in course:
            with turn:
                turn.answer = await self._do(turn.step)
        return course.result

    async def _do(self, step: Step) -> Any:  # noqa: ANN401 — each step has an answer of its own
        match step:
            case Pause(seconds):
                return await asyncio.sleep(seconds)
            case AskModel(server):
                return await self._transports[server].model()
            case AskEmbeddings(server, batch):
                async with self._places[server]:
                    return await self._transports[server].embed(batch)
            case Decode(images, preprocessing):
                max_bytes = max(self._max_bytes_here, *map(len, images))
                return await asyncio.to_thread(decode_all, images, preprocessing, max_bytes)
            case Split(images, model):
                return await asyncio.to_thread(split, images, model)
            case Send(server, call):
                return await cast(AsyncHttpTransport, self._transports[server]).send(call)
            case Here(work):
                return await asyncio.to_thread(work)


async def _chunks(images: AnyIterable) -> AsyncGenerator[list[Snapshot], None]:
    chunks: Chunks[Snapshot] = Chunks(MAX_IMAGES, MAX_BYTES)
    index = 0
    async for image in each(images):
        # Copying an opened picture decodes it.
        now = snapshot(image, index) if is_light(image) else await asyncio.to_thread(snapshot, image, index)
        index += 1
        if full := chunks.add(now, weight(now)):
            yield full
    if chunks.rest:
        yield chunks.rest
