"""What surrounds every request, by HTTP or gRPC: API keys, request ids, metrics, and a line in the log."""

import itertools
import re
import secrets
import time
from functools import cache

from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vssl_server.access.keys import ADMIN, EMBED, KEY, Key, Keys
from vssl_server.observed import metrics
from vssl_server.observed.request_log import FACTS, Entry, Facts
from vssl_server.settings import Settings
from vssl_server.wire.errors import CLIENT_CLOSED_REQUEST, REQUEST_ID, ApiError

OPEN_PATHS = frozenset(("/healthz", "/readyz", "/health", "/ping", "/metrics", "/v2/health/live", "/v2/health/ready"))
"""These answer without a key, as monitoring has none."""

PAGE = re.compile(r"/ui(/.*)?", re.DOTALL)
"""Nor do the files of the page: it asks for a key itself, and a browser sends none of its own."""

ROUTE = "vssl.route"
"""The ASGI scope's key for the path of a route, where another than the router found it."""

ADMIN_PATHS = re.compile(r"/v2/repository/.*|/v1/galleries/[^/]*/(snapshots|restore|import)", re.DOTALL)
"""For these a key needs the scope `admin`."""

# Random once: a system call for each request would cost the loop its turn.
_PROCESS, _NUMBERS = secrets.token_hex(12), itertools.count(1)


def scope_of(path: str) -> str | None:
    """The scope that a key needs for a path; None: any key will do."""
    if ADMIN_PATHS.fullmatch(path):
        return ADMIN
    infers = path.startswith("/v2/models/") and path.endswith("/infer")
    return EMBED if infers or path in ("/v1/embed", "/v1/embeddings") else None


class AccessMiddleware:
    """Checks the key, names the request and echoes its name, counts, times and logs it."""

    def __init__(self, app: ASGIApp, keys: Keys, settings: Settings) -> None:
        self.app, self.keys, self.settings = app, keys, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        started, status = time.monotonic(), 500
        request_id = scope[REQUEST_ID] = name_of(headers.get(REQUEST_ID))

        logged = self.settings.log_requests and (self.settings.log_health or path not in OPEN_PATHS)
        if logged:
            FACTS.set(facts := Facts())
            receive = counted = CountedBody(receive)

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID.encode(), request_id.encode())]
            await send(message)

        try:
            inside = path.removeprefix(scope.get("root_path", ""))  # as the router sees it
            if inside not in OPEN_PATHS and not PAGE.fullmatch(inside):
                scope[KEY] = self.keys.check(headers.get("authorization"), scope_of(inside))
            await self.app(scope, receive, watch)
        except ApiError as error:  # that of the key; others have become answers inside
            await error.response(path)(scope, receive, watch)
        finally:
            route = route_of(scope)
            record(route, status, started, answered=status != CLIENT_CLOSED_REQUEST)
            if logged:
                client = scope["client"][0] if scope["client"] else None
                key: Key | None = scope.get(KEY)
                name, parent = key.name if key else None, headers.get("traceparent")
                method, size = scope["method"], counted.bytes
                Entry(request_id, method, path, route, status, started, size, client, name, facts, parent).write()


class CountedBody:
    """A `receive` that counts the bytes of the body."""

    def __init__(self, receive: Receive) -> None:
        self.receive, self.bytes = receive, 0

    async def __call__(self) -> Message:
        """The next message."""
        message = await self.receive()
        self.bytes += len(message.get("body", b""))
        return message


def route_of(scope: Scope) -> str:
    """The template of the request's path, which names a series of the metrics; a refused request has one too."""
    if ROUTE in scope:
        return str(scope[ROUTE])
    fitting = (route for route in scope["app"].routes if route.matches(scope)[0] != Match.NONE)
    return getattr(scope.get("route") or next(fitting, None), "path", "other")


def name_of(given: str | None) -> str:
    """The request's id: the client's own where it is short and printable, else a new one."""
    if given and len(given) <= 128 and given.isascii() and given.isprintable():
        return given
    return f"{_PROCESS}{next(_NUMBERS):08x}"


def record(route: str, status: int | str, started: float, answered: bool = True) -> None:
    """Count a request that came at `started` on the monotonic clock, and time it if it was answered."""
    count, seconds = _series(route, status)
    count.inc()
    if answered:
        seconds.observe(time.monotonic() - started)


@cache  # of routes and statuses there are few
def _series(route: str, status: int | str) -> tuple[Counter, Histogram]:
    return metrics.REQUESTS.labels(route, status), metrics.REQUEST_SECONDS.labels(route)
