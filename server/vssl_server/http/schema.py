"""What `/openapi.json` says beyond what the signatures do."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from vssl.images.decoding import Preprocessing
from vssl_server.http.openai.routes import EmbeddingRequest

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mM4YSMCAALoARn1Z46+AAAAAElFTkSuQmCC"
_BINARY = {"type": "string", "format": "binary"}


class ErrorDetail(BaseModel):
    """What went wrong; `code` is a stable word to branch on."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """Every error has this shape."""

    error: ErrorDetail


class ImageRefusal(BaseModel):
    """Why this image has no embedding."""

    type: str
    message: str


BUNDLE = "Of the weights and all else that the numbers come from: embeddings of two bundles can't be compared"
PERCENTILE = "Reference images that are at most as uncertain, in per cent; null without a calibration"
CONFIDENCE = "Probability that the nearest neighbour has the same label; null unless calibrated with labels"


class Flags(BaseModel):
    """What is wrong with the picture, by the picture alone."""

    degraded: bool = Field(description="More uncertain than 95 % of the reference images")
    ood: bool = Field(
        description="So uncertain, or in so odd a pattern, as 1 % of the reference images: of another kind"
    )


class Embedded(BaseModel):
    """One image's answer: the chosen fields. Vectors are texts where `encoding` is not `float`."""

    index: int
    name: str | None
    embedding: list[float] | str = Field([], description="Unit length, D numbers")
    variance: list[float] | str = Field([], description="Variance of each dimension, on the embedding's scale")
    uncertainty: float = Field(0, description="One number for the image, higher is worse")
    percentile: float | None = Field(None, description=PERCENTILE)
    confidence: float | None = Field(None, description=CONFIDENCE)
    flags: Flags | None = Field(None, description="Null without a calibration")


class Refused(BaseModel):
    """An image that was refused, where `on_error` is `return`."""

    index: int
    name: str | None
    error: ImageRefusal


class EmbedAnswer(BaseModel):
    """One item for each image, in the order of the request."""

    model: str
    version: str
    bundle_id: str = Field(description=BUNDLE)
    data: list[Embedded | Refused]


class ModelCard(BaseModel):
    """A served model, and what a client needs to prepare requests for it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    version: str
    bundle_id: str
    dimension: int
    image_size: int = Field(description="Side in pixels of the square that images are resized to")
    preprocessing: Preprocessing = Field(description="How an image becomes that square: for clients that resize")
    max_images: int
    max_pixels: int
    max_request_pixels: int
    max_pending_pixels: int
    max_body_bytes: int
    max_pending_bytes: int


class ModelList(BaseModel):
    """The served models."""

    object: Literal["list"]
    data: list[ModelCard]


class State(BaseModel):
    """One word, and the models that fail, if any do."""

    status: str
    failed: list[str] | None = None


class OpenAIEmbedding(BaseModel):
    """One image's answer in OpenAI's shape, and what an image has beyond it."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="A text where `encoding_format` is `base64`")
    variance: list[float]
    uncertainty: float
    percentile: float | None = Field(description=PERCENTILE)
    confidence: float | None = Field(description=CONFIDENCE)
    flags: Flags | None = Field(description="Null without a calibration")


class Usage(BaseModel):
    """Images have no tokens: zeros."""

    prompt_tokens: int
    total_tokens: int


class OpenAIEmbeddings(BaseModel):
    """One item for each image, in the order of the request."""

    object: Literal["list"]
    model: str
    bundle_id: str = Field(description=BUNDLE)
    data: list[OpenAIEmbedding]
    usage: Usage


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    reasons = {
        400: "The body is not valid JSON or multipart, or not packed as it says",
        401: "No API key, or another one, where the server has some",
        403: "The key may not do this",
        404: "No such model",
        406: "No media type of `Accept` is one that this server writes",
        408: "The body did not come in time",
        413: "The body, or the number of images or of their pixels, is over the limit",
        415: "A type of body, or a compression, that is not read",
        422: "Images that can't be decoded, each named with its reason, or an option that is not known",
        429: "The queue is full; try again after `Retry-After` seconds",
        500: "The model failed on this request",
        503: "Loading, draining, or the engine has ended",
        504: "No answer within the deadline",
    }
    return {status: {"description": reasons[status], "model": ErrorBody} for status in statuses}


def nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """An object in which null is absent: all but what is required may be null, and so may a key that is not known."""
    required, found = schema.get("required", ()), dict(schema)
    found["properties"] = {
        name: of if name in required else {"anyOf": [of, {"type": "null"}]} for name, of in schema["properties"].items()
    }
    if schema.get("additionalProperties") is False:
        found["additionalProperties"] = {"type": "null"}
    return found


