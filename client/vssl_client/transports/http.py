"""VSSL's HTTP interface over httpx2: one attempt at a request, in a thread or in an event loop."""

import asyncio
import gzip
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx2

from vssl_client.errors import BadAnswer, ConnectionFailed, Overloaded, RequestRejected, ServerFailed
from vssl_client.exchange import retry
from vssl_client.exchange.calls import Call
from vssl_client.exchange.line import Line
from vssl_client.exchange.steps import Batch, Pixels
from vssl_client.options import USER_AGENT, Options
from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult
from vssl_client.transports import wire
from vssl_client.transports.network import Address, address, connected
from vssl_client.transports.tracing import REQUEST_ID, traced
from vssl_client.transports.under_way import UnderWay


@dataclass(frozen=True)
class _Request:
    method: str
    url: str
    body: bytes | None = None
    headers: dict[str, str] | None = None


class HttpTransport:
    """Requests from threads.

    Args:
        url: address of a server.
        options: the client's.
        line: is told how long answers to image files took.
        http_client: carries the requests in place of the built-in one, and stays open.

    Raises:
        UsageError: `url` is not an http(s) address, or the proxy or the certificates that the environment names can't
            be used.
    """

    def __init__(self, url: str, options: Options, line: Line, http_client: httpx2.Client | None = None) -> None:
        self._requests = _Requests(url, options, line)
        self._http: httpx2.Client = http_client or self._requests.connected(httpx2.Client)
        # Close last: a connection that another thread opens during `close` would stay open.
        self._under_way = UnderWay(self._http.close if http_client is None else lambda: None)

    def model(self) -> ModelInfo:
        """The model that answers.

        Raises:
            UsageError: the server has no model of that name.
            ClientError: as for `embed`.
        """
        with traced() as request_id:
            return self._requests.read_model(self._send(self._requests.model(), request_id))

    def embed(self, batch: Batch) -> EmbeddingResult:
        """Embed at least one image; a bad one has its error in its row.

        Raises:
            ConnectionFailed, Overloaded, ServerFailed, RequestRejected, BadAnswer: see `vssl_client.errors`.
        """
        with traced() as request_id:
            return self._requests.read(self._send(self._requests.embed(batch), request_id), batch, request_id)

    def send(self, call: Call) -> bytes:
        """The body of the answer; empty where `call.sink` gets it. Errors as for `embed`."""
        with traced() as request_id:
            request = self._requests.built(self._http, self._requests.of(call), request_id)
            with self._under_way, self._requests.failures(request):
                if call.sink is None:
                    return self._requests.checked(self._http.send(request)).content
                with closing(self._http.send(request, stream=True)) as response:
                    if not response.is_success:
                        response.read()
                    for piece in self._requests.checked(response).iter_bytes():
                        call.sink(piece)
            return b""

    def close(self) -> None:
        """Close the connections, once the requests under way have ended."""
        self._under_way.end()

    def _send(self, wanted: _Request, request_id: str) -> httpx2.Response:
        request = self._requests.built(self._http, wanted, request_id)
        with self._under_way, self._requests.failures(request):
            return self._requests.checked(self._http.send(request))


class AsyncHttpTransport:
    """The same from an event loop. Threads make and read the bodies, so the loop stays free."""

    def __init__(self, url: str, options: Options, line: Line, http_client: httpx2.AsyncClient | None = None) -> None:
        self._requests = _Requests(url, options, line)
        self._owned = http_client is None
        self._http: httpx2.AsyncClient = http_client or self._requests.connected(httpx2.AsyncClient)

    async def model(self) -> ModelInfo:
        """As `HttpTransport.model`."""
        with traced() as request_id:
            return self._requests.read_model(await self._send(self._requests.model(), request_id))

    async def embed(self, batch: Batch) -> EmbeddingResult:
        """As `HttpTransport.embed`."""
        with traced() as request_id:
            wanted = await asyncio.to_thread(self._requests.embed, batch)
            response = await self._send(wanted, request_id)
            return await asyncio.to_thread(self._requests.read, response, batch, request_id)

    async def send(self, call: Call) -> bytes:
        """As `HttpTransport.send`; a thread calls the sink."""
        with traced() as request_id:
            request = self._requests.built(self._http, self._requests.of(call), request_id)
            with self._requests.failures(request):
                if call.sink is None:
                    return self._requests.checked(await self._http.send(request)).content
                response = await self._http.send(request, stream=True)
                try:
                    if not response.is_success:
                        await response.aread()
                    async for piece in self._requests.checked(response).aiter_bytes():
                        await asyncio.to_thread(call.sink, piece)
                finally:
                    await response.aclose()
            return b""

    async def close(self) -> None:
        """Close the connections."""
        if self._owned:
            await self._http.aclose()

    async def _send(self, wanted: _Request, request_id: str) -> httpx2.Response:
        request = self._requests.built(self._http, wanted, request_id)
        with self._requests.failures(request):
            return self._requests.checked(await self._http.send(request))


