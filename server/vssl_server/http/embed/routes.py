"""`POST /v1/embed`: images in four forms, answers in four."""

from starlette.requests import Request
from starlette.responses import Response

from vssl_server.http.embed.options import options_of
from vssl_server.http.embed.request import read_pixels, read_request
from vssl_server.http.embed.writers import WRITERS, negotiate
from vssl_server.http.exchange import Exchange
from vssl_server.wire.body import media_type
from vssl_server.wire.tensors import NPY, check_size


async def embed(request: Request) -> Response:
    """Embed images: each one's embedding, its per-dimension variance, and one number for its uncertainty."""
    form = negotiate(request.headers.get("accept"))
    exchange, options = Exchange(request), options_of(request.scope["query_string"])
    names: list[str | None]
    if media_type(request) == NPY:
        async with exchange.receiving():
            pixels = await read_pixels(request, exchange.settings)
        model, names = exchange.registry.model(options.model), [None] * len(pixels)
        check_size(pixels, model.manifest.preprocessing.size)
        async with exchange.answering("images", names):
            result = await model.embed_pixels(pixels)
    else:
        async with exchange.receiving():
            images, options = await read_request(request, options, exchange.settings)
        model, names = exchange.registry.model(options.model), [image.name for image in images]
        async with exchange.answering("images", names):
            result = await model.embed([image.data for image in images], partial=options.on_error == "return")
    body = await exchange.written(model, len(names), WRITERS[form], model, names, options, result)
    return Response(body, media_type=form, headers=exchange.timing(result))
