"""How many bytes of requests are in memory at once: counted as they are announced, before one of them is read."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vssl_server.errors import busy
from vssl_server.places import Stay

HELD = "vssl.held"
"""The scope's key for the request's `Held`."""


class Pending:
    """The bytes of all bodies that have come, or are announced, and are not answered yet."""

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self.stay = Stay()
        self._lock = Lock()

    @contextmanager
    def request(self) -> Iterator["Held"]:
        """One request's share, given back at the end of the block."""
        held, started = Held(self), time.monotonic()
        try:
            yield held
        finally:
            self.change(-held.bytes)
        if held.bytes:
            self.stay.note(time.monotonic() - started)

    def change(self, difference: int) -> bool:
        """Count so many more, or less; False, and nothing, where they are too many. From any thread."""
        with self._lock:
            if difference > 0 and self.bytes + difference > self.limit:
                return False
            self.bytes += difference
            return True


class Held:
    """What one request has of them."""

    def __init__(self, pending: Pending) -> None:
        self.pending, self.bytes = pending, 0

    def reach(self, total: int) -> None:
        """Hold so many bytes in all; more stay held.

        Raises:
            ApiError: 429, all requests together would be over the limit.
        """
        if total <= self.bytes:
            return
        if not self.pending.change(total - self.bytes):
            limit = self.pending.limit
            seconds = self.pending.stay.until_free((total - self.bytes) / max(1, self.pending.bytes))
            message = f"the bodies of the requests in flight would be over {limit:,} bytes"
            raise busy(429, "bodies_full", message, seconds)
        self.bytes = total


class AdmissionMiddleware:
    """Admits a request by the length that it announces; one without a length counts as it comes.

    Raises:
        ApiError: 429; inside of `AccessMiddleware`, which answers it.
    """

    def __init__(self, app: ASGIApp, pending: Pending, max_body_bytes: int) -> None:
        self.app, self.pending, self.max_body_bytes = app, pending, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with self.pending.request() as held:
            scope[HELD] = held
            announced = Headers(scope=scope).get("content-length", "")
            if announced.isdecimal():  # which the body then can't exceed
                # What is announced over the limit of a body is refused by its route, which reads none of it.
                if int(announced) <= self.max_body_bytes:
                    held.reach(int(announced))
                await self.app(scope, receive, send)
                return
            come = 0

            async def counting() -> Message:
                nonlocal come
                message = await receive()
                come += len(message.get("body", b""))
                held.reach(come)
                return message

            await self.app(scope, counting, send)
