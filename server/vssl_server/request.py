"""The body of `POST /v1/embed` in its three forms → images and options."""

import asyncio
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from vssl_server.decoding import Encoded
from vssl_server.errors import ApiError, invalid_options
from vssl_server.multipart import cut
from vssl_server.service import LARGE_BODY, apart
from vssl_server.settings import Settings

FieldName = Literal["embedding", "variance", "uncertainty", "percentile", "confidence", "flags"]
ALL_FIELDS: tuple[FieldName, ...] = ("embedding", "variance", "uncertainty", "percentile", "confidence", "flags")
MAX_NAME = 1024


def _split(value: Any) -> Any:  # noqa: ANN401 — whatever the request holds, pydantic judges it afterwards
    """`fields=embedding,variance` in a query is the same as `fields=embedding&fields=variance`."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return [name for part in value for name in part.split(",")]
    return value


class Options(BaseModel):
    """What to answer and how. In the JSON body or in the query; the body wins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fields: Annotated[list[FieldName], BeforeValidator(_split)] = Field(
        list(ALL_FIELDS), min_length=1, description="What to answer for each image; in a query separated by commas."
    )
    encoding: Literal["float", "base64", "float16"] = Field(
        "float",
        description="How vectors are written in JSON: numbers; base64 of little-endian float32; base64 of float16.",
    )
    model: str | None = Field(None, description="The name of a served model; by default the first one.")
    on_error: Literal["raise", "return"] = Field(
        "raise", description="One bad image fails the request (422), or gets its `error` in its place."
    )


@lru_cache(256)
def options_of(query: bytes) -> Options:
    """The options in a query string; the same ones come again and again.

    Raises:
        ApiError: 422, an option or value that is not known.
    """
    values = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    given = {name: them if name == "fields" else them[-1] for name, them in values.items()}
    try:
        return Options.model_validate(given)
    except ValidationError as error:
        raise invalid_options(error.errors()) from None


@dataclass(frozen=True)
class Image:
    """One image as it was sent. `name` is the client's own, or None."""

    name: str | None
    data: Encoded


class InMemoryParser(MultiPartParser):
    """The body is bounded already: parts needn't go through temporary files."""

    spool_max_size = 2**62


async def read_request(request: Request, options: Options, settings: Settings) -> tuple[list[Image], Options]:
    """Read and check the body; `options` are those of the query.

    Raises:
        ApiError: 400, 413, 415 or 422.
        ClientDisconnect: the client went away while sending.
    """
    kind = _kind(request)
    if kind == "application/json":
        body = await read_decompressed(request, settings.max_body_bytes)
        images, options = await apart(len(body) > LARGE_BODY, _from_json, body, options)
    elif kind == "multipart/form-data":
        images = await _from_multipart(request, settings)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        images = [Image(None, await read_decompressed(request, settings.max_body_bytes))]
    else:
        raise ApiError(
            415,
            "unsupported_media_type",
            f"Content-Type {kind or 'is missing'}: send image/… or application/octet-stream for one image as it is, "
            "multipart/form-data with parts named images, or application/json",
        )
    check_count(len(images), settings, "images")
    return images, options


async def read_json(request: Request, settings: Settings) -> bytes:
    """A whole body that says that it is JSON, not parsed yet.

    Raises:
        ApiError: 400, 413 or 415.
    """
    if _kind(request) != "application/json":
        raise ApiError(
            415, "unsupported_media_type", f"Content-Type {_kind(request) or 'is missing'}: send application/json"
        )
    return await read_decompressed(request, settings.max_body_bytes)


def check_count(images: int, settings: Settings, field: str) -> None:
    """Refuse a request of no images (ApiError 422) or of too many (413); `field` is where they stood in it."""
    if images == 0:
        raise ApiError(422, "no_images", "the request holds no images", param=field)
    if images > settings.max_images:
        raise _too_many(images, settings, field)


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _encoding(request: Request) -> str:
    encoding: str = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "deflate"):
        raise ApiError(415, "unsupported_encoding", f"Content-Encoding {encoding}: send gzip, deflate or none")
    return encoding


