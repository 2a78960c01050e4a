"""`POST /v1/embed`: images in four forms, answers in four."""

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from vssl_server.http.embed.options import options_of
from vssl_server.http.embed.request import read_request
from vssl_server.http.embed.writers import WRITERS, negotiate
from vssl_server.http.exchange import Exchange
from vssl_server.wire.tensors import check_size


async def embed(request: Request) -> Response:
    """Embed images: each one's embedding, its per-dimension variance, and one number for its uncertainty."""
    media_type = negotiate(request.headers.get("accept"))
    exchange, options = Exchange(request), options_of(request.scope["query_string"])
    async with exchange.receiving():
        images, options = await read_request(request, options, exchange.settings)
    model = exchange.registry.model(options.model)
    names = [None] * len(images) if isinstance(images, np.ndarray) else [image.name for image in images]
    async with exchange.answering("images", names):
        if isinstance(images, np.ndarray):
            check_size(images, model.manifest.preprocessing.size)
            result = await model.embed_pixels(images)
        else:
            result = await model.embed([image.data for image in images], partial=options.on_error == "return")
    body = await exchange.written(model, len(names), WRITERS[media_type], model, names, options, result)
    return Response(body, media_type=media_type, headers=exchange.timing(result))