_OPTIONS: dict[str, dict[str, Any]] = {
    "fields": {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "string",
            "enum": ["embedding", "variance", "uncertainty", "percentile", "confidence", "flags"],
        },
    },
    "encoding": {"type": "string", "enum": ["float", "base64", "float16"], "default": "float"},
    "on_error": {"type": "string", "enum": ["raise", "return"], "default": "raise"},
    "model": {"type": "string", "description": "The name of a served model; by default the first one"},
}
_QUERY = [
    {"name": name, "in": "query", "required": False, "schema": schema, "style": "form", "explode": False}
    for name, schema in _OPTIONS.items()
]
_ONE_IMAGE = {
    "anyOf": [
        {"type": "string", "description": "Base64, or a data URI"},
        nullable(
            {
                "type": "object",
                "required": ["data"],
                "properties": {"name": {"type": "string", "maxLength": 1024}, "data": {"type": "string"}},
                "additionalProperties": False,
            }
        ),
    ]
}
_REQUEST = {
    "required": True,
    "content": {
        "application/json": {
            "schema": nullable(
                {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": {"type": "array", "minItems": 1, "items": _ONE_IMAGE}, **_OPTIONS},
                    "additionalProperties": False,
                }
            ),
            "examples": {
                "bare": {"summary": "Base64 alone", "value": {"images": [PIXEL]}},
                "named": {
                    "summary": "Named images, vectors as base64 of float32, partial results",
                    "value": {
                        "images": [
                            {"name": "pixel.png", "data": PIXEL},
                            {"name": "same.png", "data": f"data:image/png;base64,{PIXEL}"},
                        ],
                        "fields": ["embedding", "uncertainty"],
                        "encoding": "base64",
                        "on_error": "return",
                    },
                },
            },
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "properties": {"images": {"type": "array", "minItems": 1, "items": _BINARY}},
            },
            "examples": {
                "files": {
                    "summary": "curl -F images=@cat.jpg -F images=@dog.png 'http://…/v1/embed?encoding=base64'",
                    "value": {"images": ["(bytes of cat.jpg)", "(bytes of dog.png)"]},
                }
            },
        },
        **{
            kind: {
                "schema": _BINARY,
                "examples": {
                    "file": {
                        "summary": f"curl -H 'Content-Type: {kind}' --data-binary @cat.jpg http://…/v1/embed",
                        "value": "(bytes of cat.jpg)",
                    }
                },
            }
            for kind in ("image/*", "application/octet-stream")
        },
    },
}

_ANSWER = {
    "model": "quick",
    "version": "1",
    "bundle_id": "8a5f0c7d",
    "data": [
        {
            "index": 0,
            "name": "cat.jpg",
            "embedding": [0.6, -0.8],
            "variance": [0.004, 0.009],
            "uncertainty": -5.1,
            "percentile": 41.2,
            "confidence": 0.83,
            "flags": {"degraded": False, "ood": False},
        },
        {
            "index": 1,
            "name": "notes.jpg",
            "error": {
                "type": "not_an_image",
                "message": "the data are none of JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM, AVIF that can be read",
            },
        },
    ],
}
TIMING = {
    "Server-Timing": {
        "description": "Milliseconds: `total` in this server, `queue` waiting for the engine, `inference`",
        "schema": {"type": "string"},
    }
}
EMBED: dict[str, Any] = {
    "summary": "Embed images",
    "tags": ["embedding"],
    "openapi_extra": {"requestBody": _REQUEST, "parameters": _QUERY},
    "responses": {
        200: {
            "description": "One item for each image, in the order of the request",
            "model": EmbedAnswer,
            "content": {
                "application/json": {"example": _ANSWER},
                "application/x-npz": {},
                "application/x-npy": {},
                "application/vnd.apache.arrow.stream": {},
            },
            "headers": TIMING,
        },
        **_errors(400, 401, 403, 404, 406, 408, 413, 415, 422, 429, 500, 503, 504),
    },
}
EMBEDDINGS: dict[str, Any] = {
    "summary": "Embed images, in the shape of OpenAI's SDK",
    "tags": ["embedding"],
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": nullable(EmbeddingRequest.model_json_schema()),
                    "examples": {
                        "one": {"summary": "One image", "value": {"model": "NAME", "input": PIXEL}},
                        "two": {
                            "summary": "Two images, embeddings as base64 of float32",
                            "value": {
                                "model": "NAME",
                                "input": [PIXEL, f"data:image/png;base64,{PIXEL}"],
                                "encoding_format": "base64",
                            },
                        },
                    },
                }
            },
        }
    },
    "responses": {
        200: {
            "description": "One item for each image, in the order of the request",
            "model": OpenAIEmbeddings,
            "headers": TIMING,
        },
        **_errors(400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503, 504),
    },
}
MODELS: dict[str, Any] = {
    "summary": "List the served models",
    "tags": ["embedding"],
    "responses": {200: {"description": "The served models", "model": ModelList}, **_errors(401)},
}
MODEL: dict[str, Any] = {
    "summary": "Show a served model",
    "tags": ["embedding"],
    "responses": {200: {"description": "The model", "model": ModelCard}, **_errors(401, 404)},
}
HEALTHZ: dict[str, Any] = {
    "summary": "The process is alive",
    "tags": ["operation"],
    "responses": {200: {"description": "It is", "model": State}},
}
READYZ: dict[str, Any] = {
    "summary": "Some model can answer",
    "tags": ["operation"],
    "responses": {
        200: {"description": "One can; `failed` names those that can't", "model": State},
        503: {"description": "Loading, draining, or none can", "model": State},
    },
}
METRICS: dict[str, Any] = {
    "summary": "Prometheus metrics",
    "tags": ["operation"],
    "responses": {200: {"description": "In Prometheus' text format", "content": {"text/plain": {}}}},
}
