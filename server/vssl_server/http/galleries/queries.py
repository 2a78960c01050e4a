"""What is asked of a gallery: images, vectors or rows, from a request's body to `Queries`."""

import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import numpy as np
import orjson
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from starlette.requests import Request

from vssl.arrays import Float32s, Pixels
from vssl.images.decoding import ImageError, Limits, load_rgb, open_guarded, to_pixels
from vssl.search.nearest import normalised
from vssl.uncertainty.calibrated import FLAGS
from vssl.uncertainty.kinds import resembled
from vssl_gallery.queries import Queries, combined
from vssl_gallery.view import View
from vssl_server.engine.model import Model
from vssl_server.engine.pipeline import EmbedResult
from vssl_server.http.calibration import calibrated
from vssl_server.http.embed.options import Options
from vssl_server.http.embed.request import read_request
from vssl_server.http.exchange import Exchange
from vssl_server.http.galleries.galleries import Galleries
from vssl_server.http.galleries.row_form import row_as_json
from vssl_server.http.galleries.viewed import BODY_READ, model_of
from vssl_server.settings import Settings
from vssl_server.wire.body import media_type, read_json
from vssl_server.wire.errors import ApiError, invalid_option
from vssl_server.wire.images import Encoded, check_count, from_base64, most_values
from vssl_server.wire.json_body import bounded, check, parse_object

WAYS = ("image", "vector", "id", "images", "vectors", "ids", "positive")
JUDGED = ("uncertainty", "percentile", "confidence", "familiarity")


Vector = Annotated[list[Any], WithJsonSchema({"type": "array", "items": {"type": "number"}})]
"""Its numbers are checked by `_unit`: a model would make an error for each wrong one."""


class One(BaseModel):
    """An image, a vector or a row."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str | None = None
    vector: Vector | None = None
    id: str | None = None


class Query(BaseModel):
    """What is asked: exactly one of `image`, `vector`, `id`, `images`, `vectors`, `ids`, `positive`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str | None = Field(None, description="Base64, or a data URI")
    vector: Vector | None = None
    id: str | None = Field(None, description="A row of the gallery; it finds itself too")
    images: list[str] | None = None
    vectors: list[Vector] | None = None
    ids: list[str] | None = None
    positive: list[One] | None = Field(None, description="One query: near these and far from `negative`")
    negative: list[One] | None = None
    crop: tuple[float, float, float, float] | None = Field(
        None, description="Left, top, right, bottom in pixels of the upright `image`, which is cut so"
    )
    uncertainty: float | None = Field(None, description="Of `vector`, if it is known")


@dataclass
class Asked:
    """Queries, what is known of each image (`QueryInfo`), and the milliseconds that they took."""

    queries: Queries
    about: list[dict[str, Any]]
    timing: dict[str, float] = field(default_factory=dict)


async def read_query(
    request: Request, exchange: Exchange, kind: type[Query], dimension: int
) -> tuple[Query, list[Encoded]]:
    """The body in its three forms: the query, and its image files where the body is or has some.

    Raises:
        ApiError: 400, 413, 415, 422 or 429.
    """
    settings = exchange.settings
    if media_type(request) != "application/json":
        images, _ = await read_request(request, Options(), settings)
        request.scope[BODY_READ] = True
        found = _checked(kind, _from_text(request.query_params))
        _check_beside(found, len(images) == 1)
        return found, [image.data for image in images]
    most = most_values(settings) + settings.max_images * dimension
    fields = parse_object(await read_json(request, settings.max_body_bytes), most)
    request.scope[BODY_READ] = True
    _check_lengths(fields, settings, dimension)
    found = _checked(kind, fields)
    given = [name for name in WAYS if getattr(found, name) is not None]
    if len(given) != 1:
        raise invalid_option(f"name exactly one of {', '.join(WAYS)}, not {', '.join(given) or 'none'}", "body")
    if found.negative is not None and found.positive is None:
        raise invalid_option("negative: comes with positive", "negative")
    for one in (*(found.positive or ()), *(found.negative or ())):
        if sum(value is not None for value in (one.image, one.vector, one.id)) != 1:
            raise invalid_option("positive and negative: each holds exactly one of image, vector, id", "positive")
    _check_beside(found, found.image is not None)
    return found, [found.image] if found.image is not None else list(found.images or ())


