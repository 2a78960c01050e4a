"""The SDK for threads: images in, arrays out."""

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import httpx2

from vssl_client.client_base import ClientBase
from vssl_client.embedding.contract import OnError
from vssl_client.embedding.stream import embed_images, stream_images
from vssl_client.exchange.course import Course
from vssl_client.exchange.splitting import split
from vssl_client.exchange.steps import AskEmbeddings, AskModel, Decode, Here, Pause, Send, Split, Step, Steps
from vssl_client.galleries.blocking import Gallery
from vssl_client.inputs import ImageInput, decode_all
from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult
from vssl_client.transports.blocking import BlockingTriton
from vssl_client.transports.contract import Transport
from vssl_client.transports.http import HttpTransport
from vssl_client.transports.triton import TritonTransport

if TYPE_CHECKING:
    from vssl.bundle.manifest import Precision  # imports pydantic, which only a bundle here needs

R = TypeVar("R")


class Client(ClientBase[Transport, httpx2.Client]):
    """A server, or several. May be used from many threads; close it, or use it in a `with` statement.

    >>> with Client(url) as client:
    ...     result = client.embed(["cat.png", "dog.png"])
    >>> result.embedding.shape, result.variance.shape, result.uncertainty.shape
    ((2, 16), (2, 16), (2,))

    An image that can't be embedded is an exception, a row with its error, or left out:

    >>> with Client([url, other_url], timeout=10) as client:
    ...     with_error = client.embed(["cat.png", "notes.txt"], on_error="return")
    ...     without = client.embed(["notes.txt", "cat.png"], on_error="skip")
    >>> with_error.ok, with_error.errors[1].type
    (array([ True, False]), 'not_an_image')
    >>> len(without), without.index
    (1, array([1]))

    Without an address a bundle runs in this process, by default the default model.
    """

    def model(self) -> ModelInfo:
        """The model that answers now.

        Raises:
            ClientError: as for `embed`.
        """
        return self._run(self._model_steps())

    def embed(self, images: Iterable[ImageInput], *, on_error: OnError = "raise") -> EmbeddingResult:
        """Embed images, several requests at a time; the rows come back in the order of the images.

        Args:
            images: paths, data URLs, encoded bytes, open files, PIL images, arrays or tensors (`ImageInput`); any
                iterable, read as it goes.
            on_error: `raise` the first ImageRejected; `return` it in `errors`, at its row; or `skip` the image: then
                the result has fewer rows, and `index` says which images they are.

        Raises:
            ImageRejected: an image can't be embedded and `on_error` is `raise`.
            ConnectionFailed: no server can be reached, or none answers in time, after all retries.
            Overloaded: no server takes the request, after all retries.
            RequestRejected: a server refuses the request.
            ServerFailed: the servers failed on the request, after all retries.
            BadAnswer: the answer is not that of a VSSL server.
            ModelChanged: the model changed between two batches, or the servers have different ones.
            TypeError: `images` holds something that is not an image.
        """
        return embed_images(self, images, on_error)

    def stream(self, images: Iterable[ImageInput], *, on_error: OnError = "raise") -> Iterator[EmbeddingResult]:
        """The same for any number of images: results of up to 64 at a time, in order, in memory that does not grow.

        >>> from itertools import repeat, islice
        >>> with Client(url) as client:
        ...     batches = client.stream(repeat("cat.png"))  # it never ends
        ...     [batch.index.tolist()[0] for batch in islice(batches, 3)]
        [0, 64, 128]
        """
        return stream_images(self, images, on_error)

    def embed_batch(self, images: Sequence[bytes]) -> EmbeddingResult:
        """Embed encoded images in one request, or in several if the server finds one too large.

        Raises:
            ClientError: as for `embed`, but an ImageRejected is always in `errors`.
        """
        return self._run(self._embed_steps(images))

    def max_image_bytes(self) -> int:
        """Encoded bytes of the largest image to read and send: the option, or else what the server takes.

        Raises:
            ClientError: as for `embed`.
        """
        return self._run(self._max_bytes_steps())

    def gallery(self, name: str, *, at: str | os.PathLike[str] | None = None) -> Gallery:
        """A gallery by its name or an alias; nothing is opened or asked yet.

        >>> with Client(bundle=bundle) as client, client.gallery("shoes", at=folder) as shoes:
        ...     made = shoes.create()
        ...     added = shoes.add(["cat.png", "dog.png"], labels=["cat", "dog"])
        ...     found = shoes.search(image="cat.png", k=1, columns=["label"])
        >>> found.results[0].neighbours[0].id, found.results[0].neighbours[0].row.label
        ('cat.png', 'cat')

        Args:
            name: of the gallery.
            at: where galleries lie that this process opens: a folder, `s3://…`, `postgresql://…` or `qdrant://…`; the
                client embeds, and the extra `gallery` is needed. By default they are the server's, or without one they
                lie where the variable VSSL_GALLERIES says, else in a folder among the user's data.

        Raises:
            UsageError: the client has several servers, or one that is no VSSL server: a gallery is at one address. The
                extra is not installed.
        """
        return Gallery(self._gallery_steps(name, at), self._run, self.in_flight)

    def close(self) -> None:
        """Close the connections. Requests under way get their answers; later ones are a UsageError."""
        self._closed = True
        for gallery in self._galleries:
            gallery.close()
        for transport in self._transports:
            transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _in_process(self, precision: "Precision") -> Transport:
        from vssl_client.transports.in_process import InProcess  # start-up time: it imports pydantic

        return InProcess(self._bundle, precision, self._max_bytes_here)

    def _connected(self, url: str) -> Transport:
        if self._options.transport == "http":
            return HttpTransport(url, self._options, self._line, self._http_client)
        return BlockingTriton(TritonTransport(url, self._options))

    def _place(self) -> AbstractContextManager[Any]:
        return threading.BoundedSemaphore(self._options.connections)

    def _run(self, steps: Steps[R]) -> R:
        """Take one step after another to the end."""
        self._check_open()
        course = Course(steps)
        for turn in course:
            with turn:
                turn.answer = self._do(turn.step)
        return course.result

    def _do(self, step: Step) -> Any:  # noqa: ANN401 — each step has an answer of its own
        match step:
            case Pause(seconds):
                return time.sleep(seconds)
            case AskModel(server):
                return self._transports[server].model()
            case AskEmbeddings(server, batch):
                with self._places[server]:
                    return self._transports[server].embed(batch)
            case Decode(images, preprocessing):
                return decode_all(images, preprocessing, max(self._max_bytes_here, *map(len, images)))
            case Split(images, model):
                return split(images, model)
            case Send(server, call):
                return cast(HttpTransport, self._transports[server]).send(call)
            case Here(work):
                return work()
