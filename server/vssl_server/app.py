"""The HTTP application: a short list of routes over the served models."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import prometheus_client
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

import vssl
from vssl_server import inference_rest, metrics, repository, schema
from vssl_server.access import OPEN_PATHS, AccessMiddleware
from vssl_server.admission import AdmissionMiddleware
from vssl_server.direct import DirectRoutes
from vssl_server.embed_api import embed
from vssl_server.errors import HANDLERS
from vssl_server.inference_protocol import Catalogue
from vssl_server.keys import Keys
from vssl_server.model import Model
from vssl_server.models_api import list_models, retrieve_model
from vssl_server.openai_api import create_embeddings
from vssl_server.repository import Open, Repository
from vssl_server.service import Service
from vssl_server.settings import Settings


def create_app(
    settings: Settings, models: Sequence[Model], open_model: Open | None = None, locations: Sequence[Path] = ()
) -> FastAPI:
    """The application for at least one model; its lifespan starts and ends the models' engines.

    With `open_model` models can be loaded later; `locations` are the bundles of `models`, in their order.
    """
    service = Service(settings, models)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # No name of this function may hold a model: it would keep one that is unloaded in memory.
        service.start()
        if settings.workers > 1:
            # This one listens when it can answer: the others serve meanwhile.
            await asyncio.wait([asyncio.wrap_future(model.batcher.warm) for model in service.models])
        counting = asyncio.create_task(_publish(service)) if settings.workers > 1 else None
        yield
        if counting is not None:
            counting.cancel()
        await service.close()

    app = FastAPI(
        title="VSSL",
        summary="Image embeddings that say how far each one can be trusted.",
        version=vssl.__version__,
        lifespan=lifespan,
        exception_handlers=HANDLERS,
        redirect_slashes=False,
        # The documentation pages would load scripts from elsewhere; /openapi.json is ours alone.
        docs_url=None,
        redoc_url=None,
        # Traces go where the standard variables of OpenTelemetry say, and nowhere without; metrics are Prometheus's.
        telemetry={
            "tracing": True,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": True,
            "exclude": lambda scope: scope["path"] in OPEN_PATHS,
        },
    )
    app.state.service = service
    app.post("/v1/embed", **schema.EMBED)(embed)
    app.post("/v1/embeddings", **schema.EMBEDDINGS)(create_embeddings)
    app.get("/v1/models", **schema.MODELS)(list_models)
    app.get("/v1/models/{name}", **schema.MODEL)(retrieve_model)
    app.get("/healthz", **schema.HEALTHZ)(healthz)
    app.get("/readyz", **schema.READYZ)(readyz)
    app.get("/metrics", **schema.METRICS)(show_metrics)
    inference_rest.add_routes(app, Catalogue(service))
    app.state.repository = None
    if open_model is not None:
        app.state.repository = Repository(service, open_model, locations)
        repository.add_routes(app, app.state.repository)
    app.add_middleware(DirectRoutes, endpoints={"/v1/embed": embed, "/v1/embeddings": create_embeddings})
    app.add_middleware(AdmissionMiddleware, pending=service.pending, max_body_bytes=settings.max_body_bytes)
    keys = Keys(settings.api_keys_file, settings.admin_keys_file)
    app.add_middleware(AccessMiddleware, keys=keys, settings=settings)
    return app


async def healthz() -> Response:
    """The process is alive."""
    return _json({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Some model can answer; 503 while loading, while draining, and when all fail. Names those that fail."""
    service: Service = request.app.state.service
    failed = [f"{model.manifest.name} {model.manifest.version}" for model in service.failed]
    answer = {"status": service.state} | ({"failed": failed} if failed else {})
    return _json(answer, 200 if service.state == "ready" else 503)


async def show_metrics() -> Response:
    """Prometheus metrics."""
    return Response(metrics.exposition(), headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})


async def _publish(service: Service) -> None:
    """Other workers can't ask this one's gauges: it writes them down, once a second."""
    while True:
        for model in service.models:
            model.publish()
        await asyncio.sleep(1)


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
