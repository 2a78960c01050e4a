"""What `Client` and `AsyncClient` share: their settings."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from vssl.errors import UsageError
from vssl_client import steps
from vssl_client.options import Compression, Options, TransportName
from vssl_client.result import EmbeddingResult, ModelInfo
from vssl_client.servers import Servers

T = TypeVar("T")


class ClientBase(ABC, Generic[T]):
    """One or more servers of the same model, each behind a transport `T`; or the default model in this process."""

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        *,
        transport: TransportName = "http",
        model: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        connections: int = 4,
        api_key: str | None = None,
        compression: Compression | None = None,
        resize_locally: bool = False,
    ) -> None:
        """Open nothing yet.

        Args:
            url: where the server is, such as `http://127.0.0.1:8000`; or several. Each request goes to the one with
                the least under way, and what one fails at, another does. With none, the model that comes with vssl
                runs in this process (this needs the extra `server`), and the other options say nothing.
            transport: `http`, VSSL's own interface; `triton` and `grpc`, Triton's over HTTP and over gRPC, which
                Triton and `vssl serve` both have (they need the extra `triton`).
            model: the model's name; needed for `triton` and `grpc`, and by default the server's first one for `http`.
            timeout: seconds without an answer after which it counts as lost.
            retries: further tries after a lost connection, 429 or a 5xx, with growing pauses; Retry-After is honoured.
            connections: requests under way at once at each server.
            api_key: sent as a bearer token.
            compression: `gzip` packs requests: for slow lines, and BMP, TIFF or pixels. JPEG and PNG gain nothing.
            resize_locally: decode here, and send the model's pixels where these are fewer bytes than the files. The
                embeddings are the same; such answers have no calibration.

        Raises:
            UsageError: an option that means nothing, `url` is no address, or the extra is not installed.
        """
        self.urls = [url] if isinstance(url, str) else list(url or ())
        if not self.urls and url is not None:
            raise UsageError("no server: give at least one address")
        self._options = Options(transport, model, timeout, retries, connections, api_key, compression, resize_locally)
        self._transports = [self._in_process()] if url is None else [self._connected(url) for url in self.urls]
        self._servers = Servers(len(self._transports))
        self._known: ModelInfo | None = None

    @property
    def in_flight(self) -> int:
        """How many batches under way at once keep the servers busy."""
        return self._options.connections * len(self._transports)

    @abstractmethod
    def _in_process(self) -> T:
        """The default model in this process, as if it were a server."""

    @abstractmethod
    def _connected(self, url: str) -> T:
        """The way to one server."""

    def _model_steps(self) -> steps.Steps[ModelInfo]:
        return steps.model(self._servers, self._options.retries)

    def _embed_steps(self, images: Sequence[bytes]) -> steps.Steps[EmbeddingResult]:
        if not self._options.resize_locally:
            return (yield from steps.embeddings(self._servers, self._options.retries, images))
        if self._known is None:
            self._known = yield from self._model_steps()
        return (yield from steps.resized(self._servers, self._options.retries, images, self._known))
