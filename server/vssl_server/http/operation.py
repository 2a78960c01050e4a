"""Routes for monitoring: `/healthz`, `/readyz`, `/metrics`."""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

import prometheus_client
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from vssl_server.http import schema
from vssl_server.http.exchange import json_response
from vssl_server.models.registry import ModelRegistry
from vssl_server.observed import metrics


def add_routes(app: FastAPI) -> None:
    """Put the routes on the application."""
    app.get("/healthz", **schema.HEALTHZ)(healthz)
    for path in ("/readyz", "/health", "/ping"):  # the last two are what other servers of models have
        app.get(path, **schema.READYZ)(readyz)
    app.get("/metrics", **schema.METRICS)(show_metrics)


async def healthz() -> Response:
    """The process is alive."""
    return json_response({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Some model can answer; 503 while loading, while draining, and when all fail. Names those that fail, and says why
    galleries are away if they are: that stops no embedding.
    """
    registry: ModelRegistry = request.app.state.registry
    failed = [f"{model.name} {model.version}" for model in registry.failed]
    answer: dict[str, object] = {"status": registry.state} | ({"failed": failed} if failed else {})
    galleries = request.app.state.galleries
    if galleries is not None and galleries.away is not None:
        answer["galleries"] = galleries.away
    return json_response(answer, 200 if registry.state == "ready" else 503)


async def show_metrics() -> Response:
    """Prometheus metrics."""
    return Response(await metrics_page(), headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})


class MetricsPage:
    """The page of metrics, written in a thread as that takes milliseconds. Requests during that time share it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "metrics")
        self._page: Future[bytes] | None = None

    async def __call__(self) -> bytes:
        """The series as they are now."""
        if self._page is None or self._page.done():
            self._page = self._thread.submit(metrics.exposition)
        return await asyncio.shield(asyncio.wrap_future(self._page))


metrics_page = MetricsPage()
