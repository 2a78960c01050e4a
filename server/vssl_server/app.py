"""The HTTP application: a short list of routes over the served models."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import orjson
import prometheus_client
from fastapi import FastAPI, Query
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

import vssl
from vssl_server import metrics, schema
from vssl_server.answer import WRITERS, negotiate
from vssl_server.batcher import EngineStoppedError, InferenceError, OverloadedError
from vssl_server.errors import HANDLERS, ApiError, busy
from vssl_server.model import BadImagesError, Model, Result
from vssl_server.request import Image, Options, read_request
from vssl_server.settings import Settings


@dataclass
class Service:
    """What every route sees. `draining` is set when the server was told to stop."""

    settings: Settings
    models: Sequence[Model]
    draining: bool = False

    @property
    def state(self) -> str:
        """`ready`, `draining`, or `unavailable`: a model is still warming up, or its engine has ended."""
        if self.draining:
            return "draining"
        return "ready" if all(model.batcher.ready for model in self.models) else "unavailable"


def create_app(settings: Settings, models: Sequence[Model]) -> FastAPI:
    """The application for at least one model; its lifespan starts and ends the models' engines."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for model in models:
            model.batcher.start()
        yield
        for model in models:
            await asyncio.to_thread(model.batcher.close, settings.deadline_seconds)

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
        # Off even where the environment asks for it: nothing leaves this process but answers.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.service = Service(settings, models)
    app.post("/v1/embed", **schema.EMBED)(embed)
    app.get("/v1/models", **schema.MODELS)(list_models)
    app.get("/healthz", **schema.HEALTHZ)(healthz)
    app.get("/readyz", **schema.READYZ)(readyz)
    app.get("/metrics", **schema.METRICS)(show_metrics)
    known = frozenset(app.openapi()["paths"])
    app.add_middleware(metrics.MetricsMiddleware, known=known)
    return app


async def embed(request: Request, options: Annotated[Options, Query()]) -> Response:
    """Embed images: each one's embedding, its per-dimension variance, and one number for its uncertainty."""
    started = time.monotonic()
    service: Service = request.app.state.service
    model = service.models[0]
    media_type = negotiate(request.headers.get("accept"))
    if service.state != "ready":
        raise busy(503, "not_ready", f"the server is {service.state}")
    try:
        images, options = await read_request(request, options, service.settings)
    except asyncio.CancelledError:
        # The server was told to stop and the rest of this body did not come in time.
        if service.draining:
            raise busy(503, "not_ready", "the server is stopping") from None
        raise
    work = model.embed([image.data for image in images], partial=options.on_error == "return")
    try:
        async with asyncio.timeout(service.settings.deadline_seconds):
            result = await _unless_disconnected(request, work)
    except BadImagesError as error:
        raise _bad_images(images, error) from None
    except OverloadedError as error:
        raise busy(429, "queue_full", f"the server is busy: {error}") from None
    except InferenceError as error:
        raise ApiError(500, "inference_failed", str(error)) from None
    except EngineStoppedError as error:
        raise busy(503, "not_ready", str(error)) from None
    except TimeoutError:
        limit = service.settings.deadline_seconds
        raise ApiError(504, "deadline_exceeded", f"no answer within {limit:g} seconds") from None
    # Hundreds of rows take milliseconds to write, in which the loop can serve others.
    body = await asyncio.to_thread(WRITERS[media_type], model.manifest, images, options, result)
    return Response(body, media_type=media_type, headers=_timing(started, result))


async def list_models(request: Request) -> Response:
    """The served models, in the shape of OpenAI's list, with what a client needs to prepare images for them."""
    service: Service = request.app.state.service
    data = [
        {
            "id": model.manifest.name,
            "object": "model",
            "created": _unix_time(model.manifest.provenance.created),
            "owned_by": "vssl",
            "version": model.manifest.version,
            "bundle_id": model.manifest.id,
            "dimension": model.manifest.outputs.dimension,
            "image_size": model.manifest.preprocessing.size,
            "max_images": service.settings.max_images,
            "max_body_bytes": service.settings.max_body_bytes,
        }
        for model in service.models
    ]
    return _json({"object": "list", "data": data})


async def healthz() -> Response:
    """The process is alive."""
    return _json({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Every model can answer; 503 while loading, while draining, and when an engine has ended."""
    service: Service = request.app.state.service
    return _json({"status": service.state}, 200 if service.state == "ready" else 503)


async def show_metrics() -> Response:
    """Prometheus metrics."""
    body = prometheus_client.generate_latest(metrics.REGISTRY)
    return Response(body, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})


async def _unless_disconnected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The work's result, or ClientDisconnect as soon as nobody waits for it. The body has been read before."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


def _bad_images(images: Sequence[Image], error: BadImagesError) -> ApiError:
    reasons = []
    for index, refusal in error.refused.items():
        name = images[index].name
        reasons.append(f"images[{index}]{f' ({name})' if name else ''}: {refusal.message}")
    first = next(iter(error.refused))
    return ApiError(
        422,
        "invalid_image",
        f"{len(reasons)} of {len(images)} images can't be embedded: " + "; ".join(reasons),
        param=f"images[{first}]",
    )


def _timing(started: float, result: Result) -> dict[str, str]:
    seconds = {
        "total": time.monotonic() - started,
        "queue": result.answer.queue_seconds,
        "inference": result.answer.inference_seconds,
    }
    return {"Server-Timing": ", ".join(f"{name};dur={value * 1000:.3f}" for name, value in seconds.items())}


def _unix_time(created: str) -> int:
    try:
        return int(datetime.fromisoformat(created).timestamp())
    except ValueError:
        return 0


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
