"""What surrounds every request, by HTTP or gRPC: API keys, request ids, metrics, and a line in the log."""

import hashlib
import hmac
import itertools
import logging
import secrets
import time
from functools import cache
from pathlib import Path

import orjson
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vssl.errors import UsageError
from vssl_server import metrics
from vssl_server.direct import ROUTE
from vssl_server.errors import CLIENT_CLOSED_REQUEST, REQUEST_ID, ApiError
from vssl_server.settings import Settings

OPEN_PATHS = frozenset(("/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"))
"""These answer without a key: what watches the server has none."""

ADMIN_PATHS = "/v2/repository/"
"""Under this an administrator's key is needed, and no other will do."""

# Random once: a call for every request would give the loop's thread away each time.
_PROCESS, _NUMBERS = secrets.token_hex(12), itertools.count(1)

logger = logging.getLogger("vssl.requests")


class Keys:
    """The keys that are accepted; without a file every request is."""

    def __init__(self, file: Path | None, flag: str = "--api-keys-file") -> None:
        """Read one key a line; empty lines and those that start with # don't count.

        Raises:
            UsageError: the file is not there, holds no key, or one that is not ASCII.
        """
        self._digests: list[bytes] | None = None
        if file is not None:
            try:
                lines = [line.strip() for line in file.read_text().splitlines()]
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{flag} {file} can't be read: {error}") from None
            keys = [line for line in lines if line and not line.startswith("#")]
            if not keys or not all(key.isascii() for key in keys):
                problem = "a key is not ASCII, as a header must be" if keys else "holds no key; write one a line"
                raise UsageError(f"{flag} {file}: {problem}")
            self._digests = [_digest(key) for key in keys]

    def check(self, authorization: str | None) -> None:
        """Check the value of a header or of gRPC's metadata, `Bearer KEY`, in a time that tells nothing of the keys.

        Raises:
            ApiError: 401, no key or another one.
        """
        if self._digests is None:
            return
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip())
        # All are compared, whichever fits.
        fits = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(fits):
            message = "this server needs an API key: send the header Authorization: Bearer KEY"
            raise ApiError(401, "invalid_api_key", message, headers={"WWW-Authenticate": "Bearer"})


class AdminKeys(Keys):
    """The keys that may change what is served; without a file nobody may."""

    def __init__(self, file: Path | None) -> None:
        super().__init__(file, "--admin-keys-file")

    def check(self, authorization: str | None) -> None:
        """As with every key; ApiError 403 where there is none."""
        if self._digests is None:
            raise ApiError(403, "administration_off", "start the server with --admin-keys-file to do this")
        super().check(authorization)


class AccessMiddleware:
    """Checks the key, names the request and echoes its name, counts, times and logs it."""

    def __init__(self, app: ASGIApp, keys: Keys, admin_keys: AdminKeys, settings: Settings) -> None:
        self.app, self.keys, self.admin_keys, self.settings = app, keys, admin_keys, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        started, status = time.monotonic(), 500
        request_id = scope[REQUEST_ID] = name_of(headers.get(REQUEST_ID))

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID.encode(), request_id.encode())]
            await send(message)

        try:
            if path.startswith(ADMIN_PATHS):
                self.admin_keys.check(headers.get("authorization"))
            elif path not in OPEN_PATHS:
                self.keys.check(headers.get("authorization"))
            await self.app(scope, receive, watch)
        except ApiError as error:  # that of the key; others have become answers inside
            await error.response(path)(scope, receive, watch)
        finally:
            # Clients choose paths, so only a route names a series.
            route = scope.get("route")
            template: str = scope[ROUTE] if ROUTE in scope else getattr(route, "path", "other")
            record(template, status, started, answered=status != CLIENT_CLOSED_REQUEST)
            if self.settings.log_requests:
                log(request_id, f"{scope['method']} {path}", status, started)


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


def log(request_id: str, request: str, status: int | str, started: float) -> None:
    """Write one line of JSON about a request; `time` is in seconds since 1970."""
    line = {
        "time": round(time.time(), 6),
        "request_id": request_id,
        "request": request,
        "status": status,
        "seconds": round(time.monotonic() - started, 6),
    }
    logger.info(orjson.dumps(line).decode())


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
