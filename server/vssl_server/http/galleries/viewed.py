"""From a request to what its key may see of a gallery; every route of a gallery begins here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vssl.errors import UsageError, VsslError
from vssl_gallery.errors import GalleryError, InvalidFilter, InvalidName, TooLarge, UnknownGallery
from vssl_gallery.gallery import Gallery
from vssl_gallery.view import View
from vssl_server.access.galleries import Need, own_filter, require, unknown
from vssl_server.access.keys import KEY, Key
from vssl_server.engine.model import Model
from vssl_server.http.exchange import Exchange
from vssl_server.http.galleries.galleries import Galleries
from vssl_server.models.registry import ModelRegistry
from vssl_server.wire.body import read_body
from vssl_server.wire.errors import ApiError, busy, invalid_option
from vssl_server.wire.json_body import bounded, parse_object

BODY_READ = "vssl.body_read"
"""The ASGI scope's key that says that the body has been read; a route that reads it otherwise sets it too."""

RETRY_SECONDS = 5.0
"""After which a store that was away may be back."""


def key_of(request: Request) -> Key:
    """The key that the request came with."""
    key: Key = request.scope[KEY]
    return key


def galleries_of(request: Request) -> Galleries:
    """The server's galleries."""
    found: Galleries = request.app.state.galleries
    return found


async def view_of(request: Request, name: str, need: Need) -> View:
    """What the request's key may see of the gallery of that name or alias.

    Raises:
        ApiError: 404, there is none that the key may see; 403, it may not do what the request needs.
    """
    gallery = await open_gallery(request, name)
    require(key_of(request), gallery.name, need)
    return View(gallery, own_filter(key_of(request), gallery.name, gallery.spec.fields))


async def open_gallery(request: Request, name: str) -> Gallery:
    """The gallery itself, whoever asks.

    Raises:
        ApiError: 404, there is none.
    """
    try:
        return await galleries_of(request).open(name)
    except (UnknownGallery, InvalidName):  # whose messages would name others
        raise unknown(name) from None


def model_of(request: Request, gallery: Gallery) -> Model:
    """The served model whose embeddings the gallery holds.

    Raises:
        ApiError: 409, none of its encoder is served.
    """
    registry: ModelRegistry = request.app.state.registry
    spec = gallery.spec
    for model in reversed(registry.models):
        if model.manifest.encoder_id == spec.encoder_id:
            return model
    raise ApiError(
        409,
        "encoder_mismatch",
        f"gallery {gallery.name} holds embeddings of {spec.model or 'a model'} {spec.model_version}, encoder "
        f"{spec.encoder_id[:12]}, which is not served here: serve that bundle, or ask by vector or id",
    )


@asynccontextmanager
async def answering(request: Request) -> AsyncIterator[None]:
    """Around what is done for the answer: it ends at the deadline, and soon after the client has gone away.

    Raises:
        ApiError: 504, 503.
        ClientDisconnect: nobody waits any more.
    """
    exchange = Exchange(request)
    if BODY_READ not in request.scope:  # what comes after the body says that the client has gone
        await _read(exchange)
    async with exchange.answering("body"):
        yield


async def body_of(request: Request, nulls: bool = False, **most: int) -> dict[str, Any]:
    """The JSON object in the body; an empty body is an empty one.

    Args:
        request: its body has not been read.
        nulls: keep keys whose value is null.
        most: elements of each key that holds a list or an object.

    Raises:
        ApiError: 400, 408, 413, 415, 422, 429 or 503.
    """
    fields = parse_object(await _read(Exchange(request)) or b"{}", nulls=nulls)
    bounded({key: fields[key] for key in most if key in fields}, most, _too_large)
    bounded(fields, most)
    return fields


def _too_large(message: str, param: str) -> ApiError:
    return ApiError(413, TooLarge.code, message, param)


async def _read(exchange: Exchange) -> bytes:
    settings, request = exchange.settings, exchange.request
    async with exchange.receiving(administration=True):
        body = await read_body(request, min(settings.max_json_bytes, settings.max_body_bytes), None)
    request.scope[BODY_READ] = True
    return body


def filter_document(text: str | None) -> dict[str, Any] | None:
    """The filter in a query string.

    Raises:
        InvalidFilter: it is no JSON object.
    """
    if text is None:
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidFilter(f"filter: is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidFilter("filter: is not a JSON object")
    return found


async def refused(request: Request, error: VsslError) -> Response:
    """An error of a gallery as clients see it."""
    return as_api_error(error).response(request.url.path)


def as_api_error(error: VsslError) -> ApiError:
    """The status and the code that the error has."""
    if isinstance(error, GalleryError):
        if error.status == 503:
            return busy(503, error.code, str(error), RETRY_SECONDS)
        return ApiError(error.status, error.code, str(error))
    if isinstance(error, UsageError):
        return invalid_option(str(error), "body")
    return ApiError(500, "internal_error", str(error))
