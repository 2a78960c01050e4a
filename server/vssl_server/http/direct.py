"""The busiest routes, answered without the framework's routing and dependencies, which cost more than a small image.

They are routes of the FastAPI application too, so that `/openapi.json` lists them. Only their requests stop here.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vssl_server.access.middleware import ROUTE
from vssl_server.observed.tracing import name_route

Endpoint = Callable[..., Awaitable[Response]]
NAME = "{name}"


class DirectRoutes:
    """Answers `POST` on the given paths; all else goes on to the application.

    Args:
        app: the application.
        endpoints: by their paths. In one of these the last part but one may be `{name}`, which the endpoint takes.
        handlers: what the application answers to errors.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint], handlers: Mapping[Any, Endpoint]) -> None:
        self.app, self.endpoints, self.handlers = app, endpoints, handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        posted = scope["type"] == "http" and scope["method"] == "POST"
        path, given = self._route(scope["path"]) if posted else ("", {})
        endpoint = self.endpoints.get(path)
        if endpoint is None:
            await self.app(scope, receive, send)
            return
        scope[ROUTE] = path
        name_route("POST", path)
        request = Request(scope, receive)
        try:
            response = await endpoint(request, **given)
        except Exception as error:
            known = (kind for kind in type(error).__mro__ if kind is not Exception and kind in self.handlers)
            if (kind := next(known, None)) is None:
                raise
            response = await self.handlers[kind](request, error)
        await response(scope, receive, send)

    def _route(self, path: str) -> tuple[str, dict[str, str]]:
        """The path of an endpoint that this may be, and what the endpoint takes."""
        if path in self.endpoints and NAME not in path:
            return path, {}
        front, _, last = path.rpartition("/")
        before, _, name = front.rpartition("/")
        return (f"{before}/{NAME}/{last}", {"name": name}) if name else ("", {})
