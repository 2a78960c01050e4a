"""`POST /v1/embed`: images in three forms, answers in three."""

import time

from starlette.requests import Request
from starlette.responses import Response

from vssl_server.http.embed.request import options_of, read_request
from vssl_server.http.embed.writers import WRITERS, negotiate
from vssl_server.models.deadline import timeout_of
from vssl_server.models.registry import LARGE_ANSWER, Service, apart, unless_disconnected
from vssl_server.wire.timing import server_timing


async def embed(request: Request) -> Response:
    """Embed images: each one's embedding, its per-dimension variance, and one number for its uncertainty."""
    started = time.monotonic()
    service: Service = request.app.state.service
    media_type, timeout = negotiate(request.headers.get("accept")), timeout_of(request.headers)
    options = options_of(request.scope["query_string"])
    async with service.receiving():
        images, options = await read_request(request, options, service.settings)
    model = service.model(options.model)
    work = model.embed([image.data for image in images], partial=options.on_error == "return")
    names = [image.name for image in images]
    result = await service.answer(unless_disconnected(request, work), "images", names, timeout)
    with model.metrics.encode_seconds.time():
        body = await apart(len(images) > LARGE_ANSWER, WRITERS[media_type], model.manifest, images, options, result)
    return Response(
        body,
        media_type=media_type,
        headers=server_timing(started, result.answer.queue_seconds, result.answer.inference_seconds),
    )
