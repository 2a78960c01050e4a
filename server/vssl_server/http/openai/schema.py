"""What `/openapi.json` says of the routes in OpenAI's shape."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from vssl.images.decoding import Preprocessing
from vssl_server.http.openai.routes import EmbeddingRequest
from vssl_server.http.schema import BUNDLE, CONFIDENCE, FAMILIARITY, PERCENTILE, PIXEL, TIMING, Flags, errors, nullable


class ModelCard(BaseModel):
    """A served model, and what a client needs to prepare requests for it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    version: str
    bundle_id: str
    encoder_id: str = Field(description="Names the encoder: vectors of one can be compared, whatever the bundle")
    dimension: int
    image_size: int = Field(description="Side in pixels of the square that images are resized to")
    preprocessing: Preprocessing = Field(
        description="How an image becomes that square: for clients that resize. `fit`, `decoder`: where they are used"
    )
    accepts: list[str] = Field(description="Media types that `POST /v1/embed` takes")
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


class OpenAIEmbedding(BaseModel):
    """One image's answer in OpenAI's shape, and what an image has beyond it."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="A text where `encoding_format` is `base64`")
    variance: list[float]
    uncertainty: float
    percentile: float | None = Field(description=PERCENTILE)
    confidence: float | None = Field(description=CONFIDENCE)
    familiarity: float | None = Field(description=FAMILIARITY)
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
        **errors(400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503, 504),
    },
}
MODELS: dict[str, Any] = {
    "summary": "List the served models",
    "tags": ["embedding"],
    "responses": {200: {"description": "The served models", "model": ModelList}, **errors(401)},
}
MODEL: dict[str, Any] = {
    "summary": "Show a served model",
    "tags": ["embedding"],
    "responses": {200: {"description": "The model", "model": ModelCard}, **errors(401, 404)},
}
