"""The SDK: images in, arrays out, over HTTP."""

import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Literal, Self

import httpx2

from vssl.errors import UsageError
from vssl_client import retry, wire
from vssl_client.embedder import embed_images
from vssl_client.errors import BadAnswer, ConnectionFailed, ImageRejected, Overloaded, RequestRejected, ServerFailed
from vssl_client.inputs import ImageInput
from vssl_client.result import EmbeddingResult, ModelInfo, all_failed, joined


class Client:
    """A VSSL server. May be used from many threads; close it, or use it in a `with` statement.

    Args:
        url: where the server is, such as `http://127.0.0.1:8000`.
        timeout: seconds without a byte after which an answer counts as lost.
        retries: further tries after a lost connection, 429 or a 5xx, with growing pauses; Retry-After is honoured.
        api_key: sent as a bearer token.

    Raises:
        UsageError: `url` is not an http(s) address.
    """

    in_flight = 4

    def __init__(self, url: str, *, timeout: float = 60.0, retries: int = 5, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._retries = retries
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        try:
            parsed = httpx2.URL(self.url)
        except httpx2.InvalidURL as error:
            raise UsageError(f"{url}: not a valid address ({error})") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise UsageError(f"{url}: not the address of a server; it must look like http://127.0.0.1:8000")
        limits = httpx2.Limits(max_connections=None)
        self._http = httpx2.Client(headers=headers, timeout=httpx2.Timeout(timeout, connect=5.0), limits=limits)

    def model(self) -> ModelInfo:
        """The model that the server answers with now.

        Raises:
            ClientError: as for `embed`.
        """
        return wire.read_model(self._request("GET", wire.MODELS))

    def embed(self, images: Iterable[ImageInput], *, on_error: Literal["raise", "return"] = "raise") -> EmbeddingResult:
        """Embed images, several requests at a time; the rows come back in the order of the images.

        Args:
            images: paths, encoded bytes, PIL images, or uint8 arrays [H, W, 3] in RGB; any iterable, read as it goes.
            on_error: `raise` the first ImageRejected, or `return` it as that row's item in `errors`.

        Raises:
            ImageRejected: an image can't be embedded and `on_error` is `raise`.
            ConnectionFailed: the server can't be reached, or answers too late, after all retries.
            Overloaded: it has no place for the request, after all retries.
            RequestRejected: it refuses the request.
            ServerFailed: it failed on the request, after all retries.
            BadAnswer: what answers is not a VSSL server.
            ModelChanged: its model changed between two batches.
            TypeError: `images` holds something that is no image at all.
        """
        return embed_images(self, images, on_error)

    def embed_batch(self, images: Sequence[bytes]) -> EmbeddingResult:
        """Embed encoded images in one request; in several if the server finds that one too large.

        Raises:
            ClientError: as for `embed`, but ImageRejected only ever stands in `errors`.
        """
        try:
            answer = self._request("POST", wire.EMBED, *wire.embed_body(images))
            return wire.read_embeddings(answer, len(images))
        except RequestRejected as error:
            if error.status != 413:
                raise
            if len(images) > 1:
                half = len(images) // 2
                return joined([self.embed_batch(images[:half]), self.embed_batch(images[half:])])
            model = self.model()
            refused = ImageRejected("too_many_bytes", str(error))
            return all_failed([refused], model.name, model.version, model.dimension)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, method: str, path: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        """The body of a 200 answer, tried up to 1 + `retries` times."""
        headers = None if content_type is None else {"Content-Type": content_type}
        request = self._http.build_request(method, self.url + path, content=body, headers=headers)
        for attempt in range(self._retries):
            try:
                return self._attempt(request)
            except (ConnectionFailed, Overloaded, ServerFailed) as error:
                time.sleep(retry.pause(attempt, getattr(error, "retry_after", None)))
        return self._attempt(request)

    def _attempt(self, request: httpx2.Request) -> bytes:
        where = request.url.copy_with(userinfo=b"", query=None)
        try:
            response = self._http.send(request)
        except httpx2.TimeoutException as error:
            raise ConnectionFailed(f"{where}: no answer in time ({type(error).__name__})") from error
        except httpx2.TransportError as error:
            raise ConnectionFailed(f"{where}: {error or type(error).__name__}; is the server running?") from error
        except httpx2.HTTPError as error:
            raise BadAnswer(f"{where}: {error}") from error
        status = response.status_code
        if status == 200:
            return response.content
        text, kind, code = wire.read_problem(response.content)
        message = f"{where} answers {status}: {text}"
        if status in (429, 503):
            raise Overloaded(message, status, retry.parse_retry_after(response.headers.get("Retry-After")))
        if status >= 500:
            raise ServerFailed(message, status)
        raise RequestRejected(message, status, kind, code)
