"""What `/openapi.json` says of `POST /v1/embed`."""

from typing import Any

from pydantic import BaseModel, Field

from vssl_server.http.embed.options import ALL_FIELDS
from vssl_server.http.schema import BUNDLE, CONFIDENCE, FAMILIARITY, PERCENTILE, PIXEL, TIMING, Flags, errors, nullable

_BINARY = {"type": "string", "format": "binary"}


class ImageRefusal(BaseModel):
    """Why this image has no embedding."""

    type: str
    message: str


class Embedded(BaseModel):
    """One image's answer: the chosen fields. Vectors are texts where `encoding` is not `float`."""

    index: int
    name: str | None
    embedding: list[float] | str = Field([], description="Unit length, D numbers")
    variance: list[float] | str = Field([], description="Variance of each dimension, on the embedding's scale")
    uncertainty: float = Field(0, description="One number for the image, higher is worse")
    percentile: float | None = Field(None, description=PERCENTILE)
    confidence: float | None = Field(None, description=CONFIDENCE)
    familiarity: float | None = Field(None, description=FAMILIARITY)
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


_OPTIONS: dict[str, dict[str, Any]] = {
    "fields": {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "string",
            "enum": list(ALL_FIELDS),
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
        "application/x-npy": {
            "schema": _BINARY,
            "examples": {
                "pixels": {
                    "summary": "numpy.save of uint8 [N, S, S, 3], the pixels that the model looks at",
                    "value": "(bytes of pixels.npy)",
                }
            },
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
            "familiarity": 0.62,
            "flags": {"degraded": False, "ood": False, "unfamiliar": False},
        },
        {
            "index": 1,
            "name": "notes.jpg",
            "error": {
                "type": "not_an_image",
                "message": "the data are none of JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM, AVIF, HEIC that can be read",
            },
        },
    ],
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
        **errors(400, 401, 403, 404, 406, 408, 413, 415, 422, 429, 500, 503, 504),
    },
}
