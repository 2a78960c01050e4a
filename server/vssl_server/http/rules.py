"""Rules for all routes: their methods, the port of the metrics, the path in front of them."""

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vssl_server.access.middleware import ROUTE
from vssl_server.wire.errors import ApiError


class Methods:
    """Answers `OPTIONS` with what a path allows, and says the same in every 405."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self.app, self.routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 405:
                MutableHeaders(scope=message)["Allow"] = self._allowed(scope)
            await send(message)

        if scope["method"] == "OPTIONS" and (allowed := self._allowed(scope)):
            await Response(status_code=204, headers={"Allow": allowed})(scope, receive, send)
        else:
            await self.app(scope, receive, tell)

    def _allowed(self, scope: Scope) -> str:
        path: str = scope["path"]
        methods: set[str] = set()
        for route in self.routes:
            if path == "*" or route.path_regex.match(path):  # type: ignore[attr-defined]
                methods |= route.methods or set()  # type: ignore[attr-defined]
                scope.setdefault(ROUTE, "*" if path == "*" else route.path)  # type: ignore[attr-defined]
        return ", ".join(sorted(methods | {"OPTIONS"})) if methods else ""


class RootPath:
    """Removes the proxy's path from the front of a request's path, if it is still there."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app, self.root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] == "http":
            if scope["path"].startswith(self.root_path + "/"):
                scope["path"] = scope["path"].removeprefix(self.root_path)
                scope["raw_path"] = scope["raw_path"].removeprefix(self.root_path.encode())
            if scope["path"] == "/openapi.json":
                scope["root_path"] = self.root_path  # which it tells; the router would look for it in other paths
        await self.app(scope, receive, send)


class MetricsPort:
    """Serves metrics and health on a port of their own, nothing else there, and metrics nowhere else."""

    def __init__(self, app: ASGIApp, port: int, health: frozenset[str]) -> None:
        self.app, self.port, self.health = app, port, health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] == "http":
            path = scope["path"]
            here = scope["server"] is not None and scope["server"][1] == self.port
            if (path not in self.health) if here else path == "/metrics":
                hint = "on this port there are only metrics and health" if here else "metrics have a port of their own"
                error = ApiError(404, "not_found", f"{scope['method']} {path}: {hint}")
                await error.response(path)(scope, receive, send)
                return
        await self.app(scope, receive, send)
