"""Which models are served, changed while the server runs: Triton's repository extension over HTTP."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from vssl.errors import VsslError
from vssl_server import inference_schema as schema
from vssl_server.batcher import EngineStoppedError
from vssl_server.errors import ApiError, invalid_options
from vssl_server.model import Model
from vssl_server.request import read_decompressed
from vssl_server.service import Service

Open = Callable[[Path], Model]
IDLE_SECONDS = 0.1
"""Between two looks at whether a model that was replaced still has work."""


class Parameters(BaseModel):
    """Of a load. `bundle` is a path on the server; by default the one that the model came from."""

    model_config = ConfigDict(extra="ignore")

    bundle: Path | None = None


class LoadRequest(BaseModel):
    """The body of a load; it may be empty."""

    parameters: Parameters = Parameters()


class Repository:
    """Loads beside what is served, then swaps, and ends the old model when its last request is answered."""

    def __init__(self, service: Service, open_model: Open, locations: dict[str, Path]) -> None:
        self.service, self._open, self._locations = service, open_model, locations
        self._retiring: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    async def load(self, name: str, bundle: Path | None) -> None:
        """Serve a bundle under its name, in place of the same version, beside another one.

        Raises:
            ApiError: 404, no path is known for that name; 400, the bundle can't be served, or has another name.
        """
        location = bundle or self._locations.get(name)
        if location is None:
            raise ApiError(404, "model_not_found", f"no model {name!r} was served here; name its bundle", "bundle")
        async with self._one_at_a_time:
            try:
                model = await asyncio.to_thread(self._open, location)
            except VsslError as error:
                raise ApiError(400, "invalid_bundle", str(error), "bundle") from None
            manifest = model.manifest
            if manifest.name != name:
                raise ApiError(400, "invalid_bundle", f"{location} holds {manifest.name!r}, not {name!r}", "bundle")
            model.batcher.start()
            try:
                await asyncio.wrap_future(model.batcher.warm)
            except EngineStoppedError as error:
                raise ApiError(400, "invalid_bundle", f"{location}: {error}", "bundle") from None
            served = list(self.service.models)
            same = [one for one in served if (one.manifest.name, one.manifest.version) == (name, manifest.version)]
            if same:
                served[served.index(same[0])] = model
            else:
                served.append(model)
            self.service.models, self._locations[name] = served, location
            self._retire(same)

    async def unload(self, name: str) -> None:
        """Serve no version of it any more; ApiError 404 if there is none, 400 if it is the last model."""
        async with self._one_at_a_time:
            gone = [model for model in self.service.models if model.manifest.name == name]
            if not gone:
                self.service.model(name)
            if len(gone) == len(self.service.models):
                raise ApiError(400, "last_model", f"{name} is the only model; stop the server instead")
            self.service.models = [model for model in self.service.models if model not in gone]
            self._retire(gone)

    def index(self, ready: bool = False) -> list[dict[str, str]]:
        """Every served model's two names, version and state; only those that can answer if `ready` is true."""
        return [
            {
                "name": name,
                "version": model.manifest.version,
                "state": "READY" if model.batcher.ready else "UNAVAILABLE",
                "reason": "",
            }
            for model in self.service.models
            if model.batcher.ready or not ready
            for name in (model.manifest.name, f"{model.manifest.name}_image")
        ]

    def _retire(self, models: list[Model]) -> None:
        for model in models:
            task = asyncio.create_task(self._end(model))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _end(self, model: Model) -> None:
        # A request may have chosen this model and still be sending its body.
        await asyncio.sleep(self.service.settings.receive_seconds)
        while model.batcher.held:
            await asyncio.sleep(IDLE_SECONDS)
        await asyncio.to_thread(model.batcher.close, self.service.settings.deadline_seconds)


def add_routes(app: FastAPI, repository: Repository) -> None:
    """Put the extension's routes on the application."""

    async def index() -> Response:
        """The served models."""
        return Response(orjson.dumps(repository.index()), media_type="application/json")

    async def load(request: Request, name: str) -> Response:
        """Load a bundle, or load a served model again, without dropping a request."""
        body = await read_decompressed(request, repository.service.settings.max_body_bytes)
        try:
            asked = LoadRequest.model_validate(orjson.loads(body or b"{}"))
        except orjson.JSONDecodeError as error:
            raise ApiError(400, "invalid_json", f"the request is not valid JSON: {error}") from None
        except ValidationError as error:
            raise invalid_options(error.errors()) from None
        await repository.load(name, asked.parameters.bundle)
        return Response()

    async def unload(name: str) -> Response:
        """Serve a model no more; what it has begun is answered."""
        await repository.unload(name)
        return Response()

    extra: dict[str, Any] = schema.REPOSITORY
    app.post("/v2/repository/index", summary="List the served models", **extra)(index)
    app.post("/v2/repository/models/{name}/load", summary="Load a model, or load it again", **schema.LOAD)(load)
    app.post("/v2/repository/models/{name}/unload", summary="Serve a model no more", **extra)(unload)
