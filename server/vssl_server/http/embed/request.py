"""The body of `POST /v1/embed` in its four forms → images and options."""

from dataclasses import dataclass

from starlette.requests import Request

from vssl.arrays import Pixels
from vssl_server.http.embed.options import Options, checked_options
from vssl_server.models.threads import LARGE_BODY_BYTES, in_thread_if
from vssl_server.settings import Settings
from vssl_server.wire.body import media_type, read_body, read_json
from vssl_server.wire.errors import ApiError, clipped
from vssl_server.wire.images import MAX_NAME, Encoded, check_count, most_values, too_many_images
from vssl_server.wire.json_body import parse_object, without_nulls
from vssl_server.wire.multipart import Part, parse_form
from vssl_server.wire.tensors import from_npy


@dataclass(frozen=True)
class Image:
    """One image as it was sent. `name` is the client's own, or None."""

    name: str | None
    data: Encoded


async def read_pixels(request: Request, settings: Settings) -> Pixels:
    """Read and check a body of pixels, [N, H, W, 3]. Errors as for `read_request`."""
    pixels = from_npy(await read_body(request, settings.max_body_bytes))
    check_count(len(pixels), settings, "images")
    return pixels


async def read_request(request: Request, options: Options, settings: Settings) -> tuple[list[Image], Options]:
    """Read and check a body of files; `options` are those of the query.

    Raises:
        ApiError: 400, 413, 415, 422 or 429.
        ClientDisconnect: the client went away while sending.
    """
    kind = media_type(request)
    if kind == "application/json":
        body = await read_json(request, settings.max_body_bytes)
        return await in_thread_if(len(body) > LARGE_BODY_BYTES, _from_json, body, options, settings)
    if kind == "multipart/form-data":
        body = await read_body(request, settings.max_body_bytes)
        return _from_multipart(request.headers["content-type"], body, settings), options
    if kind.startswith("image/") or kind == "application/octet-stream":
        return [Image(None, await read_body(request, settings.max_body_bytes))], options
    raise ApiError(
        415,
        "unsupported_media_type",
        f"Content-Type {clipped(kind, 100) or 'is missing'}: send image/… or application/octet-stream for one image "
        "as it is, multipart/form-data with parts named images, or application/json",
    )


def _from_multipart(content_type: str, body: bytes, settings: Settings) -> list[Image]:
    parts = parse_form(content_type, body, settings.max_images)
    if parts is None:
        raise too_many_images("more", settings, "images")
    check_count(len(parts), settings, "images")
    return [_file(index, part) for index, part in enumerate(parts)]


def _file(index: int, part: Part) -> Image:
    if part.name != "images":
        message = f"part {part.name[:MAX_NAME]!r}: parts are named images, options go into the query"
        raise ApiError(422, "unknown_part", message, param=part.name)
    if part.filename is None:
        raise ApiError(422, "not_a_file", f"images[{index}] has no filename, so it is no file", param="images")
    return Image(_name(part.filename or None, index), part.data)


def _from_json(body: bytes, query: Options, settings: Settings) -> tuple[list[Image], Options]:
    fields = parse_object(body, most_values(settings))
    images = fields.pop("images", None)
    if not isinstance(images, list):
        raise ApiError(422, "invalid_images", 'the body must be an object with a list "images"', param="images")
    check_count(len(images), settings, "images")
    options = checked_options({**query.model_dump(exclude_unset=True), **fields})
    return [_image(index, value) for index, value in enumerate(images)], options


def _image(index: int, value: object) -> Image:
    if isinstance(value, str):
        return Image(None, value)
    if isinstance(value, dict) and (given := without_nulls(value)).keys() <= {"name", "data"}:
        name, data = given.get("name"), given.get("data")
        if isinstance(data, str) and (name is None or isinstance(name, str)):
            return Image(_name(name, index), data)
    raise ApiError(
        422,
        "invalid_images",
        f'images[{index}] must be base64 or a data URI, or an object {{"name"?, "data"}} of texts',
        param=f"images[{index}]",
    )


def _name(name: str | None, index: int) -> str | None:
    if name is not None and len(name) > MAX_NAME:
        raise ApiError(422, "name_too_long", f"images[{index}]: its name is over {MAX_NAME} characters", param="images")
    return name
