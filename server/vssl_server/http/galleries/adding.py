"""Images, and rows that are embedded already, into a gallery."""

import binascii
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vssl.arrays import Float32s, Floats, Mask
from vssl.uncertainty.calibrated import FLAGS, NUMBERS
from vssl_gallery.errors import InvalidRows
from vssl_gallery.images import Described, image_rows, picture
from vssl_gallery.store.contract import Spec, Written
from vssl_gallery.view import View
from vssl_server.decoding.request import Refusal
from vssl_server.engine.pipeline import EmbedResult
from vssl_server.http.calibration import calibrated
from vssl_server.http.embed.options import Options
from vssl_server.http.embed.request import Image, read_request
from vssl_server.http.exchange import Exchange, json_response
from vssl_server.http.galleries import row_schema
from vssl_server.http.galleries.viewed import BODY_READ, galleries_of, model_of, view_of
from vssl_server.models.threads import LARGE_BODY_BYTES, in_thread_if
from vssl_server.settings import Settings
from vssl_server.wire.body import media_type, read_body, read_json
from vssl_server.wire.errors import ApiError, clipped, invalid_option
from vssl_server.wire.images import MAX_NAME, check_count, from_base64, most_values, too_many_images
from vssl_server.wire.json_body import bounded, check, parse_object
from vssl_server.wire.multipart import parse_form

ARROW = "application/vnd.apache.arrow.stream"
MAX_FIELDS = 64
MAX_META_KEYS = 4096


class Said(BaseModel):
    """What is known of an image beside its pixels."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str | None = Field(None, description="By default the name, or the SHA-256 where there is none")
    label: str | None = None
    meta: Any = Field(None, description="Any JSON, up to 64 kB")
    fields: dict[str, Any] = Field({}, description="The gallery's own fields")


class Item(Said):
    """An image of a JSON body."""

    name: str | None = Field(None, max_length=MAX_NAME)
    data: str = Field(description="Base64, or a data URI")


class AddOptions(BaseModel):
    """Beside the images."""

    model_config = ConfigDict(extra="forbid")

    on_error: str = Field("raise", pattern="^(raise|return)$")


@dataclass(frozen=True)
class Ask:
    """Images, what is said of each, and whether good ones are to be kept beside bad ones."""

    images: list[Image]
    said: list[Said]
    partial: bool


@dataclass(frozen=True)
class Judged:
    """What the model says of some images; `vssl_gallery.images.Numbers`."""

    embedding: Float32s
    variance: Float32s
    uncertainty: Float32s
    percentile: Floats | None
    confidence: Floats | None
    familiarity: Floats | None
    flags: Mapping[str, Mask] | None


async def add_images(request: Request, name: str) -> Response:
    """Embed images and put them into the gallery, each in place of the one that has its id. They are written when this
    answers. Searches and other requests go before it in the queue.
    """
    exchange, galleries = Exchange(request), galleries_of(request)
    async with exchange.waiting("gallery"):
        view = await view_of(request, name, "write")
    async with exchange.receiving():
        ask = await _read(request, exchange.settings)
    request.scope[BODY_READ] = True
    model = model_of(request, view.gallery)
    async with exchange.answering("images", [image.name for image in ask.images]):
        files = [image.data for image in ask.images]
        result = await model.embed(files, partial=ask.partial, behind=True)
        told = calibrated(model, result.embeddings)
        rows, names, refused = await galleries.draw(
            partial(_drawn, view.gallery.spec, ask, result, told, model.precision)
        )
        if rows is None:
            version = await galleries.run("version", view.gallery.store.version)
        else:
            version = (await galleries.run("upsert", partial(view.add, rows))).version
    data, row = [], 0
    for index, image in enumerate(ask.images):
        one: dict[str, Any] = {"index": index, "id": names[index], "name": image.name}
        if index in refused:
            one["error"] = {"type": refused[index].type, "message": refused[index].message}
        else:
            one["uncertainty"] = result.embeddings.uncertainty[row]
            one |= {key: None if column is None else column[row] for key, column in told.items()}
        row += index not in result.refused
        data.append(one)
    return json_response({"version": version, "data": data})


async def add_rows(request: Request, name: str) -> Response:
    """Put rows that were embedded elsewhere by the gallery's encoder, as an Arrow stream."""
    exchange, galleries = Exchange(request), galleries_of(request)
    async with exchange.waiting("gallery"):
        view = await view_of(request, name, "write")
    async with exchange.receiving(administration=True):
        if media_type(request) != ARROW:
            raise ApiError(415, "unsupported_media_type", f"Content-Type: send {ARROW}")
        body = await read_body(request, exchange.settings.max_body_bytes)
    request.scope[BODY_READ] = True
    async with exchange.answering("body"):
        written = await galleries.run("upsert", partial(put_rows, view, body))
    return json_response({"version": written.version, "rows": written.rows})


async def _read(request: Request, settings: Settings) -> Ask:
    kind = media_type(request)
    if kind == "application/json":
        body = await read_json(request, settings.max_body_bytes)
        return await in_thread_if(len(body) > LARGE_BODY_BYTES, _from_json, body, settings)
    given = dict(request.query_params)
    options = check(AddOptions, {key: given.pop(key) for key in ("on_error",) if key in given})
    kept = options.on_error == "return"
    if kind == "multipart/form-data":
        if given:
            raise invalid_option(f"{min(given)}: say it in the part rows", min(given))
        return _from_form(
            request.headers["content-type"], await read_body(request, settings.max_body_bytes), kept, settings
        )
    images, _ = await read_request(request, Options(), settings)
    return Ask(images, [check(Said, given)], kept)


