"""`POST /v1/embeddings`, the shape that OpenAI's SDK speaks: images are data URIs or base64 in place of text."""

from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vssl_server.engine.model import Model
from vssl_server.engine.pipeline import EmbedResult
from vssl_server.http.calibration import calibrated
from vssl_server.http.exchange import Exchange
from vssl_server.models.threads import LARGE_BODY_BYTES, in_thread_if
from vssl_server.settings import Settings
from vssl_server.wire.body import read_json
from vssl_server.wire.errors import ApiError, invalid_option
from vssl_server.wire.images import check_count, most_values
from vssl_server.wire.json_body import bounded, check, parse_object
from vssl_server.wire.tensors import base64_rows


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
    exchange = Exchange(request)
    async with exchange.receiving():
        data = await read_json(request, exchange.settings.max_body_bytes)
        parsed = await in_thread_if(len(data) > LARGE_BODY_BYTES, _parse, data, exchange.settings)
    model = exchange.registry.model(parsed.model)
    dimension = model.manifest.outputs.dimension
    if parsed.dimensions not in (None, dimension):
        raise ApiError(422, "invalid_option", f"dimensions: {parsed.model} has {dimension}, no other", "dimensions")
    images = [parsed.input] if isinstance(parsed.input, str) else parsed.input
    async with exchange.answering("input"):
        result = await model.embed(images, partial=False)
    body = await exchange.written(model, len(images), _write, parsed, model, result)
    return Response(body, media_type="application/json", headers=exchange.timing(result))


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


def _write(request: EmbeddingRequest, model: Model, result: EmbedResult) -> bytes:
    rows = result.embeddings
    judged = calibrated(model, rows)
    embeddings: Any = rows.embedding
    if request.encoding_format == "base64":
        embeddings = base64_rows(rows.embedding, "<f4")
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
    answer = {"object": "list", "model": request.model, "bundle_id": model.manifest.id, "data": data, "usage": usage}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
