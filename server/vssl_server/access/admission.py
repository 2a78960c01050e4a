"""Admits requests by the bytes that they announce, before one of them is read."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vssl_server.wire.capacity import HELD, Pending


class AdmissionMiddleware:
    """Admits a request by the length that it announces. A body without a length counts as it arrives.

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
                # A longer body than the limit is refused by its route, which reads none of it.
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
