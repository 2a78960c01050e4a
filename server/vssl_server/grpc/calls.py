"""What surrounds each call: its key, its name, its errors, and that it is counted, timed and logged."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from functools import wraps
from typing import Any, Protocol

import grpc

from vssl_server.access.keys import ADMIN, EMBED, Keys
from vssl_server.access.middleware import name_of, record
from vssl_server.inference_v2.protocol import NO_SHARED_MEMORY
from vssl_server.models.registry import ModelRegistry
from vssl_server.observed import metrics
from vssl_server.observed.request_log import FACTS, Entry, Facts
from vssl_server.observed.tracing import called
from vssl_server.wire.errors import REQUEST_ID, ApiError

SERVICE = "inference.GRPCInferenceService"
CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""HTTP's statuses in gRPC's words; all others are INVALID_ARGUMENT."""

OPEN_METHODS = ("ServerLive", "ServerReady")
"""These answer without a key, as the health service does."""

ADMIN_METHODS = ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload")
SCOPES = {"ModelInfer": EMBED} | dict.fromkeys(ADMIN_METHODS, ADMIN)
"""The scope that a key needs; for the other methods any key will do."""

Message = Any  # the stubs have no types
Context = Any
Handler = Callable[[Any, Message, Context], Awaitable[Message]]

logger = logging.getLogger("vssl.server")


class Servicer(Protocol):
    """What a call needs of the object whose method it is."""

    registry: ModelRegistry
    keys: Keys


def check_key(keys: Keys, path: str, metadata: Mapping[str, str]) -> str | None:
    """Check the key of a call and return its name; ApiError where another one is needed."""
    _, service, method = path.split("/")
    if service != SERVICE or method in OPEN_METHODS:
        return None
    return keys.check(metadata.get("authorization"), SCOPES.get(method)).name


def rpc(handler: Handler) -> Handler:
    """Check the key, count, time and log a call, and turn its errors into gRPC's."""
    path = f"/{SERVICE}/{handler.__name__}"

    @wraps(handler)
    async def call(self: Servicer, request: Message, context: Context) -> Message:
        started, status, message, key = time.monotonic(), grpc.StatusCode.CANCELLED, "", None
        FACTS.set(facts := Facts())
        metadata = dict(context.invocation_metadata() or ())
        request_id = name_of(metadata.get(REQUEST_ID))
        context.set_trailing_metadata(((REQUEST_ID, request_id),))
        try:
            key = check_key(self.keys, path, metadata)
            with nullcontext() if handler.__name__ in OPEN_METHODS else called(path, metadata):
                answer = await handler(self, request, context)
            status = grpc.StatusCode.OK
            return answer
        except ApiError as error:
            metrics.REFUSALS.labels(error.code).inc()
            status, message = CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT), error.message
        except Exception as error:
            metrics.REFUSALS.labels("internal_error").inc()
            logger.error("%s failed", path, exc_info=error)
            status, message = grpc.StatusCode.INTERNAL, "the server failed on this request; its log says why"
        finally:
            record(path, status.name, started)
            settings = self.registry.settings
            if settings.log_requests and (settings.log_health or handler.__name__ not in OPEN_METHODS):
                client, parent = context.peer(), metadata.get("traceparent")
                size = request.ByteSize()
                Entry(request_id, "gRPC", path, path, status.name, started, size, client, key, facts, parent).write()
        return await context.abort(status, message)

    return call


def unsupported(name: str) -> Handler:
    """A method of Triton's that this server does not have."""
    why = NO_SHARED_MEMORY if "SharedMemory" in name else f"{name} is not supported"

    async def call(self: Servicer, request: Message, context: Context) -> Message:
        return await context.abort(grpc.StatusCode.UNIMPLEMENTED, why)

    return call