async def read_decompressed(request: Request, max_bytes: int) -> bytes:
    """The whole body, unpacked where it is compressed; the limit is for both forms.

    Raises:
        ApiError: 400, 413 or 415.
    """
    encoding = _encoding(request)
    body = await read_body(request, max_bytes)
    if encoding == "identity":
        return body
    return await asyncio.to_thread(_decompress, body, encoding, max_bytes)


def _decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    # Both are deflate inside; 15 + 32: the header says which. No more is unpacked than what shows that it is too long.
    stream = zlib.decompressobj(15 + 32)
    try:
        unpacked = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise ApiError(400, "invalid_encoding", f"the body is not {encoding}: {error}") from None
    if len(unpacked) > max_bytes:
        raise _too_long(max_bytes)
    if not stream.eof or stream.unused_data:
        raise ApiError(400, "invalid_encoding", f"the {encoding} body is cut short, or goes on after its end")
    return unpacked


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body; ApiError 413 as soon as it is known to be too long: a chunked one has no length to believe."""
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise _too_long(max_bytes)
    chunks: list[bytes] = []
    total, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        total += len(chunk)
        if total > max_bytes:
            raise _too_long(max_bytes)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_long(max_bytes: int) -> ApiError:
    return ApiError(413, "body_too_large", f"the body is over the limit of {max_bytes:,} bytes")


async def _from_multipart(request: Request, settings: Settings) -> list[Image]:
    body = await read_decompressed(request, settings.max_body_bytes)
    files = cut(request.headers["content-type"], body, settings.max_images)
    if files is None:
        return await _from_unusual_multipart(request, body, settings)
    return [_part(index, file.name, file.filename, file.data) for index, file in enumerate(files)]


async def _from_unusual_multipart(request: Request, body: bytes, settings: Settings) -> list[Image]:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    # One file more than allowed, so that our own message tells of too many.
    parser = InMemoryParser(request.headers, whole(), max_files=settings.max_images + 1, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise _too_many(None, settings) from None
        raise ApiError(400, "invalid_multipart", f"the multipart body can't be read: {error.message}") from None
    try:
        return [
            _part(index, name, part.filename, await part.read())
            if isinstance(part, UploadFile)
            else _part(index, name, None, b"")
            for index, (name, part) in enumerate(form.multi_items())
        ]
    finally:
        await form.close()


def _part(index: int, name: str, filename: str | None, data: bytes) -> Image:
    if name != "images":
        raise ApiError(
            422, "unknown_part", f"part {name!r}: parts are named images, options go into the query", param=name
        )
    if filename is None:
        raise ApiError(422, "not_a_file", f"images[{index}] has no filename, so it is no file", param="images")
    return Image(_name(filename or None, index), data)


def _from_json(body: bytes, query: Options) -> tuple[list[Image], Options]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "invalid_json", f"the body is not valid JSON: {error}") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("images"), list):
        raise ApiError(422, "invalid_images", 'the body must be an object with a list "images"', param="images")
    images = [_image(index, value) for index, value in enumerate(fields.pop("images"))]
    try:
        return images, Options.model_validate({**query.model_dump(exclude_unset=True), **fields})
    except ValidationError as error:
        raise invalid_options(error.errors()) from None


def _image(index: int, value: object) -> Image:
    if isinstance(value, str):
        return Image(None, value)
    if isinstance(value, dict) and value.keys() <= {"name", "data"}:
        name, data = value.get("name"), value.get("data")
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


def _too_many(images: int | None, settings: Settings, field: str = "images") -> ApiError:
    count = "more" if images is None else f"{images}"
    return ApiError(
        413,
        "too_many_images",
        f"the request holds {count} images, over the limit of {settings.max_images}; send several requests",
        param=field,
    )
