"""What `Client` and `AsyncClient` share: their settings."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vssl.errors import UsageError
from vssl.images.decoding import DEFAULT_LIMITS
from vssl.memory import cores
from vssl.objects.address import address_of
from vssl_client.errors import ModelChanged, RequestRejected
from vssl_client.exchange import steps
from vssl_client.exchange.line import Line
from vssl_client.exchange.servers import Servers
from vssl_client.galleries.contract import GallerySteps, Means
from vssl_client.galleries.places import default_address, is_server
from vssl_client.galleries.remote.steps import RemoteSteps
from vssl_client.inputs import Pixmap, decoding_seconds
from vssl_client.options import Compression, Options, Resizing, TransportName
from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult
from vssl_client.transports.network import without_secrets

if TYPE_CHECKING:
    from vssl.bundle.manifest import Precision  # imports pydantic, which only a bundle here needs

T = TypeVar("T")
H = TypeVar("H")

URL, API_KEY = "VSSL_URL", "VSSL_API_KEY"
"""Environment variables: servers, separated by spaces or commas, and the key for them."""

ENVELOPE_BYTES = 1024
"""More than a request of one image holds beside it."""

SWAPS = 3
"""Tries to get an answer to pixels during which the model did not change."""


class ClientBase(ABC, Generic[T, H]):
    """One or more servers of the same model, each behind a transport `T`; or a bundle in this process.

    `H` is the client of httpx2 that may carry the requests.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        *,
        bundle: str | os.PathLike[str] | None = None,
        precision: "Precision" = "fp32",
        transport: TransportName = "http",
        model: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        connections: int = 4,
        api_key: str | None = None,
        compression: Compression | None = None,
        resize_locally: Resizing = "auto",
        max_image_bytes: int | None = None,
        http_client: H | None = None,
    ) -> None:
        """Connect on first use. This function is long because each option has its line.

        Args:
            url: a server, such as `http://127.0.0.1:8000`, or several. Each request goes to the server with the least
                work under way; if it fails there, another server gets it. By default the variable VSSL_URL; without
                that, and without `bundle`, the default model runs in this process (with the extra `server`), and the
                options of a server have no effect.
            bundle: runs in this process in place of a server: a folder, a `.zip`, or an address such as
                `s3://BUCKET/BUNDLE`, which is copied to the user's cache.
            precision: which of the bundle's models to run.
            transport: `http` is VSSL's interface; `triton` and `grpc` are Triton's over HTTP and over gRPC, which
                Triton and `vssl serve` both have (they need the extra `triton`).
            model: the model's name; `triton` and `grpc` need it, `http` takes the server's first model by default.
            timeout: seconds to wait for an answer.
            retries: further tries after a lost connection, 429 or a 5xx, with growing pauses; Retry-After is honoured.
            connections: requests under way at once at each server. None of several servers gets more, not even the
                last one that answers.
            api_key: sent as a bearer token; by default the variable VSSL_API_KEY.
            compression: `gzip` packs requests: for slow lines, and BMP, TIFF or pixels. JPEG and PNG gain nothing.
            resize_locally: decode here, and send the model's pixels where these are fewer bytes than the files. `auto`
                does so once the first answers have shown that the way to the servers takes longer than they do, and
                that decoding here costs less than it saves; over `http` alone. The results are the same.
            max_image_bytes: encoded bytes of the largest image file to read; by default what the server takes, or
                32 MiB in this process.
            http_client: carries the requests of `http` in place of the built-in one: an `httpx2.Client`, or for
                AsyncClient an `httpx2.AsyncClient`, with its own timeouts, proxies and certificates. It stays open.

        Raises:
            UsageError: an option is out of range, `url` is not an address, or the extra is not installed; there is no
                such bundle or precision.
            BundleError: the bundle can't be trusted.
        """
        self.urls = _urls(url, bundle)
        if http_client is not None and (not self.urls or transport != "http"):
            raise UsageError("http_client carries the requests of the transport http to a server, and nothing else")
        self._options = Options(
            transport,
            model,
            timeout,
            retries,
            connections,
            api_key or os.environ.get(API_KEY) or None,
            compression,
            resize_locally,
            max_image_bytes,
        )
        self._line = Line()
        self._bundle = None if bundle is None else Path(bundle)
        self._http_client = http_client
        self._transports = [self._connected(url) for url in self.urls] or [self._in_process(precision)]
        self._servers = Servers(len(self._transports))
        # A single server gets as many requests as the caller has threads.
        alone = len(self._transports) == 1
        self._places = [nullcontext() if alone else self._place() for _ in self._transports]
        self._known: ModelInfo | None = None
        self._galleries: list[GallerySteps] = []
        self._closed = False

    def __repr__(self) -> str:
        name = type(self).__name__
        if not self.urls:
            return (
                f"{name}(bundle={(address_of(self._bundle) or str(self._bundle))!r})" if self._bundle else f"{name}()"
            )
        way = "" if self._options.transport == "http" else f", transport={self._options.transport!r}"
        model = "" if self._options.model is None else f", model={self._options.model!r}"
        return f"{name}({', '.join(repr(without_secrets(url)) for url in self.urls)}{way}{model})"

    def _repr_html_(self) -> str:
        return f"<code>{escape(repr(self))}</code>"

    @property
    def in_flight(self) -> int:
        """How many batches under way at once keep the servers, or this process, busy."""
        return self._options.connections * len(self.urls) or cores() + 1

    @abstractmethod
    def _in_process(self, precision: "Precision") -> T:
        """The bundle in this process, as if it were a server."""

    @abstractmethod
    def _connected(self, url: str) -> T:
        """The way to one server."""

    @abstractmethod
    def _place(self) -> Any:  # noqa: ANN401 — a context manager, asynchronous or not
        """Lets so many `with` blocks, one for each request to a server, run at once."""

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("this client is closed: make a new one")

    def _gallery_steps(self, name: str, at: str | os.PathLike[str] | None) -> GallerySteps:
        self._check_open()
        if at is None and self.urls:
            if len(self.urls) > 1 or self._options.transport != "http":
                raise UsageError("galleries are at one address of a VSSL server: make a client of that one, over http")
            address = without_secrets(self.urls[0])
            return RemoteSteps(name, address, self._servers, self._options.retries, self._max_bytes_here)
        # pyarrow takes long to import, and is an extra.
        try:
            from vssl_client.galleries.embedded.steps import EmbeddedSteps
        except ModuleNotFoundError as error:
            raise UsageError(
                f"galleries need {error.name}, which is not installed: pip install 'vssl[gallery]'"
            ) from error
        address = default_address() if at is None else os.fspath(at)
        if is_server(address):
            raise UsageError(f"galleries at {without_secrets(address)} are a server's: make a client of that address")
        means = Means(self._known_steps, self._embed_steps, self._max_bytes_here)
        found = EmbeddedSteps(name, address, means)
        self._galleries.append(found)
        return found

    @property
    def _max_bytes_here(self) -> int:
        return self._options.max_image_bytes or DEFAULT_LIMITS.max_bytes

    def _model_steps(self) -> steps.Steps[ModelInfo]:
        self._known = yield from steps.model(self._servers, self._options.retries)
        return self._known

    def _known_steps(self) -> steps.Steps[ModelInfo]:
        """The model as last asked for: what is needed of it seldom changes."""
        return self._known or (yield from self._model_steps())

    def _max_bytes_steps(self) -> steps.Steps[int]:
        if self._options.max_image_bytes or not self.urls:
            return self._max_bytes_here
        max_body = (yield from self._known_steps()).max_body_bytes
        return self._max_bytes_here if max_body is None else max(1, max_body - ENVELOPE_BYTES)

    def _embed_steps(self, images: Sequence[bytes]) -> steps.Steps[EmbeddingResult]:
        if self.urls and any(isinstance(image, Pixmap) for image in images):
            most, known = (yield from self._max_bytes_steps()), (yield from self._known_steps())
            if known.preprocessing and any(isinstance(image, Pixmap) and len(image) > most for image in images):
                return (yield from self._pixels_steps(images))
        if (yield from self._resizing_steps(images)):
            return (yield from self._pixels_steps(images))
        if not self._servers.crowded:
            return (yield from steps.embeddings(self._servers, self._options.retries, images))
        known = yield from self._known_steps()
        return (yield from steps.within_limits(self._servers, self._options.retries, images, known))

    def _resizing_steps(self, images: Sequence[bytes]) -> steps.Steps[bool]:
        """Whether these are decoded here."""
        if self._options.resize_locally != "auto":
            return self._options.resize_locally
        if self._line.measured:
            known = yield from self._known_steps()
            files, pixels = sum(map(len, images)), len(images) * known.size**2 * 3
            if known.preprocessing and known.takes_pixels and files > pixels:
                usual = sorted(images, key=len)[len(images) // 2]
                seconds = yield from steps.here(partial(decoding_seconds, usual, known.preprocessing))
                self._line.decide(files, pixels, seconds * len(images))
        return self._line.slow is True

    def _pixels_steps(self, images: Sequence[bytes]) -> steps.Steps[EmbeddingResult]:
        """Embed as pixels. A model that has changed since it was asked for may want others: then draw these anew."""
        retries, files_too = self._options.retries, self._options.resize_locally == "auto"
        known = yield from self._known_steps()
        for _ in range(SWAPS):
            try:
                result = yield from steps.resized(self._servers, retries, images, known, files_too)
                if result.bundle_id in (None, known.id):
                    return result
                known = yield from self._model_steps()
            except RequestRejected:
                before, known = known, (yield from self._model_steps())
                if known.id == before.id:
                    raise
        raise ModelChanged("the model changes all the time; embed again when it rests")


def _urls(url: str | Sequence[str] | None, bundle: str | os.PathLike[str] | None) -> list[str]:
    """The servers; none where a bundle runs in this process.

    Raises:
        UsageError: both are named, or an empty list.
    """
    if url is not None and bundle is not None:
        raise UsageError("url names a server, and bundle what runs in this process: one of the two")
    if url is None and bundle is None:
        return os.environ.get(URL, "").replace(",", " ").split()
    urls = [url] if isinstance(url, str) else list(url or ())
    if not urls and url is not None:
        raise UsageError("no server: give at least one address")
    return urls
