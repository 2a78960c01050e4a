"""The standard health service, `grpc.health.v1.Health`."""

import asyncio
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from vssl_server.grpc.calls import SERVICE, Context, Message
from vssl_server.models.registry import ModelRegistry

WATCH_SECONDS = 1.0
"""Between two looks at the state for a client that watches it."""

WATCHES = 1000
"""The most clients that watch at once; they need no key."""


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """`grpc.health.v1.Health` for the whole server, and for the inference service by its name."""

    def __init__(self, registry: ModelRegistry) -> None:
        self.registry = registry
        self._watches = 0

    async def Check(self, request: Message, context: Context) -> Message:  # noqa: N802
        """SERVING while some model can answer."""
        if request.service not in ("", SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service[:100]!r}; there is {SERVICE}")
        return self._status()

    async def Watch(self, request: Message, context: Context) -> AsyncIterator[Message]:  # noqa: N802
        """The status now and whenever it changes, until the server stops."""
        if self._watches >= WATCHES:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{WATCHES} clients watch already; ask with Check")
        self._watches += 1
        sent = None
        try:
            while True:
                last = self.registry.draining
                if (status := self._status()) != sent:
                    yield status
                    sent = status
                if last:
                    return
                await asyncio.sleep(WATCH_SECONDS)
        finally:
            self._watches -= 1

    def _status(self) -> Message:
        serving = "SERVING" if self.registry.state == "ready" else "NOT_SERVING"
        return health_pb2.HealthCheckResponse(status=serving)
