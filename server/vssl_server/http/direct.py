"""The busiest routes, answered without the framework's routing and dependencies, which cost more than a small image.

They are routes of the FastAPI application too, so that `/openapi.json` lists them. Only their requests stop here.
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vssl_server.access.middleware import ROUTE
from vssl_server.observed.tracing import name_route
from vssl_server.wire.errors import HANDLERS, ApiError

Endpoint = Callable[[Request], Awaitable[Response]]


class DirectRoutes:
    """Answers `POST` on the given paths; all else goes on to the application."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self.app, self.endpoints = app, endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        path = scope.get("path", "")
        endpoint = self.endpoints.get(path) if scope["type"] == "http" and scope["method"] == "POST" else None
        if endpoint is None:
            await self.app(scope, receive, send)
            return
        scope[ROUTE] = path
        name_route("POST", path)
        request = Request(scope, receive)
        try:
            response = await endpoint(request)
        except (ApiError, ClientDisconnect) as error:
            response = await HANDLERS[type(error)](request, error)
        await response(scope, receive, send)
