"""`POST /v1/embeddings`, the shape that OpenAI's SDK speaks: images are data URIs or base64 in place of text."""

import base64
import time
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vssl.bundle.manifest import Manifest
from vssl_server.engine.model import Result
from vssl_server.http.embed.request import most_values
from vssl_server.http.embed.writers import trust
from vssl_server.models.deadline import timeout_of
from vssl_server.models.registry import LARGE_ANSWER, LARGE_BODY, Service, apart, unless_disconnected
from vssl_server.settings import Settings
from vssl_server.wire.body import read_json
from vssl_server.wire.errors import ApiError, invalid_option
from vssl_server.wire.images import check_count
from vssl_server.wire.json_body import bounded, check, parse_object
from vssl_server.wire.timing import server_timing


class EmbeddingRequest(BaseModel):
    """The body. `model` is the name of a served model."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: str | list[str] = Field(description="An image as base64 or as a data URI, or a list of them")
    model: str
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="How `embedding` is written: numbers, or base64 of little-endian float32"
    )
    dimensions: int | None = Field(None, description="The model's own dimension, no other")
    user: str | None = Field(None, description="Accepted and not used")


async def create_embeddings(request: Request) -> Response:
    """Embed images. Beside `embedding`, each item has `variance`, numbers always, and all that `/v1/embed` says."""
    started = time.monotonic()
    service: Service = request.app.state.service
    timeout = timeout_of(request.headers)
    async with service.receiving():
        data = await read_json(request, service.settings.max_body_bytes)
        asked = await apart(len(data) > LARGE_BODY, _parse, data, service.settings)
    model = service.model(asked.model)
    dimension = model.manifest.outputs.dimension
    if asked.dimensions not in (None, dimension):
        raise ApiError(422, "invalid_option", f"dimensions: {asked.model} has {dimension}, no other", "dimensions")
    images = [asked.input] if isinstance(asked.input, str) else asked.input
    work = unless_disconnected(request, model.embed(images, partial=False))
    result = await service.answer(work, "input", timeout=timeout)
    with model.metrics.encode_seconds.time():
        body = await apart(len(images) > LARGE_ANSWER, _write, asked, model.manifest, result)
    return Response(
        body,
        media_type="application/json",
        headers=server_timing(started, result.answer.queue_seconds, result.answer.inference_seconds),
    )


def _parse(body: bytes, settings: Settings) -> EmbeddingRequest:
    fields = parse_object(body, most_values(settings))
    images = fields.get("input", "")
    for image in images if isinstance(images, list) else [images]:
        if not isinstance(image, str):
            message = "input: images are wanted, each as base64 or as a data URI, and no tokens of a text"
            raise invalid_option(message, "input")
    if isinstance(images, list):
        check_count(len(images), settings, "input")
    bounded(fields, {"input": settings.max_images})
    return check(EmbeddingRequest, fields)


def _write(asked: EmbeddingRequest, manifest: Manifest, result: Result) -> bytes:
    rows = result.answer.embeddings
    judged = trust(manifest, result)
    embeddings: Any = rows.embedding
    if asked.encoding_format == "base64":
        embeddings = [base64.b64encode(row.astype("<f4")).decode() for row in rows.embedding]
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": embeddings[index],
            "variance": rows.variance[index],
            "uncertainty": rows.uncertainty[index],
            **{name: None if column is None else column[index] for name, column in judged.items()},
        }
        for index in range(len(rows))
    ]
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    answer = {"object": "list", "model": asked.model, "bundle_id": manifest.id, "data": data, "usage": usage}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
