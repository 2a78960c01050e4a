"""What `/openapi.json` says about the Open Inference Protocol."""

from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from vssl_server.http.schema import PIXEL, TIMING, nullable

TAGS = ["open inference protocol"]


class ErrorText(BaseModel):
    """Every error under `/v2` has this shape."""

    error: str


class TensorMetadata(BaseModel):
    """A tensor's name, type and shape; −1 is the number of images."""

    name: str
    datatype: str
    shape: list[int]


class ServerMetadata(BaseModel):
    """The server and the extensions of the protocol that it knows."""

    name: str
    version: str
    extensions: list[str]


class ModelMetadata(BaseModel):
    """A model's inputs and outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Output(BaseModel):
    """An output: `data`, or `binary_data_size` in `parameters` and its bytes behind the JSON."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float] = []
    parameters: dict[str, int] = {}


class InferenceAnswer(BaseModel):
    """The JSON of an answer."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, str]
    outputs: list[Output]


def _route(summary: str, answer: type[BaseModel] | None, *errors: int) -> dict[str, Any]:
    reasons = {
        400: "The request is not what the protocol or the model's metadata say",
        401: "No API key, or another one, where the server has some",
        403: "The key may not do this, or nobody may: the server has no admin keys",
        404: "No such model",
        408: "The body did not come in time",
        413: "The body, packed or unpacked, or the number of images or of their pixels, is over the limit",
        415: "A compression that is not read",
        422: "Images that can't be decoded, each named with its reason",
        429: "The queue is full; try again after `Retry-After` seconds",
        500: "The model failed on this request",
        503: "Loading, draining, or the engine has ended",
        504: "No answer within the deadline",
    }
    good: dict[str, Any] = {"description": summary}
    if answer:
        good["model"] = answer
    failed = {status: {"description": reasons[status], "model": ErrorText} for status in errors}
    return {"summary": summary, "tags": TAGS, "responses": {200: good, **failed}}


SERVER = _route("The server and its extensions", ServerMetadata, 401)
# Their status is the whole answer.
LIVE = _route("The process is alive", None) | {"response_class": Response}
READY = _route("Every model can answer", None, 503) | {"response_class": Response}
METADATA = _route("A model's inputs and outputs", ModelMetadata, 401, 404)
MODEL_READY = _route("This model can answer", None, 401, 404, 503) | {"response_class": Response}
CONFIG = _route("A model's configuration, as Triton writes it", None, 401, 404)
STATISTICS = _route("A model's counts and times, as Triton writes them", None, 401, 404)
INFER = _route(
    "Embed one tensor of images", InferenceAnswer, 400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503, 504
)
INFER["responses"][200] |= {"headers": TIMING, "content": {"application/octet-stream": {}}}

REPOSITORY = _route("", None, 400, 401, 403, 404, 408, 413, 422, 503) | {"tags": ["administration"]}
del REPOSITORY["summary"]
REPOSITORY["responses"][200]["description"] = "It is done"

_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string", "const": "image"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string", "enum": ["UINT8", "BYTES"]},
        "parameters": {"type": "object", "properties": {"binary_data_size": {"type": "integer", "minimum": 0}}},
        "data": {"type": "array"},
    },
}
_OUTPUT = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "enum": ["embedding", "variance", "uncertainty"]},
        "parameters": {"type": "object", "properties": {"binary_data": {"type": "boolean"}}},
    },
}
_BODY = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {
            "type": "object",
            "properties": {
                "binary_data_output": {"type": "boolean"},
                "timeout": {"type": "integer", "minimum": 0, "description": "Microseconds for the answer; 0: no limit"},
            },
        },
        "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": nullable(_TENSOR)},
        "outputs": {"type": "array", "items": nullable(_OUTPUT)},
    },
}
INFER["openapi_extra"] = {
    "parameters": [
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "description": "Bytes of JSON in front of binary tensors; 0: the body is one image and nothing else",
            "schema": {"type": "integer", "minimum": 0},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": nullable(_BODY),
                "examples": {
                    "image": {
                        "summary": "One image in base64, for NAME_image",
                        "value": {
                            "id": "1",
                            "inputs": [{"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [PIXEL]}],
                            "outputs": [{"name": "embedding"}, {"name": "uncertainty"}],
                        },
                    }
                },
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}
_PARAMETERS = {
    "type": "object",
    "properties": {"bundle": {"type": "string", "description": "A path on the server; by default the model's own"}},
}
LOAD = REPOSITORY | {
    "openapi_extra": {
        "requestBody": {
            "content": {
                "application/json": {
                    "schema": nullable(
                        {"type": "object", "properties": {"parameters": nullable(_PARAMETERS)}},
                    ),
                    "examples": {"again": {"summary": "From where it came", "value": {}}},
                }
            }
        }
    }
}
