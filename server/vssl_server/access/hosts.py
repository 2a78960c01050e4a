"""Who may ask from a browser, on the paths that hold people's images: `Host` and `Origin` are checked there.

A page of another site can let its own name point to this machine (DNS rebinding). The browser then takes our answers
for that site's own, but it still sends that name as `Host`. And a page can send requests that it may not read the
answers of, so whatever writes must come from a page of ours.
"""

import re
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vssl_server.settings import Settings, is_loopback
from vssl_server.wire.errors import ApiError

CHECKED = re.compile(r"/(ui|v1/galleries|v1/aliases|v1/jobs)(/.*)?", re.DOTALL)
"""The paths. Health, metrics and embedding are asked by programs alone, under any name."""

READS = re.compile(r"/v1/galleries/[^/]*/(search|classify)", re.DOTALL)
"""A `POST` that only reads."""

LOOPBACK = frozenset(("localhost", "127.0.0.1", "[::1]"))
MARK = "X-VSSL-Request"
"""A header that a page can send to another origin only when that origin allows it."""


class HostsMiddleware:
    """Refuses unknown hosts and foreign pages on the paths of galleries.

    Raises:
        ApiError: 421 `host_not_allowed`; 403 `cross_origin`; inside of `AccessMiddleware`, which answers it.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.allowed = frozenset(_listed(settings.allowed_hosts))
        self.origins = frozenset(_listed(settings.cors_origins))
        # A browser names an address as `Host` only where its user asked for that address: no name points there.
        self.any_address = settings.uds is None and not is_loopback(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] == "http" and CHECKED.fullmatch(scope["path"]):
            headers = Headers(scope=scope)
            host = headers.get("host", "").lower()
            if not host_allowed(host, self.allowed, self.any_address):
                message = f"host {host!r} is not one of this server's; name it to --allowed-hosts if it should be"
                raise ApiError(421, "host_not_allowed", message)
            reads = scope["method"] in ("GET", "HEAD", "OPTIONS") or READS.fullmatch(scope["path"])
            if not reads and (origin := headers.get("origin")) is not None:
                self._check_origin(origin.lower(), host, headers.get(MARK))
        await self.app(scope, receive, send)

    def _check_origin(self, origin: str, host: str, mark: str | None) -> None:
        own = urlsplit(origin).netloc == host and "://" in origin
        if not own and not self.origins & {origin, "*"}:
            message = f"pages of {origin} may not write here; name that origin to --cors-origins if they should"
            raise ApiError(403, "cross_origin", message)
        if mark != "1":
            raise ApiError(403, "cross_origin", f"a page that writes must send the header {MARK}: 1")


def host_allowed(host: str, allowed: Collection[str], any_address: bool) -> bool:
    """Whether a request may name that `Host`.

    Args:
        host: the header, in lower case.
        allowed: names beside those of the loopback, with a port or for all ports; `*` is every name.
        any_address: IP addresses may be named too.
    """
    parts = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(:\d{1,5})?", host)
    if parts is None:
        return False
    name = parts[1]
    return bool({name, host, "*"} & {*LOOPBACK, *allowed}) or (any_address and _is_address(name.strip("[]")))


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _listed(names: str | None) -> list[str]:
    return [name.strip().lower().rstrip("/") for name in (names or "").split(",") if name.strip()]
