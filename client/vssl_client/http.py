"""A server's own HTTP interface over httpx2: one attempt at a request, in a thread or in an event loop."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2

from vssl.errors import UsageError
from vssl_client import retry, wire
from vssl_client.errors import BadAnswer, ConnectionFailed, Overloaded, RequestRejected, ServerFailed
from vssl_client.options import Options
from vssl_client.result import EmbeddingResult, ModelInfo
from vssl_client.steps import Batch, Pixels


@dataclass(frozen=True)
class _Asked:
    method: str
    url: str
    body: bytes | None = None
    headers: dict[str, str] | None = None


class HttpTransport:
    """Requests from threads.

    Args:
        url: address of a server.
        options: the client's.

    Raises:
        UsageError: `url` is not an http(s) address.
    """

    def __init__(self, url: str, options: Options) -> None:
        self._requests = _Requests(url, options)
        self._http = httpx2.Client(**self._requests.settings)

    def model(self) -> ModelInfo:
        """The model that answers.

        Raises:
            UsageError: the server has none of that name.
            ClientError: as for `embed`.
        """
        return self._requests.read_model(self._send(self._requests.model()))

    def embed(self, batch: Batch) -> EmbeddingResult:
        """Embed at least one image; a bad one has its error in its row.

        Raises:
            ConnectionFailed, Overloaded, ServerFailed, RequestRejected, BadAnswer: see there.
        """
        return self._requests.read(self._send(self._requests.embed(batch)), batch)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _send(self, asked: _Asked) -> httpx2.Response:
        request = self._http.build_request(asked.method, asked.url, content=asked.body, headers=asked.headers)
        with _failures(request):
            return _checked(self._http.send(request))


class AsyncHttpTransport:
    """The same from an event loop."""

    def __init__(self, url: str, options: Options) -> None:
        self._requests = _Requests(url, options)
        self._http = httpx2.AsyncClient(**self._requests.settings)

    async def model(self) -> ModelInfo:
        """As `HttpTransport.model`."""
        return self._requests.read_model(await self._send(self._requests.model()))

    async def embed(self, batch: Batch) -> EmbeddingResult:
        """As `HttpTransport.embed`."""
        return self._requests.read(await self._send(self._requests.embed(batch)), batch)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, asked: _Asked) -> httpx2.Response:
        request = self._http.build_request(asked.method, asked.url, content=asked.body, headers=asked.headers)
        with _failures(request):
            return _checked(await self._http.send(request))


class _Requests:
    """What is asked for, and what the answers say, whoever carries them."""

    def __init__(self, url: str, options: Options) -> None:
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise UsageError(f"{url}: not a valid address ({error})") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise UsageError(f"{url}: not the address of a server; it must look like http://127.0.0.1:8000")
        self._url, self._compression, self._model = url.rstrip("/"), options.compression, options.model
        self._embed = wire.EMBED if self._model is None else f"{wire.EMBED}&model={quote(self._model, safe='')}"
        self.settings: dict[str, Any] = {
            "headers": options.headers(),
            "timeout": httpx2.Timeout(options.timeout, connect=min(options.timeout, 5.0)),
            # None waits for a place: `Client` has no more requests under way than these, but embed may run many times.
            "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=options.connections),
        }

    def model(self) -> _Asked:
        return _Asked("GET", self._url + wire.MODELS)

    def embed(self, batch: Batch) -> _Asked:
        if isinstance(batch, Pixels):
            path, (body, headers) = wire.INFER.format(batch.model), wire.tensor_body(batch.array)
        else:
            path, (body, headers) = self._embed, wire.embed_body(batch)
        if self._compression == "gzip":
            body, headers["Content-Encoding"] = gzip.compress(body, compresslevel=1), "gzip"
        return _Asked("POST", self._url + path, body, headers)

    def read_model(self, response: httpx2.Response) -> ModelInfo:
        return wire.read_model(response.content, self._model)

    def read(self, response: httpx2.Response, batch: Batch) -> EmbeddingResult:
        if isinstance(batch, Pixels):
            return wire.read_tensors(
                response.content, response.headers.get(wire.HEADER_LENGTH), batch.model, len(batch)
            )
        return wire.read_embeddings(response.content, len(batch))


def _checked(response: httpx2.Response) -> httpx2.Response:
    """An answer with status 200."""
    status = response.status_code
    if status == 200:
        return response
    text, kind, code = wire.read_problem(response.content)
    message = f"{_place(response.request)} answers {status}: {text}"
    if status in (429, 503):
        raise Overloaded(message, status, retry.parse_retry_after(response.headers.get("Retry-After")))
    if status >= 500:
        raise ServerFailed(message, status)
    raise RequestRejected(message, status, kind, code)


@contextmanager
def _failures(request: httpx2.Request) -> Iterator[None]:
    """httpx2's errors as ours."""
    try:
        yield
    except httpx2.TimeoutException as error:
        raise ConnectionFailed(f"{_place(request)}: no answer in time ({type(error).__name__})") from error
    except httpx2.TransportError as error:
        raise ConnectionFailed(f"{_place(request)}: {error or type(error).__name__}; is the server running?") from error
    except httpx2.HTTPError as error:
        raise BadAnswer(f"{_place(request)}: {error}") from error


def _place(request: httpx2.Request) -> httpx2.URL:
    return request.url.copy_with(userinfo=b"", query=None)
