"""Triton and other servers of the Open Inference Protocol v2, such as `vssl serve`, through tritonclient.

Only its asynchronous clients are used: the threaded HTTP one is built on gevent and not safe in threads.
`vssl_client.transports.blocking` makes them available to threads.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from vssl.errors import UsageError
from vssl.images.decoding import Preprocessing
from vssl_client.errors import (
    BadAnswer,
    ClientError,
    ConnectionFailed,
    ModelChanged,
    Overloaded,
    RequestRejected,
    ServerFailed,
)
from vssl_client.exchange.steps import Batch, Pixels
from vssl_client.inputs import decode_all
from vssl_client.options import USER_AGENT, Options
from vssl_client.results.assembly import Numbers, Provenance, all_failed, filled, spread
from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult
from vssl_client.transports.network import address, is_loopback
from vssl_client.transports.tracing import REQUEST_ID, traced
from vssl_client.transports.wire import BUNDLE

GRPC_STATUS = {
    "NOT_FOUND": 404,
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""HTTP's status for gRPC's; 500 for others."""
SCHEMES = ("http", "https", "grpc", "grpcs")
PREPROCESSING = ("interpolation", "fit", "decoder")
"""Its fields that are words; a later one is told only where it is not at its default."""
SWAPS = 3
"""Tries to get an answer during which the model did not change."""
CHANNEL = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class TritonTransport:
    """One attempt at a request to the models `NAME` and `NAME_image`, from an event loop.

    Args:
        url: address of a server; a port is enough of one, such as `127.0.0.1:8001`.
        options: the client's; `transport` is `triton` for HTTP or `grpc`.

    Raises:
        UsageError: tritonclient is not installed, or `url` is no address.
    """

    def __init__(self, url: str, options: Options) -> None:
        self._to = address(url if "://" in url else f"http://{url}", SCHEMES, "127.0.0.1:8001")
        scheme, _, self._place = self._to.url.partition("://")
        self._secure = scheme in ("https", "grpcs")
        agent = {} if options.transport == "grpc" else {"user-agent": USER_AGENT}  # gRPC's is set on the channel
        self._headers = {**agent, **self._to.headers, **options.headers()}
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
        with traced() as request_id:
            return await self._model(request_id)

    async def _model(self, request_id: str) -> ModelInfo:
        config = await self._config(request_id)
        metadata = await self._ask("get_model_metadata", self._name, request_id, **self._as_json())
        try:
            version = max(map(str, metadata["versions"]), key=lambda text: (len(text), text))
            about = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
            size = int(config["input"][0]["dims"][0])
            dimension = next(int(output["dims"][0]) for output in config["output"] if output["name"] == "embedding")
            preprocessing = None
            if "vssl_crop" in about:
                told = {key: about[f"vssl_{key}"] for key in PREPROCESSING if f"vssl_{key}" in about}
                preprocessing = Preprocessing(size, float(about["vssl_crop"]), **told)
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
            raise BadAnswer(f"{self._place}: the model {self._name} is not one that `vssl export` wrote") from error
        bundle, encoder = about.get(BUNDLE, f"{self._name}/{version}"), about.get("vssl_encoder")
        return ModelInfo(self._name, version, bundle, dimension, size, preprocessing, encoder_id=encoder)

    async def embed(self, batch: Batch) -> EmbeddingResult:
        """Embed at least one image.

        The protocol refuses a whole request for one bad image. Then decode the images here, give the bad ones their
        errors, and send the others again.

        Raises:
            ConnectionFailed, Overloaded, ServerFailed, RequestRejected, BadAnswer: see there; a batch that is larger
                than the model's largest is rejected with status 413 before it is sent.
        """
        with traced() as request_id:
            return await self._embed(batch, request_id)

    async def _embed(self, batch: Batch, request_id: str) -> EmbeddingResult:
        if self._most is None:
            self._most, self._bundle = _batch_and_bundle(await self._config(request_id))
        if len(batch) > self._most:
            raise RequestRejected(f"{self._place}: {self._name} takes {self._most} images at a time", 413)
        if isinstance(batch, Pixels):
            return await self._infer(self._name, batch.array, "UINT8", request_id)
        try:
            return await self._infer(f"{self._name}_image", _column(batch), "BYTES", request_id)
        except RequestRejected as rejected:
            if rejected.status not in (400, 422):
                raise
            _, errors = await asyncio.to_thread(decode_all, batch, Preprocessing(1))
            good = [image for image, error in zip(batch, errors, strict=True) if error is None]
            if len(good) == len(batch):
                raise
        if not good:
            model = await self._model(request_id)
            return all_failed(errors, Provenance(model.name, model.version, self._bundle), model.dimension)
        return spread(await self._infer(f"{self._name}_image", _column(good), "BYTES", request_id), errors)

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None  # gRPC's thread ends with the last channel, so keep none
        if client is not None:
            await client.close()

    async def _config(self, request_id: str) -> dict[str, Any]:
        answer = await self._ask("get_model_config", self._name, request_id, **self._as_json())
        config: dict[str, Any] = answer.get("config", answer)
        return config

    async def _infer(self, model: str, images: Any, datatype: str, request_id: str) -> EmbeddingResult:  # noqa: ANN401
        """Embed, and learn by which bundle.

        Triton's answers don't name the bundle, but its model's configuration does. Read that before and after, and
        drop an answer that came during a change.
        """
        for _ in range(SWAPS):
            before = self._bundle
            result = await self._infer_once(model, images, datatype, request_id)
            if result.bundle_id is not None:
                return result
            self._most, self._bundle = _batch_and_bundle(await self._config(request_id))
            if self._bundle == before:
                return replace(result, bundle_id=before)
        raise ModelChanged(f"{self._place}: the model {self._name} changes all the time; embed again when it rests")

    async def _infer_once(self, model: str, images: Any, datatype: str, request_id: str) -> EmbeddingResult:  # noqa: ANN401
        tensor = self._library.InferInput("image", list(images.shape), datatype)
        tensor.set_data_from_numpy(images)
        gzip = self._options.compression
        packed = {"compression_algorithm" if self._grpc else "request_compression_algorithm": gzip} if gzip else {}
        answer = await self._ask("infer", model, request_id, inputs=[tensor], **packed)
        try:
            found = answer.get_response()
            version = found.model_version if self._grpc else found["model_version"]
            parameters = found.parameters if self._grpc else found.get("parameters") or {}
            embedding, variance, uncertainty = map(answer.as_numpy, ("embedding", "variance", "uncertainty"))
            if not len(embedding) == len(variance) == len(uncertainty) == len(images):
                raise ValueError("not one row for each image")
            bundle = None
            if BUNDLE in parameters:
                bundle = parameters[BUNDLE].string_param if self._grpc else str(parameters[BUNDLE])
            by = Provenance(self._name, str(version), bundle)
            return filled([None] * len(images), by, Numbers(embedding, variance, uncertainty[:, 0]))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise BadAnswer(f"{self._place}: {model} gave no valid answer ({error})") from error

    async def _ask(self, method: str, model: str, request_id: str, **arguments: Any) -> Any:  # noqa: ANN401
        if self._client is None:  # created here because it binds to the running loop
            self._client = self._connected()
        headers = {**self._headers, REQUEST_ID: request_id}
        try:
            async with asyncio.timeout(self._options.timeout):
                answer: Awaitable[Any] = getattr(self._client, method)(model, headers=headers, **arguments)
                return await answer
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
            channel: list[tuple[str, Any]] = [*CHANNEL, ("grpc.primary_user_agent", USER_AGENT)]
            if is_loopback(self._to.host):
                channel.append(("grpc.enable_http_proxy", 0))
            return create(self._place, ssl=self._secure, channel_args=channel)
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
            # gRPC answers UNAVAILABLE for an absent server, too.
            return Overloaded(message, status, None)
        if status >= 500:
            return ServerFailed(message, status)
        return RequestRejected(message, status)


def _batch_and_bundle(config: dict[str, Any]) -> tuple[int, str | None]:
    """A model's largest batch, and the id of its bundle."""
    about = config.get("parameters", {}).get(BUNDLE)
    return int(config.get("max_batch_size", 0)) or 1, None if about is None else str(about["string_value"])


def _column(images: Any) -> Any:  # noqa: ANN401 — numpy has no type for arrays of bytes of any length
    # tritonclient takes a subclass of bytes for text.
    return np.array([bytes(image) for image in images], np.object_).reshape(-1, 1)