def _check_beside(query: Query, one_image: bool) -> None:
    if query.crop is not None and not one_image:
        raise invalid_option("crop: comes with one image alone", "crop")
    if query.uncertainty is not None and query.vector is None:
        raise invalid_option("uncertainty: comes with vector alone", "uncertainty")


def _checked(kind: type[Query], fields: dict[str, Any]) -> Query:
    if isinstance(fields.get("crop"), list):
        fields["crop"] = tuple(fields["crop"])  # JSON has none
    return check(kind, fields)


def _check_lengths(fields: Mapping[str, Any], settings: Settings, dimension: int) -> None:
    """Bound the lists of a body that no model has seen."""
    several = ("images", "vectors", "ids", "positive", "negative")
    for name in several:
        if isinstance(fields.get(name), list):
            check_count(len(fields[name]), settings, name)
    bounded(fields, {**dict.fromkeys(several, settings.max_images), "vector": dimension})
    ones = [one for name in ("positive", "negative") for one in fields.get(name) or () if isinstance(one, dict)]
    for one in ones:
        bounded(one, {"vector": dimension})
    vectors = fields.get("vectors")
    given = [*(vectors if isinstance(vectors, list) else ()), *(one.get("vector") for one in (fields, *ones))]
    for vector in given:
        if vector is not None and (not isinstance(vector, list) or len(vector) != dimension):
            raise invalid_option(f"a vector is not a list of {dimension} numbers, the gallery's dimension", "vector")


def _from_text(given: Mapping[str, str]) -> dict[str, Any]:
    """Options from a query string, with the types that JSON would have."""
    found: dict[str, Any] = {}
    for name, text in given.items():
        if name in WAYS:
            raise invalid_option(f"{name}: the body is the image; send JSON to ask by {name}", name)
        try:
            found[name] = text.split(",") if name == "columns" else orjson.loads(text)
        except orjson.JSONDecodeError:
            found[name] = text
    return found


async def asked(
    request: Request, exchange: Exchange, galleries: Galleries, view: View, query: Query, files: Sequence[Encoded]
) -> Asked:
    """Embed, read or combine what was asked; inside of the request's deadline.

    Raises:
        ApiError: 409, no model of the gallery's encoder is served here; as embedding does.
        GalleryError: an id that is not there, or the store's.
    """
    if files:
        model = model_of(request, view.gallery)
        if query.crop is not None:
            return await _of_crop(model, exchange.settings, galleries, files[0], query.crop)
        return _of_images(model, files, await model.embed(files, partial=False))
    if query.positive is not None:
        positive = await _mixed(request, galleries, view, query.positive)
        negative = await _mixed(request, galleries, view, query.negative) if query.negative else None
        return Asked(Queries(combined(positive, negative)), [_nothing()])
    names = [query.id] if query.id is not None else query.ids
    if names is not None:
        return await galleries.run("rows", partial(_of_rows, view, names))
    given = _unit([query.vector] if query.vector is not None else query.vectors or [])
    known = None
    if query.uncertainty is not None and query.vector is not None:
        known = np.array([query.uncertainty], np.float32)
    about = [_nothing() | {"uncertainty": query.uncertainty} for _ in given]
    return Asked(Queries(given, known), about)


