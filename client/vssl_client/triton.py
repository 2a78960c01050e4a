"""Triton, and whatever else speaks the Open Inference Protocol v2 (`vssl serve` does), through tritonclient.

Only its asynchronous clients are used: the threaded HTTP one is built on gevent and not safe in threads. `Blocking`
is the way to them for callers that wait.
"""

import asyncio
import threading
from collections.abc import Awaitable, Coroutine
from dataclasses import replace
from importlib import import_module
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from vssl.errors import UsageError
from vssl.preprocessing import Preprocessing
from vssl_client.errors import (
    BadAnswer,
    ClientError,
    ConnectionFailed,
    ModelChanged,
    Overloaded,
    RequestRejected,
    ServerFailed,
)
from vssl_client.inputs import decode_all
from vssl_client.options import Options
from vssl_client.result import EmbeddingResult, ModelInfo, all_failed, filled, spread
from vssl_client.steps import Batch, Pixels
from vssl_client.wire import BUNDLE

R = TypeVar("R")
GRPC_STATUS = {
    "NOT_FOUND": 404,
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""HTTP's word for gRPC's; 500 for the others."""
SWAPS = 3
"""Tries to get an answer while no other model was put in place."""


class TritonTransport:
    """One attempt at a request to the models `NAME` and `NAME_image`, from an event loop.

    Args:
        url: address of a server; a port is enough of one, such as `127.0.0.1:8001`.
        options: the client's; `transport` is `triton` for HTTP or `grpc`.

    Raises:
        UsageError: tritonclient is not installed, or `url` is no address.
    """

    def __init__(self, url: str, options: Options) -> None:
        parsed = urlsplit(url if "://" in url else f"http://{url}")
        if parsed.scheme not in ("http", "https", "grpc", "grpcs") or not parsed.hostname:
            raise UsageError(f"{url}: not the address of a server; it must look like 127.0.0.1:8001")
        self._place = parsed.netloc + parsed.path.rstrip("/")
        self._secure = parsed.scheme in ("https", "grpcs")
        self._options, self._grpc = options, options.transport == "grpc"
        self._name = options.model or ""
        try:
            self._library = import_module(f"tritonclient.{'grpc' if self._grpc else 'http'}.aio")
            self._error: type[Exception] = import_module("tritonclient.utils").InferenceServerException
            self._lost = OSError if self._grpc else (OSError, import_module("aiohttp").ClientError)
        except ModuleNotFoundError as error:
            raise UsageError(
                f"transport {options.transport} needs {error.name}, which is not installed: pip install 'vssl[triton]'"
            ) from error
        self._client: Any = None
        self._most: int | None = None
        self._bundle: str | None = None

    async def model(self) -> ModelInfo:
        """What the configuration of `NAME` says.

        Raises:
            ClientError: as for `embed`.
        """
        config = await self._config()
        metadata = await self._ask("get_model_metadata", self._name, **self._as_json())
        try:
            version = max(map(str, metadata["versions"]), key=lambda text: (len(text), text))
            about = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
            size = int(config["input"][0]["dims"][0])
            dimension = next(int(output["dims"][0]) for output in config["output"] if output["name"] == "embedding")
            told = "vssl_crop" in about
            how = Preprocessing(size, float(about["vssl_crop"]), about["vssl_interpolation"]) if told else None
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
            raise BadAnswer(f"{self._place}: the model {self._name} is not one that `vssl export` wrote") from error
        return ModelInfo(self._name, version, about.get(BUNDLE, f"{self._name}/{version}"), dimension, size, how)

    async def embed(self, batch: Batch) -> EmbeddingResult:
        """Embed at least one image.

        The protocol refuses a request for one bad image. Then the images are decoded here, which tells the bad ones
        and why, and the others are sent again.

        Raises:
            ConnectionFailed, Overloaded, ServerFailed, RequestRejected, BadAnswer: see there; a batch that is larger
                than the model's largest is rejected with status 413 before it is sent.
        """
        if self._most is None:
            self._most, self._bundle = _batch_and_bundle(await self._config())
        if len(batch) > self._most:
            raise RequestRejected(f"{self._place}: {self._name} takes {self._most} images at a time", 413)
        if isinstance(batch, Pixels):
            return await self._infer(self._name, batch.array, "UINT8")
        try:
            return await self._infer(f"{self._name}_image", _column(batch), "BYTES")
        except RequestRejected as rejected:
            if rejected.status not in (400, 422):
                raise
            _, errors = await asyncio.to_thread(decode_all, batch, Preprocessing(1))
            good = [image for image, error in zip(batch, errors, strict=True) if error is None]
            if len(good) == len(batch):
                raise
        if not good:
            model = await self.model()
            return all_failed(errors, model.name, model.version, model.dimension, self._bundle)
        return spread(await self._infer(f"{self._name}_image", _column(good), "BYTES"), errors)

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None  # gRPC's thread ends with the last channel, so keep none
        if client is not None:
            await client.close()

    async def _config(self) -> dict[str, Any]:
        answer = await self._ask("get_model_config", self._name, **self._as_json())
        config: dict[str, Any] = answer.get("config", answer)
        return config

    async def _infer(self, model: str, images: Any, datatype: str) -> EmbeddingResult:  # noqa: ANN401 — an array
        """Embed, and know by which bundle.

        A real Triton's answers don't name it, only its model's configuration does. That is read before and after, and
        an answer that came while it changed is not used.
        """
        for _ in range(SWAPS):
            before = self._bundle
            result = await self._infer_once(model, images, datatype)
            if result.bundle_id is not None:
                return result
            self._most, self._bundle = _batch_and_bundle(await self._config())
            if self._bundle == before:
                return replace(result, bundle_id=before)
        raise ModelChanged(f"{self._place}: the model {self._name} changes all the time; embed again when it rests")

    async def _infer_once(self, model: str, images: Any, datatype: str) -> EmbeddingResult:  # noqa: ANN401 — an array
        tensor = self._library.InferInput("image", list(images.shape), datatype)
        tensor.set_data_from_numpy(images)
        gzip = self._options.compression
        packed = {"compression_algorithm" if self._grpc else "request_compression_algorithm": gzip} if gzip else {}
        answer = await self._ask("infer", model, inputs=[tensor], **packed)
        try:
            found = answer.get_response()
            version = found.model_version if self._grpc else found["model_version"]
            told = found.parameters if self._grpc else found.get("parameters") or {}
            embedding, variance, uncertainty = map(answer.as_numpy, ("embedding", "variance", "uncertainty"))
            if not len(embedding) == len(variance) == len(uncertainty) == len(images):
                raise ValueError("a row for each image was asked for")
            bundle = None
            if BUNDLE in told:
                bundle = told[BUNDLE].string_param if self._grpc else str(told[BUNDLE])
            none = [None] * len(images)
            return filled(none, self._name, str(version), embedding, variance, uncertainty[:, 0], bundle_id=bundle)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise BadAnswer(f"{self._place}: {model} gave no valid answer ({error})") from error

    async def _ask(self, method: str, model: str, **arguments: Any) -> Any:  # noqa: ANN401 — each method has its own
        if self._client is None:  # here, for it wants the loop that it will run in
            self._client = self._connected()
        try:
            async with asyncio.timeout(self._options.timeout):
                asked: Awaitable[Any] = getattr(self._client, method)(
                    model, headers=self._options.headers(), **arguments
                )
                return await asked
        except TimeoutError as error:
            raise ConnectionFailed(f"{self._place}: no answer in time") from error
        except self._error as error:
            raise self._failure(error) from error
        except ValueError as error:
            raise BadAnswer(f"{self._place}: no valid answer ({error}); is it an inference server?") from error
        except self._lost as error:
            raise ConnectionFailed(f"{self._place}: {error or type(error).__name__}; is the server running?") from error

    def _connected(self) -> Any:  # noqa: ANN401 — of an optional library
        create = self._library.InferenceServerClient
        if self._grpc:
            return create(self._place, ssl=self._secure)
        return create(
            self._place, ssl=self._secure, conn_limit=self._options.connections, conn_timeout=self._options.timeout
        )

    def _as_json(self) -> dict[str, bool]:
        return {"as_json": True} if self._grpc else {}

    def _failure(self, error: Any) -> ClientError:  # noqa: ANN401 — of an optional library
        word = str(error.status() or "").removeprefix("StatusCode.")
        status = int(word) if word.isdigit() else GRPC_STATUS.get(word, 500)
        message = f"{self._place} answers {word}: {error.message()}"
        if status == 429 and "larger than max" in message:
            return RequestRejected(message, 413)
        if status in (429, 503):
            # gRPC says UNAVAILABLE of a server that is not there, too.
            return Overloaded(message, status, None)
        if status >= 500:
            return ServerFailed(message, status)
        return RequestRejected(message, status)


class Blocking:
    """A TritonTransport for threads that wait: it runs in an event loop in a thread of its own."""

    def __init__(self, transport: TritonTransport) -> None:
        self._transport = transport
        self._loop = asyncio.new_event_loop()
        # A daemon: an answer that never comes must not keep the process from ending.
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def model(self) -> ModelInfo:
        """As `TritonTransport.model`."""
        return self._wait(self._transport.model())

    def embed(self, batch: Batch) -> EmbeddingResult:
        """As `TritonTransport.embed`."""
        return self._wait(self._transport.embed(batch))

    def close(self) -> None:
        """Close the connections and end the threads."""
        if self._loop.is_closed():
            return
        self._wait(self._transport.close())
        self._wait(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _batch_and_bundle(config: dict[str, Any]) -> tuple[int, str | None]:
    """A model's largest batch, and the id of its bundle."""
    about = config.get("parameters", {}).get(BUNDLE)
    return int(config.get("max_batch_size", 0)) or 1, None if about is None else str(about["string_value"])


def _column(images: Any) -> Any:  # noqa: ANN401 — numpy has no type for arrays of bytes of any length
    return np.array(list(images), np.object_).reshape(-1, 1)
