"""`GET /v1/models` and `/v1/models/{name}`, in OpenAI's shape, with what a client needs to prepare requests."""

from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from vssl.bundle.identity import as_told
from vssl_server.engine.model import Model
from vssl_server.http.exchange import json_response
from vssl_server.models.registry import ModelRegistry
from vssl_server.settings import Settings
from vssl_server.wire.tensors import NPY

ACCEPTED = ("image/*", "application/octet-stream", "multipart/form-data", "application/json", NPY)
"""What `POST /v1/embed` takes: a client can't tell by the version."""


async def list_models(request: Request) -> Response:
    """The served models, each version for itself."""
    registry: ModelRegistry = request.app.state.registry
    data = [_card(model, registry.settings) for model in registry.models]
    return json_response({"object": "list", "data": data})


async def retrieve_model(request: Request, name: str) -> Response:
    """One model, in the version that answers where a request names none."""
    registry: ModelRegistry = request.app.state.registry
    return json_response(_card(registry.model(name), registry.settings))


def _card(model: Model, settings: Settings) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "id": manifest.name,
        "object": "model",
        "created": _unix_time(manifest.provenance.created),
        "owned_by": "vssl",
        "version": manifest.version,
        "bundle_id": manifest.id,
        "encoder_id": manifest.encoder_id,
        "dimension": manifest.outputs.dimension,
        "image_size": manifest.preprocessing.size,
        "preprocessing": as_told(manifest.preprocessing),
        "accepts": ACCEPTED,
        "max_images": settings.max_images,
        "max_pixels": settings.max_pixels,
        "max_request_pixels": settings.max_request_pixels,
        "max_pending_pixels": settings.max_pending_pixels,
        "max_body_bytes": settings.max_body_bytes,
        "max_pending_bytes": settings.max_pending_bytes,
    }


def _unix_time(created: str) -> int:
    try:
        return int(datetime.fromisoformat(created).timestamp())
    except ValueError:
        return 0