def _from_json(body: bytes, settings: Settings) -> Ask:
    fields = parse_object(body, most_values(settings))
    images = fields.pop("images", None)
    if not isinstance(images, list):
        raise ApiError(422, "invalid_images", 'the body must be an object with a list "images"', param="images")
    check_count(len(images), settings, "images")
    bounded(fields)
    options = check(AddOptions, fields)
    items = [_item(index, one) for index, one in enumerate(images)]
    return Ask([Image(item.name, item.data) for item in items], list(items), options.on_error == "return")


def _item(index: int, one: object) -> Item:
    if isinstance(one, str):
        return Item(data=one)
    return check(Item, _bounded(f"images[{index}]", one))


def _bounded(where: str, one: object) -> dict[str, Any]:
    if not isinstance(one, dict):
        raise ApiError(422, "invalid_images", f"{where} must be an object, or base64 alone", param=where)
    found = {key: value for key, value in one.items() if value is not None}
    bounded(found, {"fields": MAX_FIELDS, "meta": MAX_META_KEYS})
    return found


def _from_form(content_type: str, body: bytes, kept: bool, settings: Settings) -> Ask:
    parts = parse_form(content_type, body, settings.max_images + 1)
    if parts is None:
        raise too_many_images("more", settings, "images")
    texts = [part.data for part in parts if part.name == "rows"]
    files = [part for part in parts if part.name != "rows"]
    wrong = next((part for part in files if part.name != "images" or part.filename is None), None)
    if wrong is not None or len(texts) > 1:
        name = "rows" if wrong is None else wrong.name[:MAX_NAME]
        raise ApiError(422, "unknown_part", f"part {name!r}: files are parts images, and one part rows has JSON", name)
    check_count(len(files), settings, "images")
    images = [Image(part.filename or None, part.data) for part in files]
    if any(image.name is not None and len(image.name) > MAX_NAME for image in images):
        raise ApiError(422, "name_too_long", f"a name is over {MAX_NAME} characters", param="images")
    return Ask(images, _rows_of(texts[0], len(files), settings) if texts else [Said()] * len(files), kept)


def _rows_of(text: bytes, images: int, settings: Settings) -> list[Said]:
    if len(text) > settings.max_json_bytes:
        raise ApiError(413, "body_too_large", f"rows: over {settings.max_json_bytes:,} bytes", "rows")
    rows = parse_object(b'{"rows":' + text + b"}", most_values(settings)).get("rows")
    if not isinstance(rows, list) or len(rows) != images:
        raise invalid_option(f"rows: is not a list with an object for each of {images} images", "rows")
    return [check(Said, _bounded(f"rows[{index}]", one or {})) for index, one in enumerate(rows)]


def _drawn(
    spec: Spec, ask: Ask, result: EmbedResult, told: Mapping[str, Any], precision: str | None
) -> tuple[pa.Table | None, list[str], dict[int, Refusal]]:
    """The rows of those that can be rows, with thumbnails; the id of each image, and why others are none."""
    refused = dict(result.refused)
    names = [_name(image, said) for image, said in zip(ask.images, ask.said, strict=True)]
    images: list[Described] = []
    files: list[bytes] = []
    rows: list[int] = []
    good = (index for index in range(len(names)) if index not in result.refused)
    for row, index in enumerate(good):
        image, said = ask.images[index], ask.said[index]
        data = from_base64(image.data) if isinstance(image.data, str) else bytes(image.data)
        one = Described.of(data, names[index], said.label, said.meta, said.fields)
        reason = one.unfit(spec)
        if reason is None:
            images.append(one)
            files.append(data)
            rows.append(row)
        elif ask.partial:
            refused[index] = Refusal("invalid_row", reason)
        else:
            raise InvalidRows(f"images[{index}]: {reason}")
    if not images:
        return None, names, refused
    pictures = [picture(data, spec.keep_thumbnails) for data in files]
    return image_rows(images, pictures, _chosen(result, told, rows), spec, precision), names, refused


def _name(image: Image, said: Said) -> str:
    if said.id is not None or image.name is not None:
        return said.id if said.id is not None else str(image.name)
    try:
        data = from_base64(image.data) if isinstance(image.data, str) else image.data
    except binascii.Error:
        return ""
    return hashlib.sha256(data).hexdigest()


def _chosen(result: EmbedResult, told: Mapping[str, Any], rows: Sequence[int]) -> Judged:
    found = result.embeddings
    flags = told["flags"]
    numbers = {name: None if told[name] is None else told[name][rows] for name in NUMBERS}
    marked = None if flags is None else {name: np.array([flags[row][name] for row in rows], np.bool_) for name in FLAGS}
    return Judged(
        embedding=found.embedding[rows],
        variance=found.variance[rows],
        uncertainty=found.uncertainty[rows],
        flags=marked,
        **numbers,
    )


def put_rows(view: View, body: bytes) -> Written:
    """Write the rows of an Arrow stream. Errors as `View.add`.

    Raises:
        InvalidRows: it is no whole stream.
    """
    try:
        with pa.ipc.open_stream(io.BytesIO(body)) as stream:
            rows = stream.read_all()
            rows.validate(full=True)
            str(rows.schema)  # reads every name: one that is no UTF-8 fails here
    except (pa.ArrowException, ValueError, OSError, EOFError) as error:
        raise InvalidRows(f"the body is not a whole Arrow stream: {clipped(str(error), 300)}") from None
    return view.add(rows)


def add_routes(app: FastAPI) -> None:
    """Put the routes on the application."""
    front = "/v1/galleries/{name}"
    app.post(f"{front}/images", **row_schema.ADD)(add_images)
    app.post(f"{front}/rows", **row_schema.ADD_ROWS)(add_rows)