class _Requests:
    """Requests made and answers read, whoever carries them."""

    def __init__(self, url: str, options: Options, line: Line) -> None:
        self._line = line
        self._to: Address = address(url, ("http", "https"), "http://127.0.0.1:8000")
        self._compression, self._model = options.compression, options.model
        self._embed = wire.EMBED if self._model is None else f"{wire.EMBED}&model={quote(self._model, safe='')}"
        self._headers = {"user-agent": USER_AGENT, **self._to.headers, **options.headers()}
        self._settings: dict[str, Any] = {
            "timeout": httpx2.Timeout(options.timeout, connect=min(options.timeout, 5.0)),
            # No request waits for a connection: `Client` limits them, and several threads may call it.
            "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=options.connections),
        }

    def connected(self, kind: Any) -> Any:  # noqa: ANN401 — httpx2.Client or httpx2.AsyncClient
        return connected(kind, self._to, **self._settings)

    def model(self) -> _Request:
        return _Request("GET", self._to.url + wire.MODELS)

    def embed(self, batch: Batch) -> _Request:
        if isinstance(batch, Pixels) and batch.as_images:
            path, (body, headers) = self._embed, wire.array_body(batch.array)
        elif isinstance(batch, Pixels):
            path, (body, headers) = wire.INFER.format(batch.model), wire.tensor_body(batch.array)
        else:
            path, (body, headers) = self._embed, wire.embed_body(batch)
        if self._compression == "gzip":
            body, headers["Content-Encoding"] = gzip.compress(body, compresslevel=1), "gzip"
        return _Request("POST", self._to.url + path, body, headers)

    def of(self, call: Call) -> _Request:
        query = f"?{urlencode(call.params)}" if call.params else ""
        headers = {} if call.body is None else {"Content-Type": call.content_type}
        return _Request(call.method, f"{self._to.url}{call.path}{query}", call.body, headers)

    def built(self, http: httpx2.Client | httpx2.AsyncClient, wanted: _Request, request_id: str) -> httpx2.Request:
        headers = {**self._headers, **(wanted.headers or {}), REQUEST_ID: request_id}
        return http.build_request(wanted.method, wanted.url, content=wanted.body, headers=headers)

    def read_model(self, response: httpx2.Response) -> ModelInfo:
        return wire.read_model(response.content, self._model)

    def read(self, response: httpx2.Response, batch: Batch, request_id: str) -> EmbeddingResult:
        if isinstance(batch, Pixels) and not batch.as_images:
            length = response.headers.get(wire.HEADER_LENGTH)
            return wire.read_tensors(response.content, length, batch.model, len(batch))
        if not isinstance(batch, Pixels):
            spent = response.elapsed.total_seconds()
            self._line.answered(sum(map(len, batch)), spent, response.headers.get("Server-Timing"))
        result = wire.read_embeddings(response.content, len(batch))
        for error in result.errors:
            if error is not None:
                error.request_id = request_id
        return result

    def checked(self, response: httpx2.Response) -> httpx2.Response:
        """The answer, if it is one of success; else the error that it means."""
        status = response.status_code
        if response.is_success:
            return response
        text, kind, code = wire.read_problem(response.content)
        message = f"{self._place(response.request)} answers {status}: {text}"
        if status in (429, 503):
            raise Overloaded(message, status, retry.parse_retry_after(response.headers.get("Retry-After")), code)
        if status >= 500:
            raise ServerFailed(message, status, code)
        raise RequestRejected(message, status, kind, code)

    @contextmanager
    def failures(self, request: httpx2.Request) -> Iterator[None]:
        """Turn httpx2's errors into ours."""
        try:
            yield
        except httpx2.TimeoutException as error:
            place = self._place(request)
            raise ConnectionFailed(f"{place}: no answer in time ({type(error).__name__})") from error
        except httpx2.ProxyError as error:
            place, reason = self._place(request), f"the proxy refuses the connection ({error})"
            raise ConnectionFailed(f"{place}: {reason}; {self._to.advice}") from error
        except httpx2.TransportError as error:
            place, reason = self._place(request), str(error) or type(error).__name__
            raise ConnectionFailed(f"{place}: {reason}; {self._to.advice}") from error
        except httpx2.HTTPError as error:
            raise BadAnswer(f"{self._place(request)}: {error}") from error

    def _place(self, request: httpx2.Request) -> str:
        return f"{request.url.copy_with(query=None)}{self._to.way}"
