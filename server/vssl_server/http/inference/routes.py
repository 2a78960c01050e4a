"""The Open Inference Protocol v2 over HTTP, with the binary tensor extension; `/config` and `/stats` are Triton's."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vssl_server.engine.pipeline import EmbedResult
from vssl_server.http.exchange import Exchange, json_response
from vssl_server.http.inference import schema
from vssl_server.inference_v2.protocol import (
    INPUT,
    NO_SHARED_MEMORY,
    SERVER,
    Catalogue,
    InferenceModel,
    arrays,
    check_parameters,
    requested_outputs,
)
from vssl_server.models.deadline import from_microseconds
from vssl_server.models.threads import LARGE_BODY_BYTES, in_thread_if
from vssl_server.wire.body import read_body
from vssl_server.wire.errors import ApiError, busy
from vssl_server.wire.json_body import bounded, check, parse_object, without_nulls
from vssl_server.wire.tensors import Tensor, invalid

HEADER_LENGTH = "Inference-Header-Content-Length"

MAX_DIGITS = 18
"""Digits of a length in a header. Python's own limit would raise another error."""

Dimension = Annotated[int, Field(ge=0, lt=2**31)]


class InputTensor(BaseModel):
    """An input: its values are in `data`, or behind the JSON where `binary_data_size` stands in `parameters`."""

    name: str
    shape: list[Dimension]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class WantedOutput(BaseModel):
    """A requested output; `binary_data` in `parameters` says in which form."""

    name: str
    parameters: dict[str, Any] = {}


class InferenceRequest(BaseModel):
    """The JSON of a request."""

    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[InputTensor]
    outputs: list[WantedOutput] = []

    def binary(self) -> Mapping[str, bool]:
        """The outputs to answer, and whether each is to be binary."""
        default = self.parameters.get("binary_data_output") is True
        wanted = {output.name: output.parameters.get("binary_data", default) is True for output in self.outputs}
        return {name: wanted.get(name, default) for name in requested_outputs(list(wanted))}


def add_routes(app: FastAPI, catalogue: Catalogue) -> None:
    """Put the protocol's routes on the application."""
    app.state.catalogue = catalogue
    app.get("/v2", **schema.SERVER)(server_metadata)
    app.get("/v2/health/live", **schema.LIVE)(live)
    app.get("/v2/health/ready", **schema.READY)(ready)
    app.get("/v2/models/stats", **schema.STATISTICS)(all_statistics)  # before the model of that name, as Triton has it
    for kind in ("system", "cuda"):
        app.add_api_route(
            f"/v2/{kind}sharedmemory/{{rest:path}}", no_shared_memory, methods=["GET", "POST"], include_in_schema=False
        )
    for place in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        app.get(place, **schema.METADATA)(model_metadata)
        app.get(f"{place}/ready", **schema.MODEL_READY)(model_ready)
        app.get(f"{place}/config", **schema.CONFIG)(model_config)
        app.get(f"{place}/stats", **schema.STATISTICS)(model_statistics)
        app.post(f"{place}/infer", **schema.INFER)(infer)


async def server_metadata() -> Response:
    """Name and version of the server, and the extensions that it knows."""
    return json_response(SERVER)


async def live() -> Response:
    """The process is alive."""
    return Response()


async def ready(request: Request) -> Response:
    """Some model can answer."""
    registry = _catalogue(request).registry
    if registry.state != "ready":
        raise busy(503, "not_ready", f"the server is {registry.state}")
    return Response()


async def model_metadata(request: Request, name: str, version: str = "") -> Response:
    """Inputs and outputs of a model."""
    return json_response(_catalogue(request).find(name, version).metadata())


async def model_ready(request: Request, name: str, version: str = "") -> Response:
    """This model can answer."""
    if not _catalogue(request).ready(name, version):
        raise busy(503, "not_ready", f"{name} can't answer now")
    return Response()


async def model_config(request: Request, name: str, version: str = "") -> Response:
    """Triton's extension: the model's configuration."""
    return json_response(_catalogue(request).find(name, version).config())


async def model_statistics(request: Request, name: str, version: str = "") -> Response:
    """Triton's extension: the model's counts and times."""
    return json_response({"model_stats": [_catalogue(request).find(name, version).statistics()]})


async def all_statistics(request: Request) -> Response:
    """Triton's extension: the counts and times of every model."""
    return json_response({"model_stats": [model.statistics() for model in _catalogue(request).models]})


async def no_shared_memory() -> Response:
    """Triton's extension for shared memory, which this server does not have."""
    raise ApiError(404, "not_supported", NO_SHARED_MEMORY)


