"""The HTTP application: a short list of routes over the served models."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ctypes import c_bool
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

import vssl
from vssl_server.access.admission import AdmissionMiddleware
from vssl_server.access.hosts import HostsMiddleware
from vssl_server.access.keys import Keys
from vssl_server.access.middleware import OPEN_PATHS, AccessMiddleware
from vssl_server.access.turns import TurnsMiddleware
from vssl_server.engine.model import Model
from vssl_server.http import operation
from vssl_server.http.admin import routes as administration
from vssl_server.http.direct import DirectRoutes, Endpoint
from vssl_server.http.embed import schema as embed_schema
from vssl_server.http.embed.routes import embed
from vssl_server.http.inference import routes as inference_rest
from vssl_server.http.openai import schema as openai_schema
from vssl_server.http.openai.models import list_models, retrieve_model
from vssl_server.http.openai.routes import create_embeddings
from vssl_server.http.rules import Methods, MetricsPort, RootPath
from vssl_server.inference_v2.protocol import Catalogue
from vssl_server.models.registry import ModelRegistry
from vssl_server.models.repository import OpenModel, Repository
from vssl_server.observed import metrics
from vssl_server.page import routes as page
from vssl_server.settings import Settings
from vssl_server.wire.errors import HANDLERS

LAG_SECONDS = 0.25
"""Between two measurements of the event loop's lag."""


def create_app(
    settings: Settings,
    models: Sequence[Model],
    open_model: OpenModel | None = None,
    locations: Sequence[Path] = (),
    beside: c_bool | None = None,
) -> FastAPI:
    """The application for at least one model; its lifespan starts and ends the models' engines.

    With `open_model` models can be loaded later; `locations` are the bundles of `models`, in their order. `beside`
    says whether other processes serve the same port already; None where there are none.
    """
    registry = ModelRegistry(settings, models, beside)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # No variable of this function may hold a model: it would keep an unloaded one in memory.
        registry.start()
        tasks = [asyncio.create_task(_measure_lag())]
        if beside is not None and beside.value:
            # It listens when it can answer, as others serve meanwhile; or when it is told to end before that.
            warm = [asyncio.wrap_future(model.batcher.warm) for model in registry.models]
            while not registry.draining and (await asyncio.wait(warm, timeout=0.1))[1]:
                pass
        if settings.several:
            tasks.append(asyncio.create_task(_publish(registry)))
        galleries = app.state.galleries
        if galleries is not None:
            tasks += [asyncio.create_task(one) for one in galleries.tended()]
        yield
        for task in tasks:
            task.cancel()
        if galleries is not None:
            await asyncio.to_thread(galleries.close)
        await registry.close()

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
    app.state.registry = registry
    _add_routes(app, registry, open_model, locations)
    _add_layers(app, registry)
    return app


def _add_routes(app: FastAPI, registry: ModelRegistry, open_model: OpenModel | None, locations: Sequence[Path]) -> None:
    """What the server answers."""
    app.post("/v1/embed", **embed_schema.EMBED)(embed)
    app.post("/v1/embeddings", **openai_schema.EMBEDDINGS)(create_embeddings)
    app.get("/v1/models", **openai_schema.MODELS)(list_models)
    app.get("/v1/models/{name}", **openai_schema.MODEL)(retrieve_model)
    operation.add_routes(app)
    inference_rest.add_routes(app, Catalogue(registry))
    app.state.repository = None
    if open_model is not None:
        app.state.repository = Repository(registry, open_model, locations)
        administration.add_routes(app, app.state.repository)
    app.state.galleries = None
    if registry.settings.galleries is not None:
        from vssl_server.http.galleries.setting_up import add_galleries  # its extra may not be installed

        app.state.galleries = add_galleries(app, registry.settings.galleries)
    if registry.settings.ui:
        page.add_routes(app)
    for route in [route for route in app.routes if isinstance(route, APIRoute) and "GET" in (route.methods or ())]:
        app.add_api_route(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)


def _add_layers(app: FastAPI, registry: ModelRegistry) -> None:
    """What surrounds the routes, from inside to outside."""
    settings = registry.settings
    app.add_middleware(Methods, routes=app.routes)
    busiest: dict[str, Endpoint] = {"/v1/embed": embed, "/v1/embeddings": create_embeddings}
    if app.state.galleries is not None:
        from vssl_server.http.galleries.searching import SEARCHES

        busiest |= SEARCHES
    handlers: Any = app.exception_handlers  # coroutines, every one
    app.add_middleware(DirectRoutes, endpoints=busiest, handlers=handlers)
    app.add_middleware(AdmissionMiddleware, pending=registry.pending, max_body_bytes=settings.max_body_bytes)
    app.add_middleware(TurnsMiddleware, at_once=OPEN_PATHS)
    app.add_middleware(HostsMiddleware, settings=settings)
    keys = Keys(settings.api_keys_file, settings.admin_keys_file)
    app.add_middleware(AccessMiddleware, keys=keys, settings=settings)
    if settings.metrics_port is not None:
        app.add_middleware(MetricsPort, port=settings.metrics_port, health=OPEN_PATHS)
    if settings.cors_origins is not None:  # outside the keys: a browser asks for permission before it sends one
        app.add_middleware(
            CORSMiddleware,
            allow_origins=[origin.strip() for origin in settings.cors_origins.split(",")],
            allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=["X-Request-Id", "Server-Timing", "Retry-After", "Inference-Header-Content-Length"],
        )
    if settings.root_path:
        app.add_middleware(RootPath, root_path=settings.root_path)


async def _measure_lag() -> None:
    """How late the loop's timers are, for as long as it runs."""
    while True:
        due = time.monotonic() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        metrics.LOOP_LAG.observe(max(0.0, time.monotonic() - due))


async def _publish(registry: ModelRegistry) -> None:
    """Store this worker's gauges once a second, as other workers can't ask for them."""
    while True:
        for model in registry.models:
            model.publish()
        await asyncio.sleep(1)
