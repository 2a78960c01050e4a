"""What a gRPC client may hold, and for how long. Each connection ends, whatever the client sends or does not send."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc

from vssl_server.models.registry import ModelRegistry
from vssl_server.settings import Settings

Message = Any  # the stubs have no types
Handler = Any
CallDetails = Any


def channel_options(settings: Settings) -> list[tuple[str, int]]:
    """The options of the server's connections, in the terms of gRPC's core."""
    return [
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.server_handshake_timeout_ms", _milliseconds(settings.receive_seconds)),
        ("grpc.max_connection_idle_ms", _milliseconds(settings.grpc_idle_seconds)),
        ("grpc.max_connection_age_ms", _milliseconds(settings.grpc_age_seconds)),
        # Requests in flight on a connection that is too old may still finish.
        ("grpc.max_connection_age_grace_ms", _milliseconds(settings.receive_seconds + settings.deadline_seconds)),
        ("grpc.max_concurrent_streams", settings.grpc_streams),
        # Two servers must not share a port, as each would answer half of the requests; the workers of one may.
        ("grpc.so_reuseport", int(settings.several)),
    ]


class ReceiveLimit(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Limits the time for a request's message: gRPC itself waits as long as the connection lasts.

    Args:
        registry: whose settings say how long.
        refused: whether a call of this method with this metadata will be refused: then its message is not read.
    """

    def __init__(self, registry: ModelRegistry, refused: Callable[[str, Mapping[str, str]], bool]) -> None:
        self.registry, self.refused = registry, refused

    async def intercept_service(
        self, continuation: Callable[[CallDetails], Awaitable[Handler]], call: CallDetails
    ) -> Handler:
        """Read the one message of the request as the first of a stream, which the wire can't tell apart."""
        handler = await continuation(call)
        if handler is None or handler.request_streaming:
            return handler
        codec = (handler.request_deserializer, handler.response_serializer)
        refused = self.refused(call.method, dict(call.invocation_metadata or ()))

        async def first(messages: AsyncIterator[Message], context: Any) -> Message:  # noqa: ANN401
            return codec[0](b"") if refused else await self._first(messages, context)

        if handler.response_streaming:

            async def stream(messages: AsyncIterator[Message], context: Any) -> AsyncIterator[Message]:  # noqa: ANN401
                message = await first(messages, context)
                async for answer in handler.unary_stream(message, context):
                    yield answer

            return grpc.stream_stream_rpc_method_handler(stream, *codec)

        async def unary(messages: AsyncIterator[Message], context: Any) -> Message:  # noqa: ANN401
            return await handler.unary_unary(await first(messages, context), context)

        return grpc.stream_unary_rpc_method_handler(unary, *codec)

    async def _first(self, messages: AsyncIterator[Message], context: Any) -> Message:  # noqa: ANN401
        limit = self.registry.settings.receive_seconds
        try:
            async with asyncio.timeout(limit):
                return await anext(aiter(messages))
        except TimeoutError:
            text = f"the message did not come within {limit:g} seconds"
            return await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, text)
        except StopAsyncIteration:
            return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request has no message")


def _milliseconds(seconds: float) -> int:
    return max(1, min(round(seconds * 1000), 2**31 - 1))