async def infer(request: Request, name: str, version: str = "") -> Response:
    """Embed the images of one tensor: pixels for `NAME`, encoded images for `NAME_image`."""
    exchange = Exchange(request)
    model = _catalogue(request).find(name, version)
    async with exchange.receiving():
        json_bytes = _whole_number(request.headers.get(HEADER_LENGTH))
        body = await read_body(request, exchange.settings.max_body_bytes, json_bytes)
    if json_bytes == 0:
        tensors, parsed, outputs = _raw(model, body)
    else:
        large = len(body) > LARGE_BODY_BYTES
        tensors, parsed, outputs = await in_thread_if(large, _parse, body, json_bytes, model.most_values)
    timeout = from_microseconds(parsed.parameters.get("timeout"))
    async with exchange.answering(INPUT, timeout=timeout):
        result = await model.infer(tensors)
    images = len(result.embeddings)
    content, headers = await exchange.written(model.model, images, _write, model, parsed.id, outputs, result)
    return Response(content, headers={**headers, **exchange.timing(result)})


Parsed = tuple[list[Tensor], InferenceRequest, Mapping[str, bool]]


def _raw(model: InferenceModel, body: bytes) -> Parsed:
    """A body without JSON is one input of one image, an image file for instance; the answer is binary."""
    data = len(body).to_bytes(4, "little") + body if model.encoded else body
    parsed = InferenceRequest(inputs=[], parameters={"binary_data_output": True})
    return [Tensor(INPUT, model.datatype, [1, *model.dims], data)], parsed, parsed.binary()


def _parse(body: bytes, json_bytes: int | None, most_values: int) -> Parsed:
    length = len(body) if json_bytes is None else json_bytes
    if length > len(body):
        raise invalid(f"{HEADER_LENGTH} is {length:,}, the body has {len(body):,} bytes")
    parsed = _checked(parse_object(memoryview(body)[:length], most_values, _refuse))
    tensors, rest = [], memoryview(body)[length:]
    for output in parsed.outputs:
        check_parameters(output.name, output.parameters)
    for tensor in parsed.inputs:
        check_parameters(tensor.name, tensor.parameters)
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            if tensor.data is None:
                raise invalid(f"{tensor.name} has neither data nor binary_data_size")
            tensors.append(Tensor(tensor.name, tensor.datatype, tensor.shape, tensor.data))
        else:
            if type(size) is not int or not 0 <= size <= len(rest):
                raise invalid(f"{tensor.name}: binary_data_size is {size}, {len(rest):,} bytes are left of the body")
            tensors.append(Tensor(tensor.name, tensor.datatype, tensor.shape, rest[:size]))
            rest = rest[size:]
    if rest:
        raise invalid(f"{len(rest):,} bytes after the last tensor belong to none")
    return tensors, parsed, parsed.binary()


def _checked(fields: dict[str, Any]) -> InferenceRequest:
    """Check the request. Of its lists only `data` may be long."""
    bounded(fields, refuse=_refuse)
    for key in ("inputs", "outputs"):
        if isinstance(tensors := fields.get(key), list):
            fields[key] = [_tensor(tensor) if isinstance(tensor, dict) else tensor for tensor in tensors]
    return check(InferenceRequest, _parameters(fields), _refuse)


def _tensor(fields: dict[str, Any]) -> dict[str, Any]:
    found = _parameters(without_nulls(fields))
    bounded(found, {"data": sys.maxsize}, _refuse)
    return found


def _parameters(fields: dict[str, Any]) -> dict[str, Any]:
    parameters = fields.get("parameters")
    return fields | {"parameters": without_nulls(parameters)} if isinstance(parameters, dict) else fields


def _refuse(message: str, field: str) -> ApiError:
    return invalid(message)


def _whole_number(text: str | None) -> int | None:
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < MAX_DIGITS):
        raise invalid(f"{HEADER_LENGTH} is not a number of bytes: {text!r}")
    return None if text is None else int(text)


def _write(
    model: InferenceModel, request_id: str | None, outputs: Mapping[str, bool], result: EmbedResult
) -> tuple[bytes, Mapping[str, str]]:
    described, parts = [], []
    for name, array in arrays(list(outputs), result):
        output: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": array.shape}
        if outputs[name]:
            parts.append(array.tobytes())
            output["parameters"] = {"binary_data_size": array.nbytes}
        else:
            output["data"] = array.ravel()
        described.append(output)
    answer: dict[str, Any] = {
        "model_name": model.name,
        "model_version": model.version,
        "parameters": model.parameters,
        "outputs": described,
    }
    if request_id is not None:
        answer["id"] = request_id
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if not parts:
        return head, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return b"".join([head, *parts]), headers


def _catalogue(request: Request) -> Catalogue:
    catalogue: Catalogue = request.app.state.catalogue
    return catalogue
