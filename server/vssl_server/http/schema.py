"""What `/openapi.json` says of several routes, and of those that watch the server. Each other room has its own part."""

from typing import Any, Literal

from pydantic import BaseModel, Field

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mM4YSMCAALoARn1Z46+AAAAAElFTkSuQmCC"


class ErrorDetail(BaseModel):
    """What went wrong; `code` is a stable word to branch on."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """Every error has this shape."""

    error: ErrorDetail


BUNDLE = "Of the weights and all else that the numbers come from: embeddings of two bundles can't be compared"
PERCENTILE = "Reference images that are at most as uncertain, in per cent; null without a calibration"
CONFIDENCE = "Probability that the nearest neighbour has the same label; null unless calibrated with labels"
FAMILIARITY = "Share of the reference images that are less familiar; null where the bundle keeps no reference vectors"


class Flags(BaseModel):
    """What is wrong with the picture, by the picture alone."""

    degraded: bool = Field(description="More uncertain than 95 % of the reference images")
    ood: bool = Field(
        description="So uncertain, or in so odd a pattern, as 1 % of the reference images: out of distribution"
    )
    unfamiliar: bool = Field(description="Familiarity under .01: nothing like it among the reference images")


class State(BaseModel):
    """One word, the models that fail, if any do, and why galleries are away, if they are."""

    status: str
    failed: list[str] | None = None
    galleries: str | None = None


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The responses of a route that may answer with these."""
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


TIMING = {
    "Server-Timing": {
        "description": "Milliseconds: `total` in this server; of these `receive` reading the request, `queue` waiting "
        "for the engine, `inference`",
        "schema": {"type": "string"},
    }
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