async def _mixed(request: Request, galleries: Galleries, view: View, ones: Sequence[One]) -> Float32s:
    """The vectors [N, D] of images, vectors and rows, in no order."""
    parts: list[Float32s] = []
    if given := [one.vector for one in ones if one.vector is not None]:
        parts.append(_unit(given))
    if names := [one.id for one in ones if one.id is not None]:
        parts.append((await galleries.run("rows", partial(view.queries, names))).embedding)
    if images := [one.image for one in ones if one.image is not None]:
        result = await model_of(request, view.gallery).embed(images, partial=False)
        parts.append(result.embeddings.embedding)
    return np.concatenate(parts)


async def _of_crop(
    model: Model, settings: Settings, galleries: Galleries, file: Encoded, crop: Sequence[float]
) -> Asked:
    preprocessing = model.manifest.preprocessing

    def cut() -> Pixels:
        data = _bytes(file)
        image = load_rgb(open_guarded(data, Limits(settings.max_body_bytes, settings.max_pixels)))
        left, top, right, bottom = (round(value) for value in crop)
        inside = 0 <= left < right <= image.width and 0 <= top < bottom <= image.height
        if not inside:
            raise invalid_option(f"crop: is not inside of {image.width} × {image.height} pixels", "crop")
        # The part alone: pillow would hand the file's metadata on, and with them the turn that is done already.
        return to_pixels(Image.fromarray(np.asarray(image.crop((left, top, right, bottom)))), preprocessing)

    try:
        pixels = await galleries.cut(cut)
    except (ImageError, binascii.Error) as error:
        raise ApiError(422, "invalid_image", f"image: {error}", "image") from None
    return _of_images(model, [file], await model.embed_pixels(pixels[None]))


def _of_images(model: Model, files: Sequence[Encoded], result: EmbedResult) -> Asked:
    found = result.embeddings
    judged = calibrated(model, found)
    flags = judged["flags"]
    calibration = model.manifest.calibration
    degraded = [place for place, one in enumerate(flags or ()) if one["degraded"]]
    kinds = resembled(calibration, found.variance[degraded]) if calibration is not None and degraded else []
    resembles = dict(zip(degraded, kinds, strict=True))
    about = [
        {
            "uncertainty": found.uncertainty[place],
            **{name: None if column is None else column[place] for name, column in judged.items()},
            "resembles": None if (kind := resembles.get(place)) is None else {"kind": kind[0], "accuracy": kind[1]},
        }
        for place in range(len(found))
    ]
    marked = {
        name: None if flags is None else np.array([one[name] for one in flags], np.bool_)
        for name in ("ood", "unfamiliar")
    }
    names = [hashlib.sha256(_bytes(file)).hexdigest() for file in files]
    queries = Queries(found.embedding, found.uncertainty, found.variance, marked["ood"], marked["unfamiliar"], names)
    timing = {"queue_ms": 1000 * result.queue_seconds, "inference_ms": 1000 * result.inference_seconds}
    return Asked(queries, about, timing)


def _of_rows(view: View, names: Sequence[str]) -> Asked:
    queries = view.queries(names)
    known = {row["id"]: row for row in view.rows(names, [*JUDGED, *FLAGS]).to_pylist()}
    about = []
    for name in names:
        row = row_as_json(known[name], view.gallery.spec)
        about.append({key: row[key] for key in (*JUDGED, "flags")} | {"resembles": None})
    return Asked(queries, about)


def _nothing() -> dict[str, Any]:
    return dict.fromkeys((*JUDGED, "flags", "resembles"))


def _unit(given: Sequence[Sequence[Any]]) -> Float32s:
    if any(type(value) not in (int, float) for vector in given for value in vector):
        raise invalid_option("a vector holds something that is no number", "vector")
    found = np.array(given, np.float64)
    if not np.isfinite(found).all() or (np.linalg.norm(found, axis=1) < 1e-12).any():
        raise invalid_option("a vector is not finite, or has no length", "vector")
    return normalised(found).astype(np.float32)


def _bytes(file: Encoded) -> bytes:
    return from_base64(file) if isinstance(file, str) else bytes(file)
