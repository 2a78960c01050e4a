"""Triton's repository extension over HTTP: load a model, unload it, list what is served."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from vssl_server.http.exchange import json_response
from vssl_server.http.inference import schema
from vssl_server.models.deadline import Receiving
from vssl_server.models.repository import Parameters, Repository
from vssl_server.wire.body import read_body
from vssl_server.wire.json_body import bounded, check, parse_object


class LoadRequest(BaseModel):
    """The body of a load; it may be empty."""

    parameters: Parameters = Parameters()


def add_routes(app: FastAPI, repository: Repository) -> None:
    """Put the extension's routes on the application."""

    async def index() -> Response:
        """The served models."""
        return json_response(repository.index())

    async def load(request: Request, name: str) -> Response:
        """Load a bundle, or load a served model again, without dropping a request."""
        settings = repository.registry.settings
        async with Receiving(repository.registry, administration=True):
            body = await read_body(request, min(settings.max_json_bytes, settings.max_body_bytes), None)
            fields = parse_object(body or b"{}")
        bounded(fields)
        load_request = check(LoadRequest, fields)
        await repository.load(name, load_request.parameters.bundle)
        return Response()

    async def unload(name: str) -> Response:
        """Serve a model no more; what it has begun is answered."""
        await repository.unload(name)
        return Response()

    extra: dict[str, Any] = schema.REPOSITORY
    app.post("/v2/repository/index", summary="List the served models", **extra)(index)
    app.post("/v2/repository/models/{name}/load", summary="Load a model, or load it again", **schema.LOAD)(load)
    app.post("/v2/repository/models/{name}/unload", summary="Serve a model no more", **extra)(unload)
